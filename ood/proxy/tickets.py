"""Who may enter which service, from which browser.

Services have origins of their own, where the portal's cookie never goes. How a browser enters is
OAuth's authorisation code flow (RFC 6749, 4.1) with the portal as its own provider:

1. The services' origin gives the browser a nonce in a cookie, and sends it to the portal with the
   nonce's `state`.
2. The portal knows by its own cookie who is there. If the session is theirs, it sends the browser
   back with a code for that state.
3. The services' origin takes the code from a browser that has the nonce, once and within seconds,
   and gives it the entry cookie.

A code that somebody else sees, keeps or forwards is worth nothing: their browser has another nonce.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ood.auth.signins import SignIn, SignIns
from ood.errors import NotFound

CODE_SECONDS = 30.0


@dataclass(frozen=True)
class Grant:
    """The right of one signed-in browser to one session's service."""

    sign_in: SignIn
    session_id: str

    @property
    def user(self) -> str:
        return self.sign_in.user


@dataclass(frozen=True)
class Admission:
    """What a code was exchanged for: the entry cookie, and the path the browser wanted to go to.
    `state` is that of the nonce, which has been used. `new_user`: what services left in this
    browser may be another user's."""

    cookie: str
    entry: Grant
    path: str
    state: str
    new_user: bool


@dataclass(frozen=True)
class _Code:
    issued_at: float
    entry: Grant
    state: str
    path: str


@dataclass
class _Browser:
    """What one entry cookie lets into: sessions that have this origin, by one sign-in."""

    sign_in: SignIn
    origin: str
    session_ids: set[str] = field(default_factory=set)


def new_nonce() -> str:
    return secrets.token_urlsafe(32)


def state_of(nonce: str) -> str:
    """What may be seen of a nonce, in addresses and logs."""
    return hashlib.sha256(nonce.encode()).hexdigest()


class Tickets:
    """Codes and entry cookies, in memory like the sign-ins. A browser has one entry cookie on each
    of the services' origins, so that an origin is one user's at a time."""

    def __init__(self, sign_ins: SignIns) -> None:
        self._sign_ins = sign_ins
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()  # for the two that follow
        self._codes: dict[str, _Code] = {}
        self._browsers: dict[str, _Browser] = {}

    def code(self, entry: Grant, state: str, path: str) -> str:
        """A code for the browser that has the nonce of this state. It then goes to `path`."""
        now = time.monotonic()
        code = secrets.token_urlsafe(32)
        with self._lock:
            self._codes = {
                key: kept
                for key, kept in self._codes.items()
                if now - kept.issued_at < CODE_SECONDS
            }
            self._codes[code] = _Code(now, entry, state, path)
        return code

    def exchange(
        self, code: str, origin: str, nonces: Sequence[str], cookies: Sequence[str]
    ) -> Admission:
        """Exchange a code for an entry cookie. `nonces` and `cookies` are what the browser has at
        this origin. An entry of another user's ends.

        Raises `NotFound` when the code is not (or no longer) valid in this browser. All tabs of one
        sign-in have the same cookie.
        """
        states = [state_of(nonce) for nonce in nonces]
        with self._lock:
            issued = self._codes.pop(code, None)  # whoever brings it: it does not work again
            if (
                issued is None
                or time.monotonic() - issued.issued_at >= CODE_SECONDS
                or issued.state not in states
                or not self._alive(issued.entry.sign_in)
            ):
                raise NotFound("This link has expired. Go back to the portal and press Connect.")
            entry = issued.entry
            self._browsers = {
                key: kept
                for key, kept in self._browsers.items()
                if self._alive(kept.sign_in)
                and (key not in cookies or kept.sign_in is entry.sign_in)
            }
            same = [
                key
                for key, kept in self._browsers.items()
                if kept.sign_in is entry.sign_in and kept.origin == origin
            ]
            cookie = same[0] if same else self._new_cookie(entry.user)
            browser = self._browsers.setdefault(cookie, _Browser(entry.sign_in, origin))
            browser.session_ids.add(entry.session_id)
        known = bool(cookies or same) and all(self._is_of(key, entry.user) for key in cookies)
        return Admission(cookie, entry, issued.path, issued.state, new_user=not known)

    def find(self, cookies: Sequence[str], session_id: str, sign_of_life: bool) -> Grant | None:
        """The entry to a session that these cookies are for, if their sign-in is still good.

        A service's page can add cookies of the same name. Cookies that open nothing are ignored.
        Raises `NotFound` when two users' cookies arrive: nobody can know whose browser this is.
        """
        here = self._live(cookies)
        if len({browser.sign_in.user for browser in here}) > 1:
            raise NotFound(
                "Another user is still signed in to services in this browser. Close all browser "
                "windows, then sign in to the portal and press Connect again."
            )
        for browser in here:
            if session_id in browser.session_ids:
                self._sign_ins.find(browser.sign_in.id, sign_of_life)
                return Grant(browser.sign_in, session_id)
        return None

    def whose(self, cookies: Sequence[str]) -> str:
        """The user these cookies were given to, for whichever session; "" when nobody's."""
        here = self._live(cookies)
        return here[0].sign_in.user if here else ""

    def _live(self, cookies: Sequence[str]) -> list[_Browser]:
        with self._lock:
            found = [self._browsers[key] for key in cookies if key in self._browsers]
        return [browser for browser in found if self._alive(browser.sign_in)]

    def _alive(self, sign_in: SignIn) -> bool:
        return self._sign_ins.find(sign_in.id, sign_of_life=False) is not None

    # A cookie also says whom it was given to, long after their sign-in has been forgotten.

    def _new_cookie(self, user: str) -> str:
        secret = secrets.token_urlsafe(32)
        return f"{secret}.{self._mark(secret, user)}"

    def _is_of(self, cookie: str, user: str) -> bool:
        secret, _, mark = cookie.partition(".")
        return hmac.compare_digest(mark.encode(), self._mark(secret, user).encode())

    def _mark(self, secret: str, user: str) -> str:
        return hmac.new(self._key, f"{secret} {user}".encode(), hashlib.sha256).hexdigest()
