"""Who may enter which service.

Services have an origin of their own, where the portal's cookie never goes. The portal hands its
user a ticket that works once, for a few seconds; for it the services' origin sets a cookie that is
good for this one session, for as long as the sign-in it came from.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass

from ood.auth.signins import SignIn, SignIns

TICKET_SECONDS = 30.0


@dataclass(frozen=True)
class Entry:
    """The right of one signed-in browser to one session's service. `portal` is the origin of the
    portal it came from, as in `https://portal.example`."""

    sign_in: SignIn
    session_id: str
    portal: str

    @property
    def user(self) -> str:
        return self.sign_in.user


class Entries:
    """Tickets and the cookies they were exchanged for, in memory like the sign-ins."""

    def __init__(self, sign_ins: SignIns) -> None:
        self._sign_ins = sign_ins
        self._lock = threading.Lock()
        self._tickets: dict[str, tuple[float, Entry, str]] = {}
        self._cookies: dict[str, Entry] = {}

    def ticket(self, entry: Entry, path: str) -> str:
        """A ticket to `path`, which works once."""
        now = time.monotonic()
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            self._tickets = {
                key: kept for key, kept in self._tickets.items() if now - kept[0] < TICKET_SECONDS
            }
            self._tickets[ticket] = (now, entry, path)
        return ticket

    def exchange(self, ticket: str) -> tuple[str, Entry, str] | None:
        """The cookie for a ticket, its entry and where it leads; None when it is no good (any
        more). A browser that comes again keeps its cookie, which its other tabs use."""
        with self._lock:
            issued_at, entry, path = self._tickets.pop(ticket, (float("-inf"), None, ""))
            if entry is None or time.monotonic() - issued_at >= TICKET_SECONDS:
                return None
            alive = {key: kept for key, kept in self._cookies.items() if self._alive(kept)}
            self._cookies = alive
            if not self._alive(entry):
                return None
            for cookie, kept in alive.items():
                if kept == entry:
                    return cookie, entry, path
            cookie = secrets.token_urlsafe(32)
            self._cookies[cookie] = entry
            return cookie, entry, path

    def find(self, cookies: list[str], session_id: str, sign_of_life: bool) -> Entry | None:
        """The entry one of these cookies is for, if it is to this session and the sign-in is
        still good. (A service can plant further cookies of the same name in the browser.)"""
        with self._lock:
            found = [self._cookies.get(cookie) for cookie in cookies]
        for entry in found:
            if entry is not None and entry.session_id == session_id:
                return entry if self._sign_ins.find(entry.sign_in.id, sign_of_life) else None
        return None

    def whose(self, cookies: list[str]) -> str:
        """The user one of these cookies was given to, for whichever session; "" when nobody's."""
        with self._lock:
            found = [self._cookies[cookie].user for cookie in cookies if cookie in self._cookies]
        return found[0] if found else ""

    def _alive(self, entry: Entry) -> bool:
        return self._sign_ins.find(entry.sign_in.id, sign_of_life=False) is not None
