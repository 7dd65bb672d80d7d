"""Who may enter which service, from which browser.

Services have origins of their own, where browsers never send the portal's cookie. A browser enters
by OAuth's authorisation code flow (RFC 6749, 4.1), with the portal as its own provider and a ticket
as the code:

1. The services' origin sets a nonce in a cookie, and redirects to the portal with the `state` of
   the nonce.
2. The portal knows from its own cookie who is signed in. If the session belongs to that user, it
   redirects back with a ticket for this state.
3. The services' origin accepts the ticket once, within seconds, from a browser that has the nonce,
   and sets the entry cookie.

A stolen or forwarded ticket is worthless: another browser has another nonce.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ood.auth.signins import SignIn, SignIns
from ood.errors import NotFound

TICKET_SECONDS = 30.0


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
    """What a ticket was exchanged for: the entry cookie, and the `path` to go to. `state` names the
    nonce, which has been used. With `new_user`, data that services left in this browser may belong
    to another user."""

    cookie: str
    grant: Grant
    path: str
    state: str
    new_user: bool


@dataclass(frozen=True)
class _Ticket:
    issued_at: float
    grant: Grant
    state: str
    path: str


@dataclass
class _Entry:
    """What an entry cookie stands for: one sign-in may use these sessions at this origin."""

    sign_in: SignIn
    origin: str
    session_ids: set[str] = field(default_factory=set)


def new_nonce() -> str:
    return secrets.token_urlsafe(32)


def state_of(nonce: str) -> str:
    """The hash that stands for a nonce in addresses, which others may see."""
    return hashlib.sha256(nonce.encode()).hexdigest()


class Tickets:
    """Tickets and entry cookies, in memory like the sign-ins. A browser has one entry cookie for
    each of the services' origins, so only one user at a time uses an origin in it."""

    def __init__(self, sign_ins: SignIns) -> None:
        self._sign_ins = sign_ins
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()  # guards _tickets and _entries
        self._tickets: dict[str, _Ticket] = {}
        self._entries: dict[str, _Entry] = {}  # by entry cookie

    def issue(self, grant: Grant, state: str, path: str) -> str:
        """A ticket for the browser that has the nonce of this state and goes to `path` next."""
        now = time.monotonic()
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            for old in [k for k, t in self._tickets.items() if now - t.issued_at >= TICKET_SECONDS]:
                del self._tickets[old]
            self._tickets[ticket] = _Ticket(now, grant, state, path)
        return ticket

    def exchange(
        self, ticket: str, origin: str, nonces: Sequence[str], cookies: Sequence[str]
    ) -> Admission:
        """Exchange a ticket for an entry cookie, which is the same in all tabs of a sign-in.
        `nonces` and `cookies` are what the browser has at this origin. If one of the cookies is
        another sign-in's, that entry ends.

        Raises `NotFound` when the ticket is not (or no longer) valid in this browser.
        """
        states = [state_of(nonce) for nonce in nonces]
        with self._lock:
            issued = self._tickets.pop(ticket, None)  # used up, whoever presents it
            if (
                issued is None
                or time.monotonic() - issued.issued_at >= TICKET_SECONDS
                or issued.state not in states
                or not self._alive(issued.grant.sign_in)
            ):
                raise NotFound("This link has expired. Go back to the portal and click Connect.")
            grant = issued.grant
            for key, entry in list(self._entries.items()):
                replaced = key in cookies and entry.sign_in is not grant.sign_in
                if replaced or not self._alive(entry.sign_in):
                    del self._entries[key]
            ours = [(k, e) for k, e in self._entries.items() if e.sign_in is grant.sign_in]
            same = [key for key, entry in ours if entry.origin == origin]
            cookie = same[0] if same else self._new_cookie(grant.user)
            entry = self._entries.setdefault(cookie, _Entry(grant.sign_in, origin))
            entry.session_ids.add(grant.session_id)
        known = bool(cookies or same) and all(self._is_of(key, grant.user) for key in cookies)
        return Admission(cookie, grant, issued.path, issued.state, new_user=not known)

    def find(self, cookies: Sequence[str], session_id: str, sign_of_life: bool) -> Grant | None:
        """The right to a session's service that these entry cookies give; None when they give none
        or their sign-in has ended.

        A page of a service can add cookies of the same name; unknown cookies are ignored. Raises
        `NotFound` when cookies of two users arrive: the portal cannot know whose browser this is.
        """
        entries = self._live(cookies)
        if len({entry.sign_in.user for entry in entries}) > 1:
            raise NotFound(
                "Another user is still signed in to services in this browser. Close all browser "
                "windows, then sign in to the portal and click Connect again."
            )
        for entry in entries:
            if session_id in entry.session_ids:
                self._sign_ins.find(entry.sign_in.id, sign_of_life)
                return Grant(entry.sign_in, session_id)
        return None

    def whose(self, cookies: Sequence[str]) -> str:
        """The signed-in user that these entry cookies belong to; "" if there is none."""
        entries = self._live(cookies)
        return entries[0].sign_in.user if entries else ""

    def _live(self, cookies: Sequence[str]) -> list[_Entry]:
        with self._lock:
            found = [self._entries[key] for key in cookies if key in self._entries]
        return [entry for entry in found if self._alive(entry.sign_in)]

    def _alive(self, sign_in: SignIn) -> bool:
        return self._sign_ins.find(sign_in.id, sign_of_life=False) is not None

    # An entry cookie also proves which user it was set for, even after the sign-in has ended.

    def _new_cookie(self, user: str) -> str:
        secret = secrets.token_urlsafe(32)
        return f"{secret}.{self._mark(secret, user)}"

    def _is_of(self, cookie: str, user: str) -> bool:
        secret, _, mark = cookie.partition(".")
        return hmac.compare_digest(mark.encode(), self._mark(secret, user).encode())

    def _mark(self, secret: str, user: str) -> str:
        return hmac.new(self._key, f"{secret} {user}".encode(), hashlib.sha256).hexdigest()
