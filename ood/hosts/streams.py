"""Commands whose input and output are streams, on this machine and over SSH."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO

import paramiko

from ood.errors import CommandFailed, HostUnreachable
from ood.hosts.base import MAX_SAID, Command

END_SECONDS = 10.0  # for a command to end that has closed its output


class _Running(Command, ABC):
    """What both have in common: standard error is read as it comes, lest the command waits for
    somebody to read it, and its beginning is kept."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._said = bytearray()
        self._listener = threading.Thread(
            target=self._listen, args=(receive,), name="standard-error", daemon=True
        )
        self._listener.start()

    def _listen(self, receive: Callable[[int], bytes]) -> None:
        with suppress(OSError, ValueError, EOFError, paramiko.SSHException):  # closed under it
            while data := receive(65536):
                self._said += data[: MAX_SAID - len(self._said)]

    @property
    def said(self) -> str:
        self._listener.join(END_SECONDS)
        return self._said.decode("utf-8", "surrogateescape")

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None: ...


class LocalCommand(_Running):
    """A process of this machine, in a session of its own so that all of it can be ended."""

    def __init__(self, argv: Sequence[str], env: dict[str, str], cwd: str) -> None:
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed(
                f"{argv[0]} could not be started: {error.strerror}.", 127, str(error)
            ) from error
        self._closing = threading.Lock()
        super().__init__(_pipe(self._process.stderr).read)

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[_pipe(self._process.stdin).write(left) or 0 :]
        except (OSError, ValueError) as error:
            raise CommandFailed("The command ended too early.", -1, str(error)) from error

    def end_input(self) -> None:
        with suppress(OSError):
            _pipe(self._process.stdin).close()

    def read(self, limit: int) -> bytes:
        try:
            return _pipe(self._process.stdout).read(limit) or b""
        except (OSError, ValueError):  # closed under it
            return b""

    def wait(self) -> int:
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise CommandFailed("The command does not end.", -1, "") from None

    def close(self) -> None:
        with self._closing:
            with suppress(ProcessLookupError):  # it may have left others, who hold the pipes
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._listener.join(END_SECONDS)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                with suppress(OSError):
                    _pipe(pipe).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


class SSHCommand(_Running):
    """A channel of a connection. `on_close` closes it and gives up its place."""

    def __init__(self, channel: paramiko.Channel, name: str, on_close: Callable[[], None]) -> None:
        self._channel = channel
        self._name = name
        self._on_close = on_close
        super().__init__(channel.recv_stderr)

    def write(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except OSError as error:
            self._demand_connection()
            raise CommandFailed("The command ended too early.", -1, str(error)) from error
        except (EOFError, paramiko.SSHException) as error:
            raise self._lost() from error

    def end_input(self) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):  # which `read` says
            self._channel.shutdown_write()

    def read(self, limit: int) -> bytes:
        try:
            data = self._channel.recv(limit)  # which sends word of it, now and then
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._lost() from error
        if not data:
            self._demand_connection()
        return data

    def wait(self) -> int:
        if not self._channel.status_event.wait(END_SECONDS):
            self._demand_connection()
            raise CommandFailed("The command does not end.", -1, "")
        self._demand_connection()
        return self._channel.exit_status

    def close(self) -> None:
        self._on_close()

    def _demand_connection(self) -> None:
        if not self._channel.get_transport().is_active():
            raise self._lost()

    def _lost(self) -> HostUnreachable:
        self._channel.get_transport().close()  # the next verb opens a new one
        return HostUnreachable(f"The connection to {self._name} was lost. Try again.")
