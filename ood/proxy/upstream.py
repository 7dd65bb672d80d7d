"""HTTP/1.1 to a service over dialled connections. Bodies stream, and connections are reused."""

from __future__ import annotations

import errno
import http.client
import io
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ood.errors import HostUnreachable, ServiceSilent
from ood.help_topics import HelpTopic
from ood.hosts.base import Stream
from ood.proxy.headers import Headers

RECEIVE = 256 * 1024
BODY_PATIENCE = 300.0  # seconds without a byte in the middle of a body
IDLE_CONNECTIONS = 6  # of one service: as many as one browser opens
LEFT_REQUESTS = 6  # of one service, without a response yet
UNREAD_SECONDS = 1.0  # within which a service closes a connection on which it reads nothing more
MAX_HEAD = 64 * 1024  # bytes of the response to an upgrade

RequestBody = Iterable[bytes] | None
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upgraded:
    """A service's response to an upgrade, and the connection. `first` holds bytes after the
    response that have been read already."""

    status: int
    headers: Headers
    stream: Stream
    first: bytes


class Upstream:
    """The connections to one service. `dial` opens a new one.

    `request` and `upgrade` raise `HostUnreachable` when the service cannot be reached or hangs up,
    and `ServiceSilent` when it does not start to respond within `patience` seconds. So do `send`,
    and `response` of what it returns.
    """

    def __init__(self, dial: Callable[[], Stream]) -> None:
        self._dial = dial
        self._lock = threading.Lock()  # guards _idle and _left
        self._idle: list[tuple[float, _Connection]] = []
        self._left: dict[Hashable, tuple[float, SentRequest]] = {}

    def request(
        self, method: str, target: str, headers: Headers, body: RequestBody, patience: float
    ) -> UpstreamResponse:
        """Send a request; return the response once its headers are there."""
        sent = self.send(method, target, headers, body, patience)
        with ExitStack() as undo:
            undo.callback(sent.close)
            response = sent.response(patience)
            undo.pop_all()
        return response

    def send(
        self, method: str, target: str, headers: Headers, body: RequestBody, patience: float
    ) -> SentRequest:
        """Send a request. A body goes in chunks if there is no Content-Length among `headers`."""

        def on(connection: _Connection) -> _Connection:
            connection.send_request(method, target, headers, body, patience)
            return connection

        with _errors_named():
            used = self._take_idle() if body is None and method in ("GET", "HEAD") else None
            again = (lambda: on(_Connection(self._dial()))) if used else None
            return SentRequest(self, on(used or _Connection(self._dial())), again)

    def leave(self, key: Hashable, sent: SentRequest) -> None:
        """Keep a request that has no response yet for somebody who asks for the same soon."""
        with self._lock:
            same = self._left.pop(key, None)
            full = len(self._left) >= LEFT_REQUESTS
            oldest = self._left.pop(next(iter(self._left))) if full else None
            self._left[key] = time.monotonic(), sent
        for dropped in (same, oldest):
            if dropped is not None:
                dropped[1].close()

    def left(self, key: Hashable) -> SentRequest | None:
        """The request that was left with this key, which is now the caller's."""
        with self._lock:
            found = self._left.pop(key, None)
        return found[1] if found else None

    def upgrade(self, target: str, headers: Headers, patience: float) -> Upgraded:
        """Ask for a WebSocket. With a status other than 101, the service refused and the connection
        is closed."""
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
                    raise http.client.BadStatusLine("no response to an upgrade")
                data += more
            head, _, first = data.partition(b"\r\n\r\n")
            line, _, fields = head.partition(b"\r\n")
            _, status, *_reason = line.decode("latin-1").split(" ", 2)
            found = http.client.parse_headers(io.BytesIO(fields + b"\r\n\r\n"))
            if int(status) == http.client.SWITCHING_PROTOCOLS:
                undo.pop_all()
            return Upgraded(int(status), found.items(), stream, first)

    def close_idle(self, seconds: float) -> None:
        """Close the connections that have not been used for `seconds`."""
        before = time.monotonic() - seconds
        with self._lock:
            closing = [connection for since, connection in self._idle if since <= before]
            self._idle = [kept for kept in self._idle if kept[0] > before]
            old = [key for key, (since, _) in self._left.items() if since <= before]
            left = [self._left.pop(key)[1] for key in old]
        for connection in closing:
            connection.hang_up()
        for sent in left:
            sent.close()

    def keep(self, connection: _Connection) -> bool:
        """Keep a connection for another request; return False if there are enough of them."""
        with self._lock:
            if len(self._idle) >= IDLE_CONNECTIONS:
                return False
            self._idle.append((time.monotonic(), connection))
            return True

    def _take_idle(self) -> _Connection | None:
        with self._lock:
            return self._idle.pop()[1] if self._idle else None


class SentRequest:
    """A request that a service has, which the caller closes unless there is a response. `again`
    sends it on a new connection; None if this one is new."""

    def __init__(
        self,
        upstream: Upstream,
        connection: _Connection,
        again: Callable[[], _Connection] | None = None,
    ) -> None:
        self._upstream = upstream
        self._connection = connection
        self._again = again
        self._sent_at = time.monotonic()

    def response(self, patience: float) -> UpstreamResponse:
        """The response, once its headers are there. After `ServiceSilent`, call this again to wait
        for longer: the service has the request still."""
        with _errors_named():
            try:
                return self._receive(patience)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                self.close()
                # If the service had read the request, it would have taken longer to close.
                if self._again is None or time.monotonic() - self._sent_at > UNREAD_SECONDS:
                    raise
            self._connection, self._again = self._again(), None
            return self._receive(patience)

    def _receive(self, patience: float) -> UpstreamResponse:
        self._connection.wait(patience)
        with ExitStack() as undo:
            undo.callback(self.close)
            response = self._connection.getresponse()
            if response.status < 200:  # not valid here; http.client has skipped 100
                raise http.client.BadStatusLine(str(response.status))
            undo.pop_all()
        return UpstreamResponse(self._upstream, self._connection, response)

    def close(self) -> None:
        self._connection.hang_up()


class UpstreamResponse:
    """A service's response, which the caller closes. Iterating over it returns the body as it
    arrives. At the end of the body the connection can be used again."""

    def __init__(
        self, upstream: Upstream, connection: _Connection, response: http.client.HTTPResponse
    ) -> None:
        self.status = f"{response.status} {response.reason}"
        self.headers = response.getheaders()
        self._upstream = upstream
        self._connection = connection
        self._response = response
        self._closed = False
        if response.length == 0:  # such as in a 304, or in the response to a HEAD
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
        if self._response.length:  # the connection dropped, which http.client does not report
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
        self._first = b""  # bytes of a response that `wait` has read
        self.sock: Any = SimpleNamespace(  # the part of a socket that http.client uses
            sendall=stream.sendall,
            makefile=lambda _mode: io.BufferedReader(_Reader(self.receive), RECEIVE),
            close=lambda: None,  # see `hang_up`
        )

    def send_request(
        self, method: str, target: str, headers: Headers, body: RequestBody, patience: float
    ) -> None:
        with ExitStack() as undo:
            undo.callback(self.hang_up)
            self.stream.settimeout(patience)
            self.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                self.putheader(name, value)
            sized = any(name.lower() == "content-length" for name, _ in headers)
            if body is not None and not sized:
                self.putheader("Transfer-Encoding", "chunked")
            try:
                self.endheaders(body, encode_chunked=not sized)
            except TimeoutError:
                raise
            except OSError as error:  # the service may respond without reading all of the body
                log.debug("could not send a whole request to a service: %s", error)
            undo.pop_all()

    def wait(self, seconds: float) -> None:
        """Wait until a response begins. Raises TimeoutError, after which it may be called again."""
        self.stream.settimeout(seconds)
        self._first = self.stream.recv(RECEIVE)
        self.stream.settimeout(BODY_PATIENCE)

    def receive(self, limit: int) -> bytes:
        first, self._first = self._first[:limit], self._first[limit:]
        return first or self.stream.recv(limit)

    def hang_up(self) -> None:
        """Close the connection. http.client calls `close` before the body has been read, so that
        closes nothing."""
        self.close()
        self.stream.close()


class _Reader(io.RawIOBase):
    """Reads a connection. http.client closes the reader after each body; the stream stays open."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._receive(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _errors_named() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ServiceSilent("The service did not answer in time.", str(error)) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise HostUnreachable(
            "The service closed the connection.",
            f"{type(error).__name__} {error}",
            topic=HelpTopic.SERVICE,
        ) from error


def _broken_off() -> OSError:
    """The error for an incomplete response. gunicorn logs no traceback for this errno."""
    return ConnectionResetError(errno.ECONNRESET, "the service did not finish its response")
