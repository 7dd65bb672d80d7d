"""A machine over SSH, as the user whose credentials open the connection."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Self

import paramiko

from ood.auth.credentials import Credential
from ood.errors import CommandTimedOut, HostUnreachable
from ood.hosts.base import Command, CommandResult, Env, Host
from ood.hosts.channels import quiet
from ood.hosts.connection import SharedConnection, channel_refused, did_not_answer
from ood.hosts.known_hosts import SSH_PORT
from ood.hosts.login_shell import MarkedCommand
from ood.hosts.sftp import SFTPFiles
from ood.hosts.ssh_connect import Dial, Target
from ood.hosts.streams import SSHCommand
from ood.hosts.terminals import SSHTerminal, Terminals

ADMINISTRATIVELY_PROHIBITED = 1  # RFC 4254, section 5.1
CHANGE_DIRECTORY = 'cd -- "$0" && exec "$@"'
SESSIONS_CLOSE = 2.0  # seconds for sshd to notice that a session has ended
START_TIMEOUT = 15.0  # seconds for an account's start-up files


class SSHHost(Host):
    """One machine as one user, over one connection for commands, files and tunnels, and further
    ones for terminals. See `SharedConnection` for `credential` and `opens_the_portal`."""

    def __init__(
        self,
        address: str,
        user: str,
        credential: Callable[[], Credential],
        known_hosts: Path,
        opens_the_portal: bool = True,
        dial: Dial | None = None,
    ) -> None:
        self.name, _, port = address.partition(":")
        self.user = user
        target = Target(self.name, int(port or SSH_PORT), user, known_hosts, dial)
        new = partial(SharedConnection, target, credential, opens_the_portal)
        self._connection = new()
        self._terminals = Terminals(new)
        self.files = self._sftp = SFTPFiles(self._connection, self.start)
        self._home: str | None = None

    @property
    def home(self) -> str:
        if self._home is None:
            self._home = self.run(["sh", "-c", 'printf %s "$HOME"']).text
        return self._home

    def _run(
        self,
        argv: Sequence[str],
        input: bytes,
        env: Env,
        cwd: str | None,
        timeout: float,
        max_output: int,
    ) -> CommandResult:
        # Without a terminal, sshd leaves a command running when its channel closes. `timeout` ends
        # it on the host, even if `cwd` hangs.
        if cwd is not None:
            argv = ["sh", "-c", CHANGE_DIRECTORY, cwd, *argv]
        limited = ["timeout", "-k", "2", str(math.ceil(timeout)), *argv]
        with self._connection.slot(timeout=timeout), self._connection.connected() as transport:
            started = time.monotonic()
            channel = self._connection.open_session(transport)
            command, deadline = MarkedCommand(channel, self.name), started + timeout + 3
            try:
                outputs = command.begin(limited, env, None, deadline)
                with suppress(OSError):  # the command may end without reading all of it
                    channel.sendall(input)
                channel.shutdown_write()
                result = command.collect(outputs, deadline, max_output)
            except TimeoutError:
                self._connection.suspect(transport)
                raise CommandTimedOut(command.why_late()) from None
            finally:
                channel.close()
        # 124 is the exit code of `timeout` after SIGTERM. SIGKILL may end `timeout` as well.
        if result.exit_code in (124, 137) and time.monotonic() - started >= timeout:
            raise CommandTimedOut(
                f"{argv[0]} on {self.name} did not answer within {timeout:.0f} s."
            )
        return result

    def start(self, argv: Sequence[str], *, env: Env = None, cwd: str | None = None) -> Command:
        with ExitStack() as undo:
            undo.enter_context(self._connection.slot(lasting=True))
            with self._connection.connected() as transport:
                channel = self._connection.open_session(transport)
                undo.callback(channel.close)
                command = MarkedCommand(channel, self.name)
                try:
                    outputs = command.begin(argv, env, cwd, time.monotonic() + START_TIMEOUT)
                except TimeoutError:
                    self._connection.suspect(transport)
                    raise CommandTimedOut(command.why_late()) from None
            return SSHCommand(channel, command, outputs, self.name, undo.pop_all().close)

    def terminal(self, cwd: str, columns: int = 80, rows: int = 24) -> SSHTerminal:
        return self._terminals.open(cwd, columns, rows)

    def dial(self, host: str, port: int, timeout: float = 10.0) -> paramiko.Channel:
        transport = self._connection.transport()
        try:
            return quiet(
                transport.open_channel(
                    "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout
                )
            )
        except (paramiko.SSHException, OSError, EOFError) as error:
            if channel_refused(transport, error):
                message = f"Nothing is listening on port {port} of {host}."
            else:
                message = did_not_answer(host)
            raise HostUnreachable(message, str(error)) from error

    # ---- What `doctor` asks

    @property
    def version(self) -> str:
        """How sshd calls itself."""
        return str(self._connection.transport().remote_version)

    @property
    def sftp_by_itself(self) -> bool:
        """Whether sshd's own SFTP works for the account, once files were used."""
        return not self._sftp.as_command

    def greeting_size(self) -> int:
        """How many bytes start-up files print before a command."""
        with (
            self._connection.slot(),
            self._connection.connected() as transport,
            closing(self._connection.open_session(transport)) as channel,
        ):
            command = MarkedCommand(channel, self.name)
            command.begin(["true"], None, None, time.monotonic() + START_TIMEOUT)
            return command.stdout.greeting_size + command.stderr.greeting_size

    def free_channels(self, most: int) -> int:
        """How many sessions sshd allows on a connection besides those in use, at most `most`."""
        found, deadline = 0, time.monotonic() + SESSIONS_CLOSE
        with self._connection.connected() as transport, ExitStack() as opened:
            while found < most:
                try:
                    opened.callback(transport.open_session(timeout=START_TIMEOUT).close)
                    found += 1
                except paramiko.ChannelException:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.1)
        return found

    def forwards(self) -> bool:
        """Whether sshd opens connections for the account."""
        try:
            self._connection.transport().open_channel(
                "direct-tcpip", ("127.0.0.1", SSH_PORT), ("127.0.0.1", 0), timeout=START_TIMEOUT
            ).close()
        except paramiko.ChannelException as error:
            return error.code != ADMINISTRATIVELY_PROHIBITED
        except (paramiko.SSHException, OSError, EOFError):
            return False
        return True

    def connect(self) -> None:
        """Open the connection now. Raises `HostError`."""
        self._connection.transport()

    def adopt(self, other: Self) -> None:
        """Take over the connection of `other`, which the caller no longer uses, unless this host
        has one already."""
        self._connection.adopt(other._connection)

    def close(self) -> None:
        """Close all connections. The next use opens new ones."""
        self._connection.close()
        self._terminals.close()

    def close_if_idle(self, seconds: float) -> None:
        """Close connections that have not been used for `seconds` and have nothing open."""
        self._terminals.close_if_idle(seconds)
        self._connection.close_if_idle(seconds, self._sftp.shared_channel)
