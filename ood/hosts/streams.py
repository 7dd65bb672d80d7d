"""Commands whose input and output are streams, on this machine and over SSH."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO

import paramiko

from ood.errors import CommandFailed, HostUnreachable
from ood.hosts.base import Command, Env
from ood.hosts.login_shell import MarkedCommand
from ood.quoting import misleads

MAX_STDERR = 256 * 1024  # bytes that are kept of the beginning of standard error
OF_THE_PORTAL = frozenset({"OOD_PORTAL_CONFIG", "PORT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"})
"""Variables with which the portal is started: its processes must not inherit them."""
ENDED_EARLY = "The command ended before it had read all its input."
END_SECONDS = 10.0  # for a command to end after its output has ended


class _Running(Command):
    """A command whose standard error a thread reads, so that the command never waits for that. The
    beginning is kept."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._stderr = bytearray()
        self._reader = threading.Thread(
            target=self._read_stderr, args=(receive,), name="standard-error", daemon=True
        )
        self._reader.start()

    def _read_stderr(self, receive: Callable[[int], bytes]) -> None:
        with suppress(OSError, ValueError, EOFError, paramiko.SSHException):  # closed meanwhile
            while data := receive(65536):
                self._stderr += data[: MAX_STDERR - len(self._stderr)]

    @property
    def stderr(self) -> str:
        self._reader.join(END_SECONDS)
        return self._stderr.decode("utf-8", "surrogateescape")


def spawn(argv: Sequence[str], env: Env, cwd: str, stdin: int) -> subprocess.Popen[bytes]:
    """Start a process of this machine, in a session of its own so that its child processes can be
    killed with it. Raises `CommandFailed`."""
    usual = {
        name: value
        for name, value in os.environ.items()
        if name not in OF_THE_PORTAL and not misleads(name)
    }
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**usual, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(
            f"{argv[0]} could not be started: {error.strerror}.", 127, str(error)
        ) from error


class LocalCommand(_Running):
    def __init__(self, argv: Sequence[str], env: Env, cwd: str) -> None:
        self._process = spawn(argv, env, cwd, subprocess.PIPE)
        self._closing = threading.Lock()  # one thread ends the process and closes its pipes
        super().__init__(_pipe(self._process.stderr).read)

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[_pipe(self._process.stdin).write(left) or 0 :]
        except (OSError, ValueError) as error:
            raise CommandFailed(ENDED_EARLY, -1, str(error)) from error

    def end_input(self) -> None:
        with suppress(OSError):
            _pipe(self._process.stdin).close()

    def read(self, limit: int) -> bytes:
        try:
            return _pipe(self._process.stdout).read(limit) or b""
        except (OSError, ValueError):  # closed meanwhile
            return b""

    def wait(self) -> int:
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise CommandFailed("The command did not end.", -1, "") from None

    def close(self) -> None:
        with self._closing:
            with suppress(ProcessLookupError):  # child processes may hold the pipes
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._reader.join(END_SECONDS)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                with suppress(OSError):
                    _pipe(pipe).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


class SSHCommand(_Running):
    """A channel on which a command has begun. `outputs` are what has arrived of its outputs.
    `on_close` closes the channel and releases its slot."""

    def __init__(
        self,
        channel: paramiko.Channel,
        command: MarkedCommand,
        outputs: tuple[bytes, bytes],
        name: str,
        on_close: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._command = command
        self._name = name
        self._on_close = on_close
        self._printed, self._complained = outputs
        super().__init__(self._receive_stderr)

    def write(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except OSError as error:
            self._check_connection()
            raise CommandFailed(ENDED_EARLY, -1, str(error)) from error
        except (EOFError, paramiko.SSHException) as error:
            raise self._dropped() from error

    def end_input(self) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):  # `read` reports that
            self._channel.shutdown_write()

    def read(self, limit: int) -> bytes:
        printed, self._printed = self._printed[:limit], self._printed[limit:]
        while not printed and self._command.exit_code is None:
            try:
                data = self._channel.recv(limit)  # may also send: it acknowledges data
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._dropped() from error
            if not data:
                self._check_connection()
                break
            printed = self._command.stdout.take(data)
        return printed

    def wait(self) -> int:
        if self._command.exit_code is None:
            self._check_connection()
            raise CommandFailed("The command was ended by something else.", -1, self.stderr)
        return self._command.exit_code

    def _receive_stderr(self, limit: int) -> bytes:
        complained, self._complained = self._complained, b""
        while not complained and self._command.stderr.exit_code is None:
            data = self._channel.recv_stderr(limit)
            if not data:
                break
            complained = self._command.stderr.take(data)
        return complained

    def close(self) -> None:
        self._on_close()

    def _check_connection(self) -> None:
        if not self._channel.get_transport().is_active():
            raise self._dropped()

    def _dropped(self) -> HostUnreachable:
        self._channel.get_transport().close()  # the next use opens a new one
        return HostUnreachable(f"The connection to {self._name} dropped. Try again.")
