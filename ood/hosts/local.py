"""This machine, as the user the portal runs as: the embedded default."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import pwd
import selectors
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from ood.errors import CommandFailed, CommandTimedOut, HostUnreachable
from ood.hosts.base import LOGIN_SHELL_SCRIPT, MAX_INPUT, MAX_OUTPUT, CommandResult, Host
from ood.hosts.local_files import NAME, LocalFiles
from ood.hosts.streams import LocalCommand, spawn

READ_SIZE = 2**20


class LocalHost(Host):
    """This machine. Processes are started from argument lists; no shell is involved."""

    name = NAME

    def __init__(self) -> None:
        account = pwd.getpwuid(os.getuid())
        self.user = account.pw_name
        self.files = LocalFiles()
        self._home = os.environ.get("HOME", account.pw_dir)

    @property
    def home(self) -> str:
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
        with ExitStack() as resources:
            stdin = resources.enter_context(_holding(input))
            process = spawn(argv, env, cwd or self._home, stdin)
            resources.enter_context(process)
            try:
                result = _collect(process, time.monotonic() + timeout)
            except TimeoutError:
                raise CommandTimedOut(f"{argv[0]} did not answer within {timeout:.0f} s.") from None
        if check:
            result.check(argv[0])
        return result

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> LocalCommand:
        return LocalCommand(argv, env, cwd or self._home)

    def terminal(self, cwd: str, columns: int = 80, rows: int = 24) -> LocalTerminal:
        pid, fd = pty.fork()
        if pid == 0:
            try:
                os.chdir(self._home)
                os.environ["TERM"] = "xterm-256color"
                os.execvp("sh", ["sh", "-c", LOGIN_SHELL_SCRIPT, "sh", cwd])
            finally:
                os._exit(127)
        terminal = LocalTerminal(pid, fd)
        terminal.resize(columns, rows)
        return terminal

    def dial(self, host: str, port: int, timeout: float = 10.0) -> socket.socket:
        try:
            connection = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise HostUnreachable(
                f"Nothing is listening on port {port} of {host}.", str(error)
            ) from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(None)  # `timeout` is for opening it
        return connection


class LocalTerminal:
    """A shell in a pseudo-terminal of this machine; `close` hangs it up and reaps it."""

    lost = False

    def __init__(self, pid: int, fd: int) -> None:
        os.set_blocking(fd, False)
        self._pid = pid
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def read(self, limit: int) -> bytes:
        try:
            return os.read(self._fd, limit)
        except OSError as error:
            if error.errno == errno.EIO:  # how Linux reports that the shell has ended
                return b""
            raise

    def write(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except OSError:  # it accepts no more for now, or has ended
            return 0

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        os.kill(self._pid, signal.SIGHUP)
        deadline = time.monotonic() + 1
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:  # it ignores SIGHUP
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                return
            time.sleep(0.01)


def _collect(process: subprocess.Popen[bytes], deadline: float) -> CommandResult:
    """Read both outputs of a command to their end, and wait for it.

    If this fails, kill the command. Raises TimeoutError at `deadline` (monotonic).
    """
    assert process.stdout is not None
    assert process.stderr is not None
    outputs: dict[int, list[bytes]] = {process.stdout.fileno(): [], process.stderr.fileno(): []}
    size = 0
    try:
        with selectors.DefaultSelector() as selector:
            for fd in outputs:
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                for key, _ in selector.select(left):
                    data = os.read(key.fd, READ_SIZE)
                    outputs[key.fd].append(data)
                    size += len(data)
                    if not data:
                        selector.unregister(key.fd)
                if size > MAX_OUTPUT:
                    raise CommandFailed("The command printed too much output.", -1, "")
        try:
            exit_code = process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    stdout, stderr = (b"".join(chunks) for chunks in outputs.values())
    return CommandResult(stdout, stderr, exit_code)


@contextmanager
def _holding(data: bytes) -> Iterator[int]:
    """A file descriptor to read `data` from. Unlike a pipe, it needs no thread that writes."""
    fd = os.memfd_create("input")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
