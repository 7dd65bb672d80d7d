"""Limits on what runs at the same time. A streaming request holds one of the portal's threads, and
one of the few channels to the user's host, for as long as its browser takes."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ood.errors import Busy

TOO_MANY = "Too many transfers are running. Try again in a moment."


class Quota:
    """`each` slots for one key, such as a user, and `total` slots for all keys together."""

    def __init__(self, each: int, total: int) -> None:
        self._each = each
        self._total = total
        # Guards _taken. Notified when a slot becomes free.
        self._changed = threading.Condition()
        self._taken: Counter[str] = Counter()

    def take(self, key: str, patience: float = 0.0, problem: Busy | None = None) -> None:
        """Take a slot, which the caller must give back. Raises `problem`, or a general `Busy`, if
        none is free within `patience` seconds."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._taken[key] < self._each and self._taken.total() < self._total,
                patience,
            ):
                raise problem or Busy(TOO_MANY)
            self._taken[key] += 1

    def give_back(self, key: str) -> None:
        with self._changed:
            self._taken[key] -= 1
            self._taken += Counter()  # drops the keys at zero
            self._changed.notify_all()

    @contextmanager
    def hold(self, key: str, patience: float = 0.0, problem: Busy | None = None) -> Iterator[None]:
        """Hold a slot during a `with` block. Raises `Busy` as `take` does."""
        self.take(key, patience, problem)
        try:
            yield
        finally:
            self.give_back(key)
