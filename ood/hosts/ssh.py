"""A machine over SSH, as the user whose credentials open the connection.

Fabric opens and authenticates the connection; commands, terminals and tunnels are channels on it.
Each hazard handled here was met on Fabric 3.2 with paramiko 5.1 against OpenSSH 9.2.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import paramiko
from fabric import Connection
from pydantic import SecretStr

from ood.auth.credentials import Credential
from ood.errors import (
    CommandFailed,
    CommandTimedOut,
    HostError,
    HostRefused,
    HostUnreachable,
    SignInExpired,
)
from ood.hosts.base import MAX_INPUT, CommandResult, Host
from ood.hosts.channels import SSHTerminal, collect, quiet
from ood.hosts.sftp import SFTPFiles
from ood.hosts.ssh_connect import CONNECT_TIMEOUT, Dial, NotAccepted, open_connection
from ood.hosts.streams import SSHCommand
from ood.hosts.terminals import Terminals, TooMuch
from ood.quoting import command_line

SESSION_CHANNELS = 8
"""Commands, terminals and open files at once on one connection; stock sshd allows 10 (MaxSessions).
The one long-lived SFTP channel is not counted, hence 8 and not 9."""
LASTING_CHANNELS = 6
"""How many of these may be open files, which last as long as their user likes: however many there
are, commands go on."""
PATIENCE = 10.0  # seconds, to wait for a place among the channels


class SSHHost(Host):
    """One machine as one user, over one connection that all threads share. Terminals have further
    ones: however many there are, and whatever they print, commands go on.

    The connection is opened at first use and again after it dropped. `credential` is asked
    for at each opening, so that one forgotten at sign-out cannot be used again: it raises
    `SignInExpired` then. So does a host that `opens_the_portal` and no longer accepts the user;
    another one raises `HostRefused`.
    """

    def __init__(
        self,
        address: str,
        user: str,
        credential: Callable[[], Credential],
        known_hosts: Path,
        opens_the_portal: bool = True,
        dial: Dial | None = None,
    ) -> None:
        host, _, port = address.partition(":")
        self.name = host
        self.user = user
        self.files = self._sftp = SFTPFiles(self)
        self.last_used = time.monotonic()
        self._port = int(port or 22)
        self._credential = credential
        self._known_hosts = known_hosts
        self._opens_the_portal = opens_the_portal
        self._dial = dial
        self._opening = threading.Lock()
        self._connection: Connection | None = None
        self._failure: HostError | None = None
        self._failed_at = 0.0
        self._refused: Credential | None = None
        self._home: str | None = None
        self.places = threading.BoundedSemaphore(SESSION_CHANNELS)
        self._lasting_places = threading.BoundedSemaphore(LASTING_CHANNELS)
        self._terminals = Terminals(
            lambda: SSHHost(address, user, credential, known_hosts, opens_the_portal, dial)
        )

    @property
    def home(self) -> str:
        if self._home is None:
            self._home = self._sftp.resolve(".")  # sshd starts SFTP in the home directory
        return self._home

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 30.0,
        check: bool = True,
    ) -> CommandResult:
        assert len(input) <= MAX_INPUT, "larger input goes through files"
        # Without a terminal, sshd leaves a command running when its channel closes, so the far
        # side ends it too.
        limited = ["timeout", "-k", "2", str(math.ceil(timeout)), *argv]
        with self.place(patience=timeout), self.connected() as transport:
            started = time.monotonic()
            channel = self.open_session(transport)
            try:
                channel.exec_command(_as_bytes(command_line(limited, env, cwd)))
                with suppress(OSError):  # the command may end without reading all of it
                    channel.sendall(input)
                channel.shutdown_write()
                result = collect(channel, started + timeout + 3)
            except TimeoutError:
                if not channel.status_event.is_set():
                    transport.close()  # too silent to be trusted with the next command
                raise CommandTimedOut(f"{self.name} did not answer in time.") from None
            finally:
                channel.close()
        # 124 is what `timeout` says after SIGTERM; SIGKILL may end it with the command.
        if result.exit_code in (124, 137, -1) and time.monotonic() - started >= timeout:
            raise CommandTimedOut(
                f"{argv[0]} on {self.name} did not answer within {timeout:.0f} s."
            )
        if check and result.exit_code != 0:
            raise CommandFailed(
                f"{argv[0]} on {self.name} failed with exit code {result.exit_code}.",
                result.exit_code,
                result.stderr.decode("utf-8", "replace").strip(),
            )
        return result

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> SSHCommand:
        with ExitStack() as undo:
            undo.enter_context(self.place(lasting=True))
            with self.connected() as transport:
                channel = self.open_session(transport)
                undo.callback(channel.close)
                channel.exec_command(_as_bytes(command_line(argv, env, cwd)))
            return SSHCommand(channel, self.name, undo.pop_all().close)

    def terminal(self, cwd: str, columns: int = 80, rows: int = 24) -> SSHTerminal:
        return self._terminals.open(cwd, columns, rows)

    def dial(self, host: str, port: int, timeout: float = 10.0) -> paramiko.Channel:
        transport = self._transport()
        try:
            return quiet(
                transport.open_channel(
                    "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout
                )
            )
        except (paramiko.SSHException, OSError, EOFError) as error:
            if _refused(transport, error):
                message = f"Nothing answers at port {port} of {host}."
            else:
                message = f"{host} did not answer."
            raise HostUnreachable(message, str(error)) from error

    def connect(self) -> None:
        """Open the connection now. Raises `HostError`."""
        self._transport()

    def adopt(self, other: SSHHost) -> None:
        """Take over the connection of `other`, which the caller gives up, unless there is one."""
        with self._opening:
            if self._connection is None or not self._connection.transport.is_active():
                self._connection, other._connection = other._connection, None
        other.close()

    def close(self) -> None:
        """Close the connection and every channel on it. The next verb opens a new one."""
        with self._opening:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._terminals.close()

    def close_if_idle(self, seconds: float) -> None:
        """Close connections on which no verb began for that long and nothing is open."""
        self._terminals.close_if_idle(seconds)
        with self._opening:  # no verb can begin now
            connection = self._connection
            if connection is None or time.monotonic() - self.last_used < seconds:
                return
            # _channels is paramiko's own table; it has no public way to see what is open.
            channels = connection.transport._channels.values()
            if any(channel is not self._sftp.shared_channel for channel in channels):
                return
            self._connection = None
        connection.close()

    @contextmanager
    def place(self, lasting: bool = False, patience: float | None = None) -> Iterator[None]:
        """A place for one more session channel, to be had before the channel is opened."""
        with ExitStack() as held:
            for places in [self._lasting_places, self.places] if lasting else [self.places]:
                if not places.acquire(timeout=patience or PATIENCE):
                    raise self._too_much()
                held.callback(places.release)
            yield

    @contextmanager
    def connected(self) -> Iterator[paramiko.Transport]:
        """The live connection, for one operation; see `errors`."""
        transport = self._transport()
        with self.errors(transport):
            yield transport

    @contextmanager
    def errors(self, transport: paramiko.Transport) -> Iterator[None]:
        """Turn what paramiko raises when a connection drops into `HostUnreachable`."""
        try:
            yield
        except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
            transport.close()  # and not another, which another thread has opened since
            raise HostUnreachable(
                f"The connection to {self.name} was lost. Try again.", str(error)
            ) from error

    def open_session(
        self,
        transport: paramiko.Transport,
        patience: float | None = None,
        window: int | None = None,
    ) -> paramiko.Channel:
        """A new channel for a command, a terminal or SFTP; its caller has a `place`."""
        deadline = time.monotonic() + (PATIENCE if patience is None else patience)
        while True:
            try:
                return quiet(transport.open_session(window, timeout=CONNECT_TIMEOUT))
            except paramiko.SSHException as error:
                if not _refused(transport, error):
                    raise
                # Full: sshd keeps the place of a closed channel until its process has ended, and
                # some sites allow fewer than 10.
                if time.monotonic() > deadline:
                    raise self._too_much() from error
            time.sleep(0.1)

    def _too_much(self) -> TooMuch:
        return TooMuch(
            f"Too much is open on {self.name} at once. Close a shell or wait for a transfer to "
            "end, and try again."
        )

    def _transport(self) -> paramiko.Transport:
        asked = time.monotonic()
        with self._opening:
            self.last_used = time.monotonic()
            connection = self._connection
            if connection is None or not connection.transport.is_active():
                # Threads that waited while a dead host was tried do not each try it again.
                if self._failure is not None and self._failed_at > asked:
                    raise type(self._failure)(self._failure.message, self._failure.detail)
                self._connection = None
                try:
                    connection = self._connection = self._open()
                except HostError as error:
                    self._failure, self._failed_at = error, time.monotonic()
                    raise
            transport: paramiko.Transport = connection.transport
            return transport

    def _open(self) -> Connection:
        credential = self._credential()
        if credential is self._refused:  # a page that asks every few seconds must not lock them out
            raise self._not_accepted(credential)
        try:
            return open_connection(
                self.name, self._port, self.user, credential, self._known_hosts, self._dial
            )
        except NotAccepted as error:
            self._refused = credential
            raise self._not_accepted(credential, str(error)) from error

    def _not_accepted(self, credential: Credential, detail: str = "") -> HostError:
        shown = "user name and password" if isinstance(credential, SecretStr) else "certificate"
        message = f"{self.name} did not accept your {shown}."
        if self._opens_the_portal:
            return SignInExpired(message, detail)
        return HostRefused(f"{message} Ask your administrator whether you may use it.", detail)


def _as_bytes(line: str) -> bytes:
    return line.encode("utf-8", "surrogateescape")


def _refused(transport: paramiko.Transport, error: Exception) -> bool:
    """Whether sshd said no to a channel. Paramiko tells the reason to one of two threads only."""
    return transport.is_active() and "Timeout" not in str(error)
