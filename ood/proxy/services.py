"""The services that are being used: where they are, the connections to them, whether they answer.

The owner's board knows where a service is. Asking the board can mean waiting for a scheduler, so
its answer is used for a while and renewed in the background.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from ood.errors import HostUnreachable, PortalError
from ood.hosts.base import Stream
from ood.proxy.headers import to_service
from ood.proxy.listeners import Listeners
from ood.proxy.upstream import Upstream
from ood.sessions.service import Service

# Seconds.
FRESH = 5.0
STALE = 15.0
"""Until then what is known is used, while it is being asked for again."""
UNUSED = 600.0
IDLE_CONNECTION = 20.0
PROBE_EVERY = 3.0
PROBE_PATIENCE = 3.0

PLACES = 12
"""Requests at once for one service: two browsers' worth. A service that hangs holds no more of the
portal's threads."""
ALL_PLACES = 44  # for all of them together, which leaves threads for pages (see gunicorn.conf.py)

log = logging.getLogger(__name__)


class Busy(HostUnreachable):
    """All places are taken."""


@dataclass(eq=False)
class Reached:
    """One service, and what is known of it. Times are monotonic."""

    service: Service
    upstream: Upstream
    found_at: float
    places: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(PLACES)
    )
    used_at: float = 0.0
    asking: bool = False
    probing: bool = False
    probed_at: float = float("-inf")
    silent: bool = False


class Services:
    """All services in use. `find` asks a user's board for a session's service, `dial` opens a
    connection to one, which `listeners` proves to be its owner's; all raise `PortalError`."""

    def __init__(
        self,
        find: Callable[[str, str], Service],
        dial: Callable[[Service], Stream],
        listeners: Listeners,
    ) -> None:
        self._find = find
        self._dial = dial
        self._listeners = listeners
        self._lock = threading.Lock()
        self._known: dict[str, Reached] = {}
        self._places = threading.BoundedSemaphore(ALL_PLACES)
        self._aside = ThreadPoolExecutor(4, "services")
        threading.Thread(target=self._tidy, name="services-tidy", daemon=True).start()

    def reach(self, user: str, session_id: str) -> Reached:
        """The service of a user's session. Raises what `find` raises."""
        now = time.monotonic()
        with self._lock:
            known = self._known.get(session_id)
            if known is not None and known.service.user == user:
                known.used_at = now
                age = now - known.found_at
                if age < STALE:
                    if age >= FRESH and not known.asking:
                        known.asking = True
                        self._aside.submit(self._ask_again, known)
                    return known
        return self._ask(user, session_id)

    def is_silent(self, service: Service) -> bool:
        """Whether the service is known not to answer. Does not wait; the next time it may know
        better."""
        now = time.monotonic()
        with self._lock:
            known = self._known.get(service.session_id)
            if known is None or known.service != service:
                known = self._remember(service)
            known.used_at = now
            if not known.probing and now - known.probed_at >= PROBE_EVERY:
                known.probing = True
                self._aside.submit(self.probe, known)
            return known.silent

    def probe(self, reached: Reached) -> bool:
        """Ask a service whether it is there; return whether it answered."""
        service = reached.service
        headers = to_service([], {"Host": "localhost", **service.headers})
        try:
            answer = reached.upstream.request("GET", service.alive, headers, None, PROBE_PATIENCE)
            answer.body.close()
            answered = True
        except PortalError as error:
            answered = False
            if not reached.silent:
                log.warning("%s of %s: %s", service.title, service.user, error.detail or error)
        except Exception:
            log.exception("probe of %s", service.session_id)
            answered = False
        reached.silent, reached.probed_at, reached.probing = not answered, time.monotonic(), False
        return answered

    @contextmanager
    def place(self, reached: Reached, patience: float = 5.0) -> Iterator[None]:
        """A place for one request. Raises `Busy`."""
        for places in (reached.places, self._places):
            if not places.acquire(timeout=patience):
                if places is self._places:
                    reached.places.release()
                raise Busy(f"{reached.service.title} has more to do than it can take right now.")
        try:
            yield
        finally:
            self._places.release()
            reached.places.release()

    def forget(self, user: str) -> None:
        """Forget the services of a user who signed out."""
        with self._lock:
            theirs = [id for id, known in self._known.items() if known.service.user == user]
            gone = [self._known.pop(id) for id in theirs]
        for known in gone:
            known.upstream.close_idle(0.0)
        self._listeners.forget(user)

    def _ask(self, user: str, session_id: str) -> Reached:
        try:
            service = self._find(user, session_id)
        except PortalError:
            with self._lock:
                gone = self._known.get(session_id)
                if gone is not None and gone.service.user == user:
                    del self._known[session_id]
            raise
        with self._lock:
            known = self._known.get(session_id)
            if known is None or known.service != service:
                known = self._remember(service)
            known.found_at = known.used_at = time.monotonic()
            return known

    def _ask_again(self, known: Reached) -> None:
        try:
            self._ask(known.service.user, known.service.session_id)
        except PortalError as error:
            log.info("%s of %s: %s", known.service.title, known.service.user, error)
        finally:
            known.asking = False

    def _remember(self, service: Service) -> Reached:
        """Requires `self._lock`."""
        dial = lambda: self._listeners.connect(service, lambda: self._dial(service))  # noqa: E731
        known = Reached(service, Upstream(dial), time.monotonic())
        self._known[service.session_id] = known
        return known

    def _tidy(self) -> None:
        while True:
            time.sleep(IDLE_CONNECTION / 2)
            now = time.monotonic()
            with self._lock:
                unused = [id for id, known in self._known.items() if now - known.used_at > UNUSED]
                tidied = [self._known.pop(id) for id in unused] + list(self._known.values())
                in_use = [known.service for known in self._known.values()]
            for known in tidied:
                known.upstream.close_idle(IDLE_CONNECTION)
            self._listeners.close_unused(in_use)
