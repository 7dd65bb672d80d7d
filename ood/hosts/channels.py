"""SSH channels that can be closed safely."""

import threading
from collections.abc import Sequence

import paramiko


class QuietChannel(paramiko.Channel):
    """A channel that can be closed at any moment: while data arrives, and when its connection has
    dropped unnoticed.

    Paramiko closes the pipe behind `fileno` while its own thread may be about to write to it. The
    write then ends the whole connection, or goes to another file that got the same number.

    Paramiko also sends messages after it has released its lock, as it must while keys are
    exchanged. So one can follow the close that another thread sends, and sshd then ends the whole
    connection. Here, a close is sent after the messages that are on their way.
    """

    _in_flight = 0  # messages that are being sent
    _last_messages: Sequence[paramiko.Message | None] = ()  # for when they have been

    def close(self) -> None:
        for buffer in (self.in_buffer, self.in_stderr_buffer):
            buffer.set_event(threading.Event())  # waits for a write that is under way
        try:
            super().close()
        except (EOFError, OSError, paramiko.SSHException):  # the peer could not be notified
            self.get_transport().close()

    def shutdown_write(self) -> None:
        with self.lock:
            message = None if self.closed else self._send_eof()  # type: ignore[attr-defined]
            if message is None:
                return
            self._in_flight += 1
        try:
            self._transmit(message)
        finally:
            self._sent()

    def resize_pty(self, *arguments: int, **named: int) -> None:
        with self.lock:
            if self.closed:
                return
            self._in_flight += 1
        try:
            super().resize_pty(*arguments, **named)
        finally:
            self._sent()

    def _send(self, data: bytes, message: paramiko.Message) -> int:
        """As in paramiko, but counts the message before the lock is released."""
        with self.lock:
            if self.closed:
                raise OSError("the channel is closed")
            size: int = self._wait_for_send_window(len(data))  # type: ignore[attr-defined]
            if size == 0:
                return 0
            message.add_string(data[:size])
            self._in_flight += 1
        try:
            self._transmit(message)
        finally:
            self._sent()
        return size

    def _close_internal(self) -> Sequence[paramiko.Message | None]:
        """Requires: holding the channel's lock. Return what ends the channel, unless other messages
        are on their way: then `_sent` sends it."""
        messages: Sequence[paramiko.Message | None] = super()._close_internal()  # type: ignore[misc]
        if self._in_flight:
            self._last_messages, messages = messages, ()
        return messages

    def _sent(self) -> None:
        with self.lock:
            self._in_flight -= 1
            messages = self._last_messages if not self._in_flight else ()
            if messages:
                self._last_messages = ()
        for message in messages:
            if message is not None:
                self._transmit(message)

    def _transmit(self, message: paramiko.Message) -> None:
        self.get_transport()._send_user_message(message)  # type: ignore[attr-defined]


def quiet(channel: paramiko.Channel) -> QuietChannel:
    """Turn a channel into a quiet one. Paramiko creates its channels itself."""
    channel.__class__ = QuietChannel
    assert isinstance(channel, QuietChannel)
    return channel
