"""SSH channels that can be closed safely."""

import threading

import paramiko


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
