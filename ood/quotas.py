"""Limits on what runs at the same time. A streaming request holds one of the portal's threads, and
one of the few channels to the user's host, for as long as its browser takes."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


@dataclass(eq=False)
class _Waiting:
    user: str
    dropped: bool = False


class FairQuota:
    """`total` slots, which users share, and `each` for one key of a user, such as a service.

    The more slots are taken, the fewer of the others a user or a key may take, so some always
    remain for other users. A request that waits for a slot also holds a thread. Slots and waiting
    requests together are at most `threads`: beyond that, the newest waiting request of the user
    with the most threads is refused.
    """

    def __init__(self, each: int, total: int, threads: int) -> None:
        self._each = each
        self._total = total
        self._threads = threads
        # Guards the rest. Notified when a slot becomes free or somebody has to stop waiting.
        self._changed = threading.Condition()
        self._taken: Counter[str] = Counter()  # by key
        self._of_user: Counter[str] = Counter()  # slots
        self._waiting: list[_Waiting] = []  # the longest first

    @contextmanager
    def hold(self, user: str, key: str, patience: float, problem: Busy) -> Iterator[None]:
        """Hold a slot during a `with` block. Raises `problem` if there is none in time."""
        with self._changed:
            mine = _Waiting(user)
            self._waiting.append(mine)
            try:
                if not self._is_free(user, key):
                    self._limit_waiting()
                    self._changed.wait_for(
                        lambda: mine.dropped or self._is_free(user, key), patience
                    )
                if mine.dropped or not self._is_free(user, key):
                    raise problem
            finally:
                self._waiting.remove(mine)
            self._taken[key] += 1
            self._of_user[user] += 1
            self._limit_waiting()
        try:
            yield
        finally:
            with self._changed:
                for taken, name in ((self._taken, key), (self._of_user, user)):
                    taken[name] -= 1
                    taken += Counter()  # drops the keys at zero
                self._changed.notify_all()

    def _is_free(self, user: str, key: str) -> bool:
        left = self._total - self._of_user.total() - self._of_user[user]
        return self._taken[key] < min(self._each, left)

    def _limit_waiting(self) -> None:
        waiting = [one for one in self._waiting if not one.dropped]
        while waiting and self._of_user.total() + len(waiting) > self._threads:
            threads = self._of_user + Counter(one.user for one in waiting)
            most = max(waiting, key=lambda one: threads[one.user]).user
            newest = [one for one in waiting if one.user == most][-1]
            newest.dropped = True
            waiting.remove(newest)
            self._changed.notify_all()
