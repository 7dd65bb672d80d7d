"""Limits failed sign-in attempts."""

import threading
import time

WINDOW = 600.0  # seconds
MAX_BY_USER_AND_ADDRESS = 5
MAX_BY_USER = 20
"""From all addresses: a few attempts by somebody else do not lock a user out."""
MAX_BY_ADDRESS = 60  # a remote desktop is one address for many users

ANYWHERE = "anywhere"
ANYBODY = "*"


class Attempts:
    """Attempts in the last `WINDOW` that failed or are under way, by user and address."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards `_times`
        self._times: dict[tuple[str, str], list[float]] = {}

    def begin(self, user: str, address: str) -> float:
        """Count an attempt and return 0, or return the seconds to wait after too many."""
        now = time.monotonic()
        limits = {
            (user, address): MAX_BY_USER_AND_ADDRESS,
            (user, ANYWHERE): MAX_BY_USER,
            (ANYBODY, address): MAX_BY_ADDRESS,
        }
        with self._lock:
            recent = {
                key: [begun for begun in times if now - begun < WINDOW]
                for key, times in self._times.items()
            }
            self._times = {key: times for key, times in recent.items() if times}
            waits = [
                WINDOW - (now - self._times[key][-most])
                for key, most in limits.items()
                if len(self._times.get(key, ())) >= most
            ]
            if waits:
                return max(waits)
            for key in limits:
                self._times.setdefault(key, []).append(now)
            return 0.0

    def did_not_fail(self, user: str, address: str, forgiven: bool) -> None:
        """Remove the last attempt. `forgiven`, after a correct password, also removes the user's
        earlier attempts from this address."""
        with self._lock:
            count = len(self._times.get((user, address), ())) if forgiven else 1
            for key in ((user, address), (user, ANYWHERE), (ANYBODY, address)):
                times = self._times.get(key, [])
                del times[max(0, len(times) - count) :]
