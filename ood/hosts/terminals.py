"""The terminals of a host over SSH, on connections of their own.

However many there are, and whatever they print, commands and files go on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ood.errors import HostUnreachable
from ood.hosts.base import LOGIN_SHELL_IN
from ood.hosts.channels import SSHTerminal
from ood.quoting import command_line

if TYPE_CHECKING:
    from ood.hosts.ssh import SSHHost

WINDOW = 128 * 1024
"""Bytes that a terminal may print before they are read: what there is to show yet after Ctrl-C."""


class TooMuch(HostUnreachable):
    """sshd, or we, allow no further channel on a connection."""


class Terminals:
    """`new` makes one more connection to the host, which is not open yet."""

    def __init__(self, new: Callable[[], SSHHost]) -> None:
        self._new = new
        self._lock = threading.Lock()
        self._connections: list[SSHHost] = []

    def open(self, cwd: str, columns: int, rows: int) -> SSHTerminal:
        """Start the user's login shell. Raises `HostError`."""
        line = command_line(["sh", "-c", LOGIN_SHELL_IN, "sh", cwd])
        full: set[SSHHost] = set()
        while True:
            connection, is_new = self._with_room(full)
            with ExitStack() as undo:
                undo.callback(connection.places.release)
                with connection.connected() as transport:
                    try:
                        patience = None if is_new else 0.0
                        channel = connection.open_session(transport, patience, WINDOW)
                    except TooMuch:  # some sites allow fewer than we think
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

    def _with_room(self, full: set[SSHHost]) -> tuple[SSHHost, bool]:
        """A connection with a place on it taken, and whether it was made for this."""
        with self._lock:
            for connection in self._connections:
                if connection not in full and connection.places.acquire(blocking=False):
                    return connection, False
            connection = self._new()
            connection.places.acquire()
            self._connections.append(connection)
            return connection, True

    def _all(self) -> list[SSHHost]:
        with self._lock:
            return list(self._connections)
