"""Terminals, on this machine and over SSH."""

import errno
import fcntl
import os
import pty
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import paramiko

from ood.errors import HostBusy
from ood.hosts.connection import SharedConnection
from ood.quoting import login_line

NOT_OPENED = (
    "Directory not found, or you do not have permission to open it. This is your home directory."
)
LOGIN_SHELL_SCRIPT = (
    f'[ -z "$1" ] || cd -- "$1" 2>/dev/null || {{ cd; echo "{NOT_OPENED}"; }}; '
    '[ -n "$LC_ALL$LC_CTYPE$LANG" ] || export LANG=C.UTF-8; '
    'exec "${SHELL:-/bin/sh}" -l'
)
"""What `sh -c` runs in terminals. `$1` is the directory to start in, or empty for home. Where the
account sets no locale, the character set is UTF-8, as in browsers."""
MOTD_SCRIPT = "[ -e ~/.hushlogin ] || cat /run/motd.dynamic /etc/motd /etc/motd.d/* 2>/dev/null; "
"""The message of the day, which sshd and PAM print only if no command is given."""
LOCALE = {"LANG": "C.UTF-8"}
TYPE = "xterm-256color"
WINDOW = 128 * 1024
"""Bytes that a terminal may print before they are read. So many may still appear after Ctrl-C."""


class LocalTerminal:
    """A login shell in a pseudo-terminal of this machine. `close` hangs it up and reaps it."""

    lost = False

    def __init__(self, home: str, cwd: str, columns: int, rows: int) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            try:
                os.chdir(home)
                os.environ["TERM"] = TYPE
                os.execvp("sh", ["sh", "-c", LOGIN_SHELL_SCRIPT, "sh", cwd])
            finally:
                os._exit(127)
        os.set_blocking(self._fd, False)
        self.resize(columns, rows)

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
    """The terminals of an SSH host. They have connections of their own, so any number of terminals
    leaves room for commands and files. `new` returns another connection, not yet open."""

    def __init__(self, new: Callable[[], SharedConnection]) -> None:
        self._new = new
        self._lock = threading.Lock()  # guards `_connections`
        self._connections: list[SharedConnection] = []

    def open(self, cwd: str, columns: int, rows: int) -> SSHTerminal:
        """Start the user's login shell. Raises `HostError`."""
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
                    channel.get_pty(TYPE, columns, rows)
                    if cwd:
                        channel.exec_command(login_line(MOTD_SCRIPT + LOGIN_SHELL_SCRIPT, cwd))
                    else:
                        channel.update_environment(LOCALE)  # many sites accept it
                        channel.invoke_shell()
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
