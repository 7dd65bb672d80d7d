"""Limits on what runs at the same time. A streaming request holds one of the portal's threads, and
one of the few channels to the user's host, for as long as its browser takes."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ood.errors import Busy

NO_LIMIT = 2**31
TOO_MANY = "Too many transfers are running. Try again in a moment."


class Quota:
    """`each` slots for one key, such as a user, and `total` slots for all keys together. At most
    `waiting` threads wait for the slots of one key, because they hold a thread as well."""

    def __init__(self, each: int, total: int, waiting: int = NO_LIMIT) -> None:
        self._each = each
        self._total = total
        self._may_wait = waiting
        # Guards _taken and _waiting. Notified when a slot becomes free.
        self._changed = threading.Condition()
        self._taken: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()

    def take(self, key: str, patience: float = 0.0, problem: Busy | None = None) -> None:
        """Take a slot, which the caller must give back. Raises `problem`, or a general `Busy`, if
        none is free within `patience` seconds."""
        with self._changed:
            if self._waiting[key] >= self._may_wait:
                patience = 0.0
            self._waiting[key] += 1
            try:
                if not self._changed.wait_for(
                    lambda: self._taken[key] < self._each and self._taken.total() < self._total,
                    patience,
                ):
                    raise problem or Busy(TOO_MANY)
            finally:
                self._waiting[key] -= 1
                self._waiting += Counter()  # drops the keys at zero
            self._taken[key] += 1

    def give_back(self, key: str) -> None:
        with self._changed:
            self._taken[key] -= 1
            self._taken += Counter()  # drops the keys at zero
            self._changed.notify_all()

    def waiting(self, key: str) -> int:
        """How many threads wait for a slot of this key."""
        with self._changed:
            return self._waiting[key]

    @contextmanager
    def hold(self, key: str, patience: float = 0.0, problem: Busy | None = None) -> Iterator[None]:
        """Hold a slot during a `with` block. Raises `Busy` as `take` does."""
        self.take(key, patience, problem)
        try:
            yield
        finally:
            self.give_back(key)
