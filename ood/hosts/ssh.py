"""A machine over SSH, as the user whose credentials open the connection.

Fabric opens and authenticates the connection; commands, terminals and tunnels are channels on it.
Each hazard handled here was met on Fabric 3.2 with paramiko 5.1 against OpenSSH 9.2.
"""

from __future__ import annotations

import logging
import math
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import paramiko
from fabric import Config, Connection
from pydantic import SecretStr

from ood.errors import (
    CommandFailed,
    CommandTimedOut,
    HostUnreachable,
    SignInExpired,
)
from ood.hosts.base import LOGIN_SHELL_IN, MAX_INPUT, MAX_OUTPUT, CommandResult, Host
from ood.hosts.sftp import SFTPFiles
from ood.quoting import command_line

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0  # seconds, for each of TCP, banner and authentication
SESSION_CHANNELS = 8
"""Commands, terminals and SFTP at once on one connection; stock sshd allows 10 (MaxSessions).
The one long-lived SFTP channel is not counted, hence 8 and not 9."""
NEVER = 2**62  # bytes or packets


class SSHHost(Host):
    """One machine as one user, over one connection that all threads share.

    The connection is opened at first use and again after it dropped. `password` is asked for at
    each opening, so that a password forgotten at sign-out cannot be used again: it raises
    `SignInExpired` then.
    """

    def __init__(
        self, address: str, user: str, password: Callable[[], SecretStr], known_hosts: Path
    ) -> None:
        host, _, port = address.partition(":")
        self.name = host
        self.user = user
        self.files = self._sftp = SFTPFiles(self)
        self.last_used = time.monotonic()
        self._port = int(port or 22)
        self._password = password
        self._known_hosts = known_hosts
        self._opening = threading.Lock()
        self._connection: Connection | None = None
        self._home: str | None = None
        self._channels = threading.BoundedSemaphore(SESSION_CHANNELS)

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
        deadline = time.monotonic() + timeout + 3
        with self._session_channel() as channel:
            channel.exec_command(command_line(limited, env, cwd).encode("utf-8", "surrogateescape"))
            if input:
                channel.sendall(input)
            channel.shutdown_write()
            try:
                result = _collect(channel, deadline)
            except TimeoutError:
                self.close()  # a connection this silent is not to be trusted with the next command
                raise CommandTimedOut(f"{self.name} did not answer in time.") from None
        if result.exit_code == 124:
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

    def terminal(self, cwd: str, columns: int = 80, rows: int = 24) -> SSHTerminal:
        self._channels.acquire()
        try:
            channel = self._open_session()
            channel.get_pty("xterm-256color", columns, rows)
            channel.exec_command(command_line(["sh", "-c", LOGIN_SHELL_IN, "sh", cwd]))
        except BaseException:
            self._channels.release()
            raise
        return SSHTerminal(channel, self._channels.release)

    def dial(self, host: str, port: int, timeout: float = 10.0) -> paramiko.Channel:
        transport = self._transport()
        try:
            return transport.open_channel(
                "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout
            )
        except paramiko.ChannelException as error:
            raise HostUnreachable(
                f"Nothing answers at port {port} of {host}.", str(error)
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise HostUnreachable(f"{host} did not answer.", str(error)) from error

    def connect(self) -> None:
        """Open the connection now. Raises `SignInExpired` when the password is refused."""
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
        self._sftp.forget()
        if connection is not None:
            connection.close()

    @property
    def busy(self) -> bool:
        """Whether a channel other than the cached SFTP one is open."""
        connection = self._connection
        transport = connection.transport if connection is not None else None
        if transport is None:
            return False
        # _channels is paramiko's own table; it has no public way to count what is open.
        return len(transport._channels) > 1

    def open_sftp(self) -> paramiko.SFTPClient:
        """Return a new SFTP client. One thread at a time may use it; the caller closes it."""
        channel = self._open_session()
        channel.invoke_subsystem("sftp")
        return paramiko.SFTPClient(channel)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what paramiko raises when a connection drops into `HostUnreachable`."""
        try:
            yield
        except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
            connection = self._connection
            if isinstance(error, OSError) and connection and connection.transport.is_active():
                raise  # about a file, not about the connection
            self.close()
            raise HostUnreachable(
                f"The connection to {self.name} was lost. Try again.", str(error)
            ) from error

    @contextmanager
    def _session_channel(self) -> Iterator[paramiko.Channel]:
        with self._channels, self.errors():
            channel = self._open_session()
            try:
                yield channel
            finally:
                channel.close()

    def _open_session(self) -> paramiko.Channel:
        return self._transport().open_session(timeout=CONNECT_TIMEOUT)

    def _transport(self) -> paramiko.Transport:
        self.last_used = time.monotonic()
        with self._opening:
            connection = self._connection
            if connection is None or not connection.transport.is_active():
                if connection is not None:
                    connection.close()
                    self._sftp.forget()
                self._connection = None
                connection = self._connection = self._open()
            transport: paramiko.Transport = connection.transport
            return transport

    def _open(self) -> Connection:
        connection = Connection(
            self.name,
            user=self.user,
            port=self._port,
            # Fabric would read the portal account's own ~/.ssh/config and fabric.yml.
            config=Config(lazy=True, overrides={"load_ssh_configs": False}),
            connect_timeout=CONNECT_TIMEOUT,
            connect_kwargs={
                "password": self._password().get_secret_value(),
                "look_for_keys": False,
                "allow_agent": False,
                "banner_timeout": CONNECT_TIMEOUT,
                "auth_timeout": CONNECT_TIMEOUT,
            },
        )
        client = connection.client
        client.load_host_keys(str(self._known_hosts))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())  # Fabric's default is to accept
        try:
            connection.open()
        except paramiko.AuthenticationException as error:
            raise SignInExpired(
                f"{self.name} did not accept your user name and password.", str(error)
            ) from error
        except paramiko.BadHostKeyException as error:
            raise HostUnreachable(
                f"{self.name} has another host key than the portal knows, so nothing was sent to "
                "it. Tell your administrator.",
                str(error),
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            if "not found in known_hosts" in str(error):
                message = (
                    f"The portal does not know the host key of {self.name}. "
                    "Tell your administrator to add it to known_hosts."
                )
            else:
                message = f"{self.name} cannot be reached. Try again in a minute."
            raise HostUnreachable(message, str(error)) from error
        transport = connection.transport
        transport.set_keepalive(30)
        # A client-side key re-exchange while a channel streams in stalls the connection.
        transport.packetizer.REKEY_BYTES = NEVER
        transport.packetizer.REKEY_PACKETS = NEVER
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        log.info("opened SSH connection to %s as %s", self.name, self.user)
        return connection


class SSHTerminal:
    """A shell in a pseudo-terminal of the far host; closing the channel hangs it up."""

    def __init__(self, channel: paramiko.Channel, on_close: Callable[[], None]) -> None:
        self._channel = channel
        self._on_close: Callable[[], None] | None = on_close

    def fileno(self) -> int:
        return self._channel.fileno()

    def read(self, limit: int) -> bytes:
        return self._channel.recv(limit)

    def write(self, data: bytes) -> None:
        self._channel.sendall(data)

    def resize(self, columns: int, rows: int) -> None:
        self._channel.resize_pty(columns, rows)

    def close(self) -> None:
        self._channel.close()
        if self._on_close is not None:
            self._on_close()
            self._on_close = None


def _collect(channel: paramiko.Channel, deadline: float) -> CommandResult:
    """Read both outputs of a command to their end. Raises TimeoutError at `deadline` (monotonic).

    Both are read as they come: an unread standard error would fill the channel's one window.
    """
    out, err, size = [], [], 0
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        while True:
            while channel.recv_ready():
                out.append(channel.recv(65536))
                size += len(out[-1])
            while channel.recv_stderr_ready():
                err.append(channel.recv_stderr(65536))
                size += len(err[-1])
            if size > MAX_OUTPUT:
                raise CommandFailed("A command printed far more than it should.", -1, "")
            if channel.eof_received or channel.closed:
                if not (channel.recv_ready() or channel.recv_stderr_ready()):
                    break
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            selector.select(left)
    if not channel.status_event.wait(max(deadline - time.monotonic(), 0.1)):
        raise TimeoutError
    if channel.exit_status == -1 and not channel.get_transport().is_active():
        raise EOFError("the connection closed before the command ended")
    return CommandResult(b"".join(out), b"".join(err), channel.exit_status)
