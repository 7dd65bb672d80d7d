"""The services in use: where they are, the connections to them, and whether they answer.

The owner's board knows where a service is. Its answer may take as long as the scheduler's, so it is
used for a while and renewed in the background.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from ood.errors import Busy, PortalError
from ood.help_topics import HelpTopic
from ood.hosts.base import Stream
from ood.proxy.headers import to_service
from ood.proxy.listeners import Listeners
from ood.proxy.upstream import Upstream
from ood.quotas import FairQuota
from ood.sessions.service import Service

# Seconds.
FRESH = 5.0  # until the board is asked again, in the background
STALE = 15.0  # until a request has to wait for the board's answer
UNUSED = 600.0
IDLE_CONNECTION = 20.0
PROBE_EVERY = 3.0
PROBE_PATIENCE = 3.0
REQUEST_PATIENCE = 5.0

REQUESTS_EACH = 12  # to one service at the same time: those of two browsers
REQUESTS_TOTAL = 44  # to all services
REQUEST_THREADS = 52  # with requests that wait; the others are for pages (see gunicorn.conf.py)

TOO_MANY = (
    "Too many requests to your services are open. Try again in a moment, or close tabs that use "
    "them."
)

log = logging.getLogger(__name__)


@dataclass(eq=False)
class ServiceInUse:
    """A service, the connections to it, and what is known of it. Times are monotonic.

    The lock of `Services` guards what changes; `silent` may be read without it.
    """

    service: Service
    upstream: Upstream
    found_at: float
    used_at: float = 0.0
    asking: bool = False
    probing: bool = False
    probed_at: float = float("-inf")
    silent: bool = False


class Services:
    """All services in use. `locate` asks a user's board for the service of a session, `dial` opens
    a connection to it, and `listeners` checks that it belongs to its owner. All raise
    `PortalError`."""

    def __init__(
        self,
        locate: Callable[[str, str], Service],
        dial: Callable[[Service], Stream],
        listeners: Listeners,
    ) -> None:
        self._locate = locate
        self._dial = dial
        self._listeners = listeners
        self._lock = threading.Lock()  # guards _known, and the fields of each service in it
        self._known: dict[str, ServiceInUse] = {}  # by session id
        self._requests = FairQuota(REQUESTS_EACH, REQUESTS_TOTAL, REQUEST_THREADS)
        threading.Thread(target=self._keep_tidy, name="services-tidy", daemon=True).start()

    def find(self, user: str, session_id: str) -> ServiceInUse:
        """The service of a user's session. Raises what `locate` raises."""
        now = time.monotonic()
        with self._lock:
            known = self._known.get(session_id)
            if known is not None and known.service.user == user:
                known.used_at = now
                age = now - known.found_at
                if age < STALE:
                    if age >= FRESH and not known.asking:
                        known.asking = True
                        _in_background(self._renew, known)
                    return known
        return self._ask(user, session_id)

    def is_silent(self, service: Service) -> bool:
        """Whether the service did not answer the last probe. Does not wait, but starts the next
        probe if one is due."""
        now = time.monotonic()
        with self._lock:
            known = self._remember(service)
            known.used_at = now
            if not known.probing and now - known.probed_at >= PROBE_EVERY:
                known.probing = True
                _in_background(self.probe, known)
            return known.silent

    def probe(self, known: ServiceInUse) -> bool:
        """Send a small request to a service; return whether it answered."""
        service, answered = known.service, False
        headers = to_service([], {"Host": "localhost", **service.headers})
        try:
            known.upstream.request("GET", service.alive, headers, None, PROBE_PATIENCE).close()
            answered = True
        except PortalError as error:
            if not known.silent:
                detail = error.detail or error
                log.warning("%s of %s does not answer: %s", service.title, service.user, detail)
        except Exception:
            log.exception("could not probe %s of %s", service.title, service.user)
        with self._lock:
            known.silent, known.probed_at, known.probing = not answered, time.monotonic(), False
        return answered

    def answered(self, known: ServiceInUse) -> None:
        """Note that a service has responded to a request, so it is not silent."""
        if known.silent:
            with self._lock:
                known.silent = False

    def request(self, user: str, session_id: str) -> AbstractContextManager[None]:
        """Count a request to a service for the length of a `with` block, which raises `Busy` if
        there are too many for longer than `REQUEST_PATIENCE`."""
        problem = Busy(TOO_MANY, topic=HelpTopic.SERVICE)
        return self._requests.hold(user, session_id, REQUEST_PATIENCE, problem)

    def forget(self, user: str) -> None:
        """Forget the services of a user who signed out."""
        with self._lock:
            theirs = [id for id, known in self._known.items() if known.service.user == user]
            gone = [self._known.pop(id) for id in theirs]
        for known in gone:
            known.upstream.close_idle(0.0)
        self._listeners.forget(user)

    def _ask(self, user: str, session_id: str) -> ServiceInUse:
        try:
            service = self._locate(user, session_id)
        except PortalError:
            with self._lock:
                gone = self._known.get(session_id)
                if gone is not None and gone.service.user == user:
                    del self._known[session_id]
            raise
        with self._lock:
            known = self._remember(service)
            known.found_at = known.used_at = time.monotonic()
            return known

    def _renew(self, known: ServiceInUse) -> None:
        service = known.service
        try:
            self._ask(service.user, service.session_id)
        except PortalError as error:
            log.info("could not find %s of %s: %s", service.title, service.user, error)
        except Exception:
            log.exception("could not find %s of %s", service.title, service.user)
        with self._lock:
            known.asking = False

    def _remember(self, service: Service) -> ServiceInUse:
        """What is known of a service: a new object if the session had another service or none.
        Requires: holding `_lock`."""
        assert self._lock.locked()
        known = self._known.get(service.session_id)
        if known is None or known.service != service:
            dial = partial(self._listeners.connect, service, partial(self._dial, service))
            known = ServiceInUse(service, Upstream(dial), time.monotonic())
            self._known[service.session_id] = known
        return known

    def _keep_tidy(self) -> None:
        while True:
            time.sleep(IDLE_CONNECTION / 2)
            try:
                self._tidy()
            except Exception:
                log.exception("could not close idle connections to services")

    def _tidy(self) -> None:
        """Close idle connections and commands; forget services that nobody uses."""
        now = time.monotonic()
        with self._lock:
            unused = [id for id, known in self._known.items() if now - known.used_at > UNUSED]
            tidied = [self._known.pop(id) for id in unused] + list(self._known.values())
            in_use = [known.service for known in self._known.values()]
        for known in tidied:
            known.upstream.close_idle(IDLE_CONNECTION)
        self._listeners.close_unused(in_use)


def _in_background(ask: Callable[[ServiceInUse], object], known: ServiceInUse) -> None:
    """Ask something about a service in a thread of its own, so that a service that hangs delays no
    other. `asking` and `probing` keep other threads from asking the same."""
    threading.Thread(target=ask, args=(known,), name="services", daemon=True).start()
