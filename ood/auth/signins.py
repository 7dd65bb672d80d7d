"""Sign-ins: the server's side of a browser's session.

The browser's cookie holds a random ID. Everything else is in memory here until sign-out, expiry or
a restart of the portal.
"""

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask_login import UserMixin


@dataclass
class SignIn(UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    """One browser at `address`, signed in as `user`, who is in `groups` on the portal host. Times
    are monotonic seconds; `seen` is the last sign of life."""

    id: str
    user: str
    groups: frozenset[str]
    address: str
    since: float
    seen: float


class SignIns:
    """All sign-ins. Each ends after `idle` seconds without a sign of life, and after `absolute`
    seconds. `on_end` gets the sign-in, the reason, and whether it was the user's last one."""

    def __init__(
        self, idle: float, absolute: float, on_end: Callable[[SignIn, str, bool], None]
    ) -> None:
        self._idle = idle
        self._absolute = absolute
        self._on_end = on_end
        self._lock = threading.Lock()  # guards `_by_id`; `on_end` is called without it
        self._by_id: dict[str, SignIn] = {}

    def add(self, user: str, groups: frozenset[str], address: str) -> SignIn:
        now = time.monotonic()
        sign_in = SignIn(secrets.token_urlsafe(32), user, groups, address, now, now)
        with self._lock:
            self._by_id[sign_in.id] = sign_in
        return sign_in

    def find(self, id: str, sign_of_life: bool = True) -> SignIn | None:
        """The sign-in with this ID, if it is still valid. Pass `sign_of_life=False` for requests
        that a page makes by itself."""
        with self._lock:
            found = self._by_id.get(id)
            if found is None or self._expired(found):
                return None
            if sign_of_life:
                found.seen = time.monotonic()
            return found

    def ends_at(self, sign_in: SignIn) -> float:
        """When it ends (monotonic) if there is no further sign of life."""
        return min(sign_in.seen + self._idle, sign_in.since + self._absolute)

    def remove(self, id: str, why: str) -> None:
        self._end(lambda sign_in: sign_in.id == id, why)

    def end_expired(self) -> None:
        """End the sign-ins that have expired. The caller does this at intervals."""
        self._end(self._expired, "expired")

    def _expired(self, sign_in: SignIn) -> bool:
        return time.monotonic() > self.ends_at(sign_in)

    def _end(self, which: Callable[[SignIn], bool], why: str) -> None:
        with self._lock:
            gone = [sign_in for sign_in in self._by_id.values() if which(sign_in)]
            for sign_in in gone:
                del self._by_id[sign_in.id]
            users = {sign_in.user for sign_in in self._by_id.values()}
        for sign_in in gone:
            self._on_end(sign_in, why, sign_in.user not in users)


class OneTimeToken:
    """The token in the sign-in address that the embedded portal prints, valid once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards `_token`
        self._token: str | None = None

    def new(self) -> str:
        """Return a new token. The previous one becomes invalid."""
        with self._lock:
            self._token = secrets.token_urlsafe(24)
            return self._token

    def use(self, given: str) -> bool:
        """Whether `given` is the token, which then becomes invalid."""
        with self._lock:
            is_valid = self._token is not None and hmac.compare_digest(
                self._token.encode(), given.encode("utf-8", "replace")
            )
            if is_valid:
                self._token = None
            return is_valid
