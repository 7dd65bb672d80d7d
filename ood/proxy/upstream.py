"""HTTP/1.1 to a service over dialled connections: bodies stream, connections are used again."""

from __future__ import annotations

import errno
import http.client
import io
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from ood.errors import HostUnreachable
from ood.hosts.base import Stream
from ood.proxy.headers import Headers

RECEIVE = 256 * 1024
SILENCE = 300.0  # seconds without a byte in the middle of a body
IDLE_KEPT = 6  # connections of one service: as many as one browser opens
MAX_HEAD = 64 * 1024  # bytes of the answer to an upgrade

log = logging.getLogger(__name__)

Dial = Callable[[], Stream]


class ServiceSilent(HostUnreachable):
    """The service took the request and gave no answer in time."""


@dataclass(frozen=True)
class UpstreamResponse:
    """A service's answer. `body` is read as it comes, and has to be closed."""

    status: int
    reason: str
    headers: Headers
    body: _Body


@dataclass(frozen=True)
class Upgraded:
    """A service's answer to an upgrade, and the connection, from which `first` has been read."""

    status: int
    reason: str
    headers: Headers
    stream: Stream
    first: bytes


class Upstream:
    """The connections to one service; `dial` opens another one.

    `request` and `upgrade` raise `HostUnreachable` when the service cannot be reached or hangs up,
    `ServiceSilent` when it does not begin to answer within `patience` seconds.
    """

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._lock = threading.Lock()
        self._idle: list[tuple[float, _Connection]] = []

    def request(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: Iterable[bytes] | None,
        patience: float,
    ) -> UpstreamResponse:
        """Send a request; return the answer once its head is there. A body whose length is not
        among the headers goes in chunks."""
        with _errors_named():
            used = self._take_idle() if body is None and method in ("GET", "HEAD") else None
            if used is not None:
                try:
                    return self._exchange(used, method, target, headers, None, patience)
                except TimeoutError:
                    raise
                except (OSError, http.client.HTTPException):
                    pass  # it was closed before it heard us
            new = _Connection(self._dial())
            return self._exchange(new, method, target, headers, body, patience)

    def upgrade(self, target: str, headers: Headers, patience: float) -> Upgraded:
        """Ask for a WebSocket. With another status than 101 it was refused."""
        with _errors_named(), ExitStack() as undo:
            stream = self._dial()
            undo.callback(stream.close)
            stream.settimeout(patience)
            lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
            stream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            data = b""
            while b"\r\n\r\n" not in data:
                more = stream.recv(MAX_HEAD)
                if not more or len(data) > MAX_HEAD:
                    raise http.client.BadStatusLine("no answer to an upgrade")
                data += more
            head, _, first = data.partition(b"\r\n\r\n")
            line, _, fields = head.partition(b"\r\n")
            _, status, *reason = line.decode("latin-1").split(" ", 2)
            found = http.client.parse_headers(io.BytesIO(fields + b"\r\n\r\n"))
            if int(status) == http.client.SWITCHING_PROTOCOLS:
                undo.pop_all()
            return Upgraded(int(status), "".join(reason), found.items(), stream, first)

    def close_idle(self, seconds: float = 0.0) -> None:
        """Close the connections that nothing used for so long."""
        now = time.monotonic()
        with self._lock:
            closing = [one for since, one in self._idle if now - since >= seconds]
            self._idle = [kept for kept in self._idle if kept[1] not in closing]
        for connection in closing:
            connection.hang_up()

    def keep(self, connection: _Connection) -> bool:
        """Take back a connection whose answer has been read, unless there are enough."""
        with self._lock:
            if len(self._idle) >= IDLE_KEPT:
                return False
            self._idle.append((time.monotonic(), connection))
            return True

    def _take_idle(self) -> _Connection | None:
        with self._lock:
            return self._idle.pop()[1] if self._idle else None

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        target: str,
        headers: Headers,
        body: Iterable[bytes] | None,
        patience: float,
    ) -> UpstreamResponse:
        with ExitStack() as undo:
            undo.callback(connection.hang_up)
            connection.stream.settimeout(patience)
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            sized = any(name.lower() == "content-length" for name, _ in headers)
            if body is not None and not sized:
                connection.putheader("Transfer-Encoding", "chunked")
            try:
                connection.endheaders(body, encode_chunked=not sized)
            except TimeoutError:
                raise
            except OSError as error:  # it may have answered without hearing all of the body
                log.debug("sending to a service: %s", error)
            response = connection.getresponse()
            if response.status < 200:  # 100 has been waited out; nothing else makes sense here
                raise http.client.BadStatusLine(str(response.status))
            connection.stream.settimeout(SILENCE)
            undo.pop_all()
        body_parts = _Body(self, connection, response)
        return UpstreamResponse(response.status, response.reason, response.getheaders(), body_parts)


class _Body:
    """The body of an answer, part by part. Its end gives the connection back."""

    def __init__(
        self, upstream: Upstream, connection: _Connection, response: http.client.HTTPResponse
    ) -> None:
        self._upstream = upstream
        self._connection = connection
        self._response = response
        self._closed = False
        if response.length == 0:  # there is none: 304, for one, or an answer to HEAD
            self._finish()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._closed:
            raise StopIteration
        try:
            part = self._response.read1(RECEIVE)
        except (http.client.HTTPException, TimeoutError, ValueError) as error:
            raise _broken_off() from error
        if part:
            return part
        if self._response.length:  # http.client takes the end of a connection for that of the body
            raise _broken_off()
        self._finish()
        raise StopIteration

    def _finish(self) -> None:
        if not self._closed and not self._response.will_close:
            self._response.close()
            self._closed = self._upstream.keep(self._connection)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._response.close()
            self._connection.hang_up()


class _Connection(http.client.HTTPConnection):
    """http.client over a dialled stream."""

    auto_open = 0  # only `dial` opens connections

    def __init__(self, stream: Stream) -> None:
        super().__init__("service")
        self.stream = stream
        self.sock: Any = _Socket(stream)

    def hang_up(self) -> None:
        """Not `close`: http.client calls that while the body is still to be read."""
        self.close()
        self.stream.close()


class _Socket:
    """What http.client wants of a socket."""

    def __init__(self, stream: Stream) -> None:
        self.sendall = stream.sendall
        self._stream = stream

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._stream), RECEIVE)

    def close(self) -> None:
        """See `_Connection.hang_up`."""


class _Reader(io.RawIOBase):
    """A stream to read from. Closing it, as http.client does after each body, leaves it open."""

    def __init__(self, stream: Stream) -> None:
        self._recv = stream.recv

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _errors_named() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ServiceSilent("The service does not answer.", str(error)) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise HostUnreachable("The service hung up.", f"{type(error).__name__} {error}") from error


def _broken_off() -> OSError:
    """The errno is the one that gunicorn takes for an everyday event."""
    return ConnectionResetError(errno.ECONNRESET, "the service stopped in the middle of its answer")
