"""Sign-ins: the server's side of a browser's session.

The browser's cookie holds a random id; everything else is here, in memory, and gone at sign-out,
at expiry and when the portal restarts.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask_login import UserMixin

IDLE_SECONDS = 8 * 3600.0
ABSOLUTE_SECONDS = 24 * 3600.0


@dataclass
class SignIn(UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    """One browser signed in as `user`. Times are monotonic seconds."""

    id: str
    user: str
    since: float
    seen: float

    @property
    def expired(self) -> bool:
        now = time.monotonic()
        return now - self.seen > IDLE_SECONDS or now - self.since > ABSOLUTE_SECONDS


class SignIns:
    """All sign-ins. `on_last_sign_out` is called with a user who has none left."""

    def __init__(self, on_last_sign_out: Callable[[str], None]) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, SignIn] = {}
        self._on_last_sign_out = on_last_sign_out

    def add(self, user: str) -> SignIn:
        now = time.monotonic()
        sign_in = SignIn(secrets.token_urlsafe(32), user, now, now)
        with self._lock:
            self._by_id[sign_in.id] = sign_in
        self._remove(lambda other: other.expired)
        return sign_in

    def find(self, id: str) -> SignIn | None:
        """The sign-in a cookie names, if it is still good."""
        with self._lock:
            found = self._by_id.get(id)
        if found is None:
            return None
        if found.expired:
            self.remove(id)
            return None
        found.seen = time.monotonic()
        return found

    def alive(self, id: str) -> bool:
        """Whether a sign-in is still good, without taking that for a sign of life."""
        with self._lock:
            found = self._by_id.get(id)
        return found is not None and not found.expired

    def remove(self, id: str) -> None:
        self._remove(lambda sign_in: sign_in.id == id)

    def _remove(self, which: Callable[[SignIn], bool]) -> None:
        with self._lock:
            gone = [sign_in for sign_in in self._by_id.values() if which(sign_in)]
            for sign_in in gone:
                del self._by_id[sign_in.id]
            users = {sign_in.user for sign_in in self._by_id.values()}
        for user in {sign_in.user for sign_in in gone} - users:
            self._on_last_sign_out(user)


class OneTimeToken:
    """The embedded default's way in: an address printed in the terminal that works once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: str | None = None

    def new(self) -> str:
        """Return a token; the one before stops working."""
        with self._lock:
            self._token = secrets.token_urlsafe(24)
            return self._token

    def use(self, given: str) -> bool:
        """Whether `given` is the token; if so, it stops working."""
        with self._lock:
            good = self._token is not None and hmac.compare_digest(
                self._token.encode(), given.encode("utf-8", "replace")
            )
            if good:
                self._token = None
            return good
