"""This machine, as the user the portal runs as: the embedded default."""

import os
import pwd
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from ood.errors import CommandFailed, CommandTimedOut, HostUnreachable
from ood.hosts.base import TOO_MUCH_OUTPUT, CommandResult, Env, Host
from ood.hosts.local_files import NAME, LocalFiles
from ood.hosts.streams import LocalCommand, spawn
from ood.hosts.terminals import LocalTerminal

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

    def _run(
        self,
        argv: Sequence[str],
        input: bytes,
        env: Env,
        cwd: str | None,
        timeout: float,
        max_output: int,
    ) -> CommandResult:
        # A file in memory needs no thread that writes, as a pipe would.
        with open(os.memfd_create("input"), "w+b", buffering=0) as stdin:
            stdin.write(input)
            stdin.seek(0)
            with spawn(argv, env, cwd or self._home, stdin.fileno()) as process:
                try:
                    return _collect(process, time.monotonic() + timeout, max_output)
                except (TimeoutError, subprocess.TimeoutExpired):
                    raise CommandTimedOut(
                        f"{argv[0]} did not answer within {timeout:.0f} s."
                    ) from None

    def start(
        self, argv: Sequence[str], *, env: Env = None, cwd: str | None = None
    ) -> LocalCommand:
        return LocalCommand(argv, env, cwd or self._home)

    def terminal(self, cwd: str, columns: int = 80, rows: int = 24) -> LocalTerminal:
        return LocalTerminal(self._home, cwd, columns, rows)

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


def _collect(process: subprocess.Popen[bytes], deadline: float, max_output: int) -> CommandResult:
    """Read both outputs of a command to their end and wait for it. Kill it if this fails. Raises
    TimeoutError or TimeoutExpired at `deadline` (monotonic)."""
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
                events = selector.select(min(left, 1.0))
                if not events and process.poll() is not None:
                    break  # a process that it left running holds its outputs
                for key, _ in events:
                    data = os.read(key.fd, READ_SIZE)
                    outputs[key.fd].append(data)
                    size += len(data)
                    if not data:
                        selector.unregister(key.fd)
                if size > max_output:
                    raise CommandFailed(TOO_MUCH_OUTPUT, -1, "")
        exit_code = process.wait(max(deadline - time.monotonic(), 0.1))
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    stdout, stderr = (b"".join(chunks) for chunks in outputs.values())
    return CommandResult(stdout, stderr, exit_code)
