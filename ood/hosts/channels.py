"""What runs on an SSH channel: a command to its end, or a terminal."""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import paramiko

from ood.errors import CommandFailed
from ood.hosts.base import MAX_OUTPUT, CommandResult

RECEIVE_SIZE = 2**21  # all that fits paramiko's window: taking a part of it moves the rest


class QuietChannel(paramiko.Channel):
    """A channel that can be closed at any moment: while data comes in, and when its connection has
    been lost and nobody has noticed yet.

    Paramiko closes the pipe behind `fileno` while its own thread may be about to write into it:
    into a closed file, which ends the whole connection, or into what has its number by then.
    """

    def close(self) -> None:
        for buffer in (self.in_buffer, self.in_stderr_buffer):
            buffer.set_event(threading.Event())  # waits for who is writing now
        try:
            super().close()
        except (EOFError, OSError, paramiko.SSHException):  # the peer could not be told
            self.get_transport().close()


def quiet(channel: paramiko.Channel) -> QuietChannel:
    """Paramiko makes its channels itself, so one becomes a quiet one afterwards."""
    channel.__class__ = QuietChannel
    assert isinstance(channel, QuietChannel)
    return channel


class SSHTerminal:
    """A shell in a pseudo-terminal of the far host; closing the channel hangs it up."""

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
        except OSError:  # it takes no more for now, or has gone
            return 0

    def resize(self, columns: int, rows: int) -> None:
        with suppress(paramiko.SSHException):  # the shell has gone, which `read` says
            self._channel.resize_pty(columns, rows)

    @property
    def lost(self) -> bool:
        return not self._channel.eof_received

    def close(self) -> None:
        self._on_close()


def collect(channel: paramiko.Channel, deadline: float) -> CommandResult:
    """Read both outputs of a command to their end. Raises TimeoutError at `deadline` (monotonic).

    Both are read as they come: an unread standard error would fill the channel's one window.
    """
    outputs: tuple[list[bytes], list[bytes]] = ([], [])
    size = 0
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        while True:
            ended = channel.eof_received or channel.closed  # asked first: more may come meanwhile
            came = b""
            for chunks, ready, receive in (
                (outputs[0], channel.recv_ready, channel.recv),
                (outputs[1], channel.recv_stderr_ready, channel.recv_stderr),
            ):
                if ready():
                    came = receive(RECEIVE_SIZE)
                    chunks.append(came)
                    size += len(came)
            if size > MAX_OUTPUT:
                raise CommandFailed("A command printed far more than it should.", -1, "")
            if came:
                continue
            if ended:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            selector.select(min(left, 1))  # with two outputs, paramiko can miss to wake us
    if not channel.status_event.wait(max(deadline - time.monotonic(), 0.1)):
        raise TimeoutError
    # Without a status, a signal ended the command, unless the connection ended under it.
    alive = channel.eof_received and channel.get_transport().is_active()
    if channel.exit_status == -1 and not alive:
        raise EOFError("the connection closed before the command ended")
    return CommandResult(b"".join(outputs[0]), b"".join(outputs[1]), channel.exit_status)
