"""Bodies of requests and answers, which stream through: nothing is held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from werkzeug.exceptions import ClientDisconnected

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

READ = 256 * 1024


def body_of(environ: WSGIEnvironment) -> Iterator[bytes] | None:
    """A request's body as it comes; None when there is none."""
    chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    if not chunked and environ.get("CONTENT_LENGTH", "0") in ("", "0"):
        return None
    return _parts(environ["wsgi.input"].read, 0 if chunked else int(environ["CONTENT_LENGTH"]))


def _parts(read: Callable[[int], bytes], left: int) -> Iterator[bytes]:
    """A body, part by part. Raises `ClientDisconnected` when the browser breaks off: the service is
    then hung up on, and neither takes a part for the whole nor waits for the rest."""
    try:
        while data := read(READ):
            left -= len(data)
            yield data
    except OSError as error:
        raise ClientDisconnected from error
    if left > 0:
        raise ClientDisconnected


class Held:
    """A body, and what is let go of when it has been sent."""

    def __init__(self, body: Iterator[bytes], let_go: Callable[[], None]) -> None:
        self._body = body
        self._let_go = let_go

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        self._let_go()
