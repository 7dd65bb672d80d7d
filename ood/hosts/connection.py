"""One SSH connection that all threads share: opened when it is needed, closed when it is idle."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

import paramiko
from fabric import Connection
from pydantic import SecretStr

from ood.auth.credentials import Credential
from ood.errors import HostBusy, HostError, HostRefused, HostUnreachable, SignInExpired
from ood.hosts.channels import quiet
from ood.hosts.ssh_connect import CONNECT_TIMEOUT, NotAccepted, Target, open_connection

SESSION_CHANNELS = 8
"""Commands, terminals and open files at once on one connection. Stock sshd allows 10 channels
(MaxSessions); the shared SFTP channel is one of them."""
LASTING_CHANNELS = 6
"""How many of these may be open files or started commands, which can stay open for hours. The rest
is for short commands."""
SLOT_TIMEOUT = 10.0  # seconds to wait for a free channel
MAX_HUNG = 2
"""Operations that may hang on a connection before it is used for nothing new. sshd counts each as a
session until it ends."""
PROBE_TIMEOUT = 5.0  # seconds for a host to open a channel, after an operation has timed out
OPENING_TIMEOUT = 40.0  # seconds to wait while another thread opens the connection

log = logging.getLogger(__name__)


class SharedConnection:
    """A connection as one user.

    `credential` is called each time the connection is opened. It raises `SignInExpired` after
    sign-out. If the host does not accept the user, `SignInExpired` is raised for a host that
    `opens_the_portal`, and `HostRefused` for any other.
    """

    def __init__(
        self, target: Target, credential: Callable[[], Credential], opens_the_portal: bool
    ) -> None:
        self.name = target.name
        self._target = target
        self._credential = credential
        self._opens_the_portal = opens_the_portal
        # Guards every field below except the slots. No thread holds it across a network call.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._connection: Connection | None = None
        self._hung = 0  # operations that have timed out on it
        self._left: list[Connection] = []  # earlier ones, which stay for what is open on them
        self._opening: object | None = None  # a token of the thread that opens it
        self._failure: HostError | None = None
        self._failed_at = 0.0
        self._refused: Credential | None = None
        self._last_used = time.monotonic()
        self.slots = threading.BoundedSemaphore(SESSION_CHANNELS)
        self._lasting_slots = threading.BoundedSemaphore(LASTING_CHANNELS)

    def transport(self) -> paramiko.Transport:
        """Return the live connection. One thread opens it, and others wait for that thread.
        Raises `HostError`."""
        asked = time.monotonic()
        with self._changed:
            self._last_used = asked
            while (connection := self._live()) is None and self._opening is not None:
                if not self._changed.wait(asked + OPENING_TIMEOUT - time.monotonic()):
                    raise HostUnreachable(did_not_answer(self.name))
            if connection is None:
                # Threads that waited for a dead host do not each try it again.
                if self._failure is not None and self._failed_at > asked:
                    raise type(self._failure)(self._failure.message, self._failure.detail)
                self._opening = opening = object()
        if connection is None:
            connection = self._open(opening)
        transport: paramiko.Transport = connection.transport
        return transport

    def adopt(self, other: Self) -> None:
        """Take over the connection of `other`, unless this one is open."""
        with other._lock:
            connection, other._connection = other._connection, None
        with self._changed:
            if self._live() is None:
                self._connection, connection = connection, None
                self._opening = None
                self._changed.notify_all()
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connection with all channels on it, and wake threads that wait for one to be
        opened. The next use opens a new one."""
        with self._changed:
            closed = [*self._left, *([self._connection] if self._connection else [])]
            self._connection, self._left = None, []
            self._opening = None
            self._fail(HostUnreachable(f"The connection to {self.name} was closed. Try again."))
        for connection in closed:
            connection.close()

    def close_if_idle(self, seconds: float, ignored: paramiko.Channel | None = None) -> None:
        """Close the connections on which no channel except `ignored` is open, if none has been used
        for `seconds`."""
        with self._lock:
            if time.monotonic() - self._last_used < seconds:
                return
            idle = [
                connection
                for connection in [self._connection, *self._left]
                # _channels is paramiko's own table. It has no public list of open channels.
                if connection and not {*connection.transport._channels.values()} - {ignored}
            ]
            self._left = [connection for connection in self._left if connection not in idle]
            if self._connection in idle:
                self._connection = None
        for connection in idle:
            connection.close()

    @contextmanager
    def slot(self, lasting: bool = False, timeout: float | None = None) -> Iterator[None]:
        """Reserve one of the session channels, before opening it. Raises `HostBusy`."""
        with ExitStack() as held:
            for slots in [self._lasting_slots, self.slots] if lasting else [self.slots]:
                if not slots.acquire(timeout=timeout or SLOT_TIMEOUT):
                    raise self._busy()
                held.callback(slots.release)
            yield

    @contextmanager
    def connected(self) -> Iterator[paramiko.Transport]:
        """The live connection, for one operation. Raises what `transport` and `errors` raise."""
        transport = self.transport()
        with self.errors(transport):
            yield transport

    @contextmanager
    def errors(self, transport: paramiko.Transport) -> Iterator[None]:
        """Raise `HostUnreachable` for what paramiko raises when a connection drops."""
        try:
            yield
        except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
            transport.close()  # only this one: another thread may have opened a new one
            raise HostUnreachable(
                f"The connection to {self.name} dropped. Try again.", str(error)
            ) from error

    def open_session(
        self, transport: paramiko.Transport, wait: float | None = None, window: int | None = None
    ) -> paramiko.Channel:
        """Open a channel for a command, a terminal or SFTP. The caller has a `slot`. While sshd
        allows no further channel, try again for `wait` seconds, then raise `HostBusy`."""
        deadline = time.monotonic() + (SLOT_TIMEOUT if wait is None else wait)
        while True:
            try:
                return quiet(transport.open_session(window, timeout=CONNECT_TIMEOUT))
            except paramiko.SSHException as error:
                if not channel_refused(transport, error):
                    raise
                # sshd counts a closed channel until its process has ended, and some sites allow
                # fewer than 10.
                if time.monotonic() > deadline:
                    raise self._busy() from error
            time.sleep(0.1)

    def suspect(self, transport: paramiko.Transport) -> None:
        """Close a connection on which an operation timed out, unless the host still opens channels
        on it: then only that operation hangs, and the others go on."""
        with self._lock:
            connection = self._live()
            if connection is not None and connection.transport is transport:
                self._hung += 1
                if self._hung >= MAX_HUNG:
                    self._left.append(connection)
                    self._connection, self._hung = None, 0
        threading.Thread(target=self._probe, args=(transport,), name="probe", daemon=True).start()

    def _probe(self, transport: paramiko.Transport) -> None:
        try:
            transport.open_session(timeout=PROBE_TIMEOUT).close()
        except Exception as error:
            if not channel_refused(transport, error):
                log.warning("closing the connection to %s, which hangs: %s", self.name, error)
                transport.close()

    def _busy(self) -> HostBusy:
        return HostBusy(
            f"Too many shells, transfers and commands are running on {self.name}. Close a shell or "
            "wait for a transfer to end, then try again."
        )

    def _live(self) -> Connection | None:
        """The open connection, if any. Requires: holding `_lock`."""
        assert self._lock.locked()
        connection = self._connection
        return connection if connection is not None and connection.transport.is_active() else None

    def _fail(self, failure: HostError) -> None:
        """Raise `failure` in the threads that wait. Requires: holding `_lock`."""
        assert self._lock.locked()
        self._failure, self._failed_at = failure, time.monotonic()
        self._changed.notify_all()

    def _open(self, opening: object) -> Connection:
        """Open the connection for all who wait. If it was closed meanwhile, close what was opened
        and raise `HostUnreachable`."""
        opened: Connection | None = None
        failure: HostError | None = None
        try:
            opened = self._authenticate()
        except HostError as error:
            failure = error
            raise
        finally:
            with self._changed:
                is_wanted = self._opening is opening
                if is_wanted:
                    self._opening, self._connection = None, opened
                    self._changed.notify_all()
                    if failure is not None:
                        self._fail(failure)
                current, closed = self._live(), self._failure
        if opened is not None and not is_wanted:
            opened.close()
        if current is None:
            assert closed is not None
            raise type(closed)(closed.message, closed.detail)
        return current

    def _authenticate(self) -> Connection:
        credential = self._credential()
        with self._lock:
            if credential is self._refused:  # pages that poll must not get the account locked
                raise self._not_accepted(credential)
        try:
            return open_connection(self._target, credential)
        except NotAccepted as error:
            with self._lock:
                self._refused = credential
            raise self._not_accepted(credential, str(error)) from error

    def _not_accepted(self, credential: Credential, detail: str = "") -> HostError:
        what = "user name and password" if isinstance(credential, SecretStr) else "certificate"
        message = f"{self.name} did not accept your {what}."
        if self._opens_the_portal:
            return SignInExpired(message, detail)
        return HostRefused(f"{message} Ask your administrator whether you may use it.", detail)


def did_not_answer(name: str) -> str:
    return f"{name} did not answer in time. Try again in a moment."


def channel_refused(transport: paramiko.Transport, error: Exception) -> bool:
    """Whether sshd refused a channel. If it refuses two at once, paramiko gives only one thread the
    reason, so any error except a timeout counts."""
    return transport.is_active() and "Timeout" not in str(error)
