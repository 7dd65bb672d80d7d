"""The server's end of a WebSocket, on a non-blocking connection."""

import json
import logging
import socket
from collections.abc import Callable
from contextlib import suppress

from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

RECEIVE = 64 * 1024
MAX_MESSAGE = 64 * 1024  # bytes
LINGER = 5.0  # seconds to deliver the last message
HANDSHAKE = ("Connection", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version")

log = logging.getLogger(__name__)
log.setLevel(logging.WARNING)  # at lower levels the library logs input and output


class NoWebSocket(Exception):
    """The request is not a valid WebSocket handshake."""


class WebSocket:
    """One WebSocket, for one thread at a time."""

    def __init__(self, header: Callable[[str], str]) -> None:
        """Accept the handshake of a request; `header` returns the value of a header. `take` sends
        the response. Raises `NoWebSocket`."""
        self._protocol = ServerProtocol(max_size=MAX_MESSAGE, logger=log)
        lines = [f"{name}: {header(name)}" for name in HANDSHAKE]
        head = "\r\n".join(["GET / HTTP/1.1", *lines, "", ""])
        self._protocol.receive_data(head.encode("latin-1"))
        asked = self._protocol.events_received()
        if not asked or not isinstance(asked[0], Request):
            raise NoWebSocket
        answer = self._protocol.accept(asked[0])
        if answer.status_code != 101:
            raise NoWebSocket
        self._protocol.send_response(answer)
        self._waiting = bytearray()
        self._message: list[bytes] = []
        self._is_text = False
        self._connection: socket.socket | None = None

    def take(self, connection: socket.socket) -> None:
        """Take over the connection of the request. Raises OSError."""
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with suppress(OSError):  # a Unix socket has no such option
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self.flush()

    def fileno(self) -> int:
        assert self._connection is not None
        return self._connection.fileno()

    @property
    def is_open(self) -> bool:
        return self._protocol.state is State.OPEN

    @property
    def close_received(self) -> bool:
        """Whether the browser has closed it, or confirmed that it is closed."""
        return self._protocol.close_rcvd is not None

    @property
    def waiting(self) -> int:
        """Bytes that the connection does not accept yet."""
        return len(self._waiting)

    def receive(self) -> list[bytes | str]:
        """Return the messages that arrived, if any. Raises OSError for a closed connection."""
        assert self._connection is not None
        try:
            data = self._connection.recv(RECEIVE)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError
        self._protocol.receive_data(data)
        messages = []
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                self._is_text = frame.opcode is Opcode.TEXT
            elif frame.opcode is not Opcode.CONT:
                continue
            if frame.data:  # there may be any number of empty parts
                self._message.append(bytes(frame.data))
            if frame.fin:
                data, self._message = b"".join(self._message), []
                messages.append(data.decode("utf-8", "replace") if self._is_text else data)
        self.flush()
        return messages

    def send(self, message: bytes | str) -> None:
        """Send as much as the connection accepts now; `flush` sends the rest. Raises OSError."""
        with suppress(InvalidState):  # it is being closed
            if isinstance(message, str):
                self._protocol.send_text(message.encode())
            else:
                self._protocol.send_binary(message)
        self.flush()

    def ping(self) -> None:
        with suppress(InvalidState):
            self._protocol.send_ping(b"")
        self.flush()

    def end(self, reason: int) -> None:
        """Begin to close, with a status code of the protocol."""
        if self.is_open:
            self._protocol.send_close(reason)
        with suppress(OSError):
            self.flush()

    def refuse(self, code: str, message: str) -> None:
        """Send an error, wait until the browser has received it, and close."""
        assert self._connection is not None
        with suppress(OSError):
            self._connection.settimeout(LINGER)
            self.send(json.dumps({"end": code, "message": message}))
            self.end(CloseCode.NORMAL_CLOSURE)
            while not self.close_received:
                self.receive()
        self.close()

    def flush(self) -> None:
        """Send as much of the waiting data as the connection accepts. Raises OSError."""
        assert self._connection is not None
        for data in self._protocol.data_to_send():
            self._waiting += data
        with suppress(BlockingIOError):
            while self._waiting:
                sent = self._connection.send(self._waiting)
                del self._waiting[:sent]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
