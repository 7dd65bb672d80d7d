"""How much goes on at once. Each request that streams holds a thread of the portal's for as long as
its browser is slow, and one of the few channels to the user's host."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ood.errors import Busy

EACH = 3
ALL = 12


class Turns:
    """Uploads and archives of all users: `EACH` for one user, `ALL` together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, user: str) -> None:
        """Raises `Busy`. The caller gives it back."""
        with self._lock:
            if self._taken[user] >= EACH or self._taken.total() >= ALL:
                raise Busy("Too much is sent to and fro at this moment. Try again in a minute.")
            self._taken[user] += 1

    def give_back(self, user: str) -> None:
        with self._lock:
            self._taken[user] -= 1
            if not self._taken[user]:
                del self._taken[user]

    @contextmanager
    def turn(self, user: str) -> Iterator[None]:
        self.take(user)
        try:
            yield
        finally:
            self.give_back(user)
