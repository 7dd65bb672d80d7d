"""SSH channels: closing them safely, and collecting the output of a command."""

import selectors
import threading
import time

import paramiko

from ood.errors import CommandFailed
from ood.hosts.base import MAX_OUTPUT, CommandResult

RECEIVE_SIZE = 2**21  # bytes: paramiko's whole window, as reading a part of it moves the rest


class QuietChannel(paramiko.Channel):
    """A channel that can be closed at any moment: while data arrives, and when its connection has
    dropped unnoticed.

    Paramiko closes the pipe behind `fileno` while its own thread may be about to write to it. The
    write then ends the whole connection, or goes to another file that got the same number.
    """

    def close(self) -> None:
        for buffer in (self.in_buffer, self.in_stderr_buffer):
            buffer.set_event(threading.Event())  # waits for a write that is under way
        try:
            super().close()
        except (EOFError, OSError, paramiko.SSHException):  # the peer could not be notified
            self.get_transport().close()

    def shutdown_write(self) -> None:
        """Send the end of the input while holding the channel's lock, which guards its state.

        Paramiko releases the lock first. If the command ends in between, its thread answers the
        close, and sshd ends the whole connection when the end of the input comes after that.
        """
        with self.lock:
            message = self._send_eof()  # type: ignore[attr-defined]  # unknown to the stubs
            if message is not None:
                self.get_transport()._send_user_message(message)  # type: ignore[attr-defined]


def quiet(channel: paramiko.Channel) -> QuietChannel:
    """Turn a channel into a quiet one. Paramiko creates its channels itself."""
    channel.__class__ = QuietChannel
    assert isinstance(channel, QuietChannel)
    return channel


def collect(channel: paramiko.Channel, deadline: float) -> CommandResult:
    """Read both outputs of a command to their end, as they arrive: unread standard error would fill
    the channel's only window. Raises TimeoutError at `deadline` (monotonic)."""
    outputs: tuple[list[bytes], list[bytes]] = ([], [])
    size = 0
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        while True:
            ended = channel.eof_received or channel.closed  # first: more may arrive meanwhile
            chunk = b""
            for chunks, ready, receive in (
                (outputs[0], channel.recv_ready, channel.recv),
                (outputs[1], channel.recv_stderr_ready, channel.recv_stderr),
            ):
                if ready():
                    chunk = receive(RECEIVE_SIZE)
                    chunks.append(chunk)
                    size += len(chunk)
            if size > MAX_OUTPUT:
                raise CommandFailed("The command printed too much output.", -1, "")
            if chunk:
                continue
            if ended:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            selector.select(min(left, 1))  # with two outputs, paramiko can fail to wake us
    if not channel.status_event.wait(max(deadline - time.monotonic(), 0.1)):
        raise TimeoutError
    # Without a status, a signal ended the command, unless the connection dropped.
    alive = channel.eof_received and channel.get_transport().is_active()
    if channel.exit_status == -1 and not alive:
        raise EOFError("the connection closed before the command ended")
    return CommandResult(b"".join(outputs[0]), b"".join(outputs[1]), channel.exit_status)
