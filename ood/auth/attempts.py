"""Limits failed sign-in attempts."""

import threading
import time
from typing import NamedTuple

WINDOW = 600.0  # seconds
MAX_BY_USER_AND_ADDRESS = 5
MAX_BY_USER = 20  # from all addresses: a few attempts by somebody else do not lock a user out
MAX_BY_ADDRESS = 60  # a remote desktop is one address for many users


class _Attempt(NamedTuple):
    user: str
    address: str
    began: float  # monotonic


class Attempts:
    """Attempts in the last `WINDOW` that failed or are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards `_recent`
        self._recent: list[_Attempt] = []

    def begin(self, user: str, address: str) -> float:
        """Count an attempt and return 0, or return the seconds to wait after too many."""
        now = time.monotonic()
        with self._lock:
            self._recent = [each for each in self._recent if now - each.began < WINDOW]
            by_user = [each for each in self._recent if each.user == user]
            by_address = [each for each in self._recent if each.address == address]
            by_both = [each for each in by_user if each.address == address]
            limits = (
                (by_both, MAX_BY_USER_AND_ADDRESS),
                (by_user, MAX_BY_USER),
                (by_address, MAX_BY_ADDRESS),
            )
            waits = [
                WINDOW - (now - found[-most].began) for found, most in limits if len(found) >= most
            ]
            if not waits:
                self._recent.append(_Attempt(user, address, now))
            return max(waits, default=0.0)

    def did_not_fail(self, user: str, address: str, forgiven: bool) -> None:
        """Remove the last attempt. `forgiven`, after a correct password, also removes the user's
        earlier attempts from this address."""
        with self._lock:
            theirs = [each for each in self._recent if each[:2] == (user, address)]
            for attempt in theirs if forgiven else theirs[-1:]:
                self._recent.remove(attempt)
