"""The terminals of a host over SSH.

They have connections of their own, so commands and files go on however many terminals there are and
whatever they print.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

import paramiko

from ood.errors import HostBusy
from ood.hosts.base import LOGIN_SHELL_SCRIPT
from ood.hosts.connection import SharedConnection
from ood.quoting import command_line

WINDOW = 128 * 1024
"""Bytes that a terminal may print before they are read, and so may still appear after Ctrl-C."""


class SSHTerminal:
    """A shell in a pseudo-terminal of an SSH host. Closing the channel hangs it up."""

    def __init__(self, channel: paramiko.Channel, on_close: Callable[[], None]) -> None:
        channel.settimeout(0.0)
        self._channel = channel
        self._on_close = on_close

    def fileno(self) -> int:
        return self._channel.fileno()

    def read(self, limit: int) -> bytes:
        try:
            return self._channel.recv(limit)
        except TimeoutError:
            raise BlockingIOError from None

    def write(self, data: bytes) -> int:
        try:
            return self._channel.send(data)
        except OSError:  # it accepts no more for now, or has ended
            return 0

    def resize(self, columns: int, rows: int) -> None:
        with suppress(paramiko.SSHException):  # the shell has ended, which `read` reports
            self._channel.resize_pty(columns, rows)

    @property
    def lost(self) -> bool:
        return not self._channel.eof_received

    def close(self) -> None:
        self._on_close()


class Terminals:
    """`new` makes one more connection to the host, which is not open yet."""

    def __init__(self, new: Callable[[], SharedConnection]) -> None:
        self._new = new
        self._lock = threading.Lock()  # guards `_connections`
        self._connections: list[SharedConnection] = []

    def open(self, cwd: str, columns: int, rows: int) -> SSHTerminal:
        """Start the user's login shell. Raises `HostError`."""
        line = command_line(["sh", "-c", LOGIN_SHELL_SCRIPT, "sh", cwd])
        full: set[SharedConnection] = set()
        while True:
            connection, is_new = self._with_slot(full)
            with ExitStack() as undo:
                undo.callback(connection.slots.release)
                with connection.connected() as transport:
                    try:
                        wait = None if is_new else 0.0
                        channel = connection.open_session(transport, wait, WINDOW)
                    except HostBusy:  # the site allows fewer channels than stock sshd
                        if is_new:
                            raise
                        full.add(connection)
                        continue
                    undo.callback(channel.close)
                    channel.get_pty("xterm-256color", columns, rows)
                    channel.exec_command(line.encode("utf-8", "surrogateescape"))
                return SSHTerminal(channel, undo.pop_all().close)

    def close(self) -> None:
        for connection in self._all():
            connection.close()

    def close_if_idle(self, seconds: float) -> None:
        for connection in self._all():
            connection.close_if_idle(seconds)

    def _with_slot(self, full: set[SharedConnection]) -> tuple[SharedConnection, bool]:
        """Reserve a slot on a connection that is not `full`, or else on a new one. Return the
        connection and whether it is new."""
        with self._lock:
            for connection in self._connections:
                if connection not in full and connection.slots.acquire(blocking=False):
                    return connection, False
            connection = self._new()
            connection.slots.acquire()
            self._connections.append(connection)
            return connection, True

    def _all(self) -> list[SharedConnection]:
        with self._lock:
            return list(self._connections)
