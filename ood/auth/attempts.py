"""How often somebody may try to sign in."""

from __future__ import annotations

import threading
import time

WINDOW = 600.0  # seconds
MOST_FOR_USER_FROM_ADDRESS = 5
MOST_FOR_USER = 20
"""From wherever: a few tries of somebody else, elsewhere, do not lock a user out."""
MOST_FROM_ADDRESS = 60  # a remote desktop is one address for many users

ANYWHERE = "anywhere"
ANYBODY = "*"


class Attempts:
    """Attempts of the last `WINDOW` that failed or are under way, by user and address."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[tuple[str, str], list[float]] = {}

    def begin(self, user: str, address: str) -> float:
        """Count an attempt; return 0. Or the seconds to wait, when there were too many."""
        now = time.monotonic()
        limits = {
            (user, address): MOST_FOR_USER_FROM_ADDRESS,
            (user, ANYWHERE): MOST_FOR_USER,
            (ANYBODY, address): MOST_FROM_ADDRESS,
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
        """The last attempt did not fail. When the user showed who they are, their earlier ones
        from this address are `forgiven`."""
        with self._lock:
            count = len(self._times.get((user, address), ())) if forgiven else 1
            for key in ((user, address), (user, ANYWHERE), (ANYBODY, address)):
                times = self._times.get(key, [])
                del times[max(0, len(times) - count) :]
