"""Reads the bodies of uploads as they arrive: parts of files, and forms with complete files. The
portal holds one piece at a time."""

from collections.abc import Iterator

from flask import request
from flask_wtf.csrf import CSRFError, validate_csrf
from werkzeug.exceptions import BadRequest, ClientDisconnected
from werkzeug.sansio.multipart import Data, Epilogue, Event, MultipartDecoder, NeedData
from wtforms import ValidationError

PIECE = 4 * 255 * 1024  # bytes: what SFTP moves with four requests, and gunicorn reads at once
BROWSER_TIMEOUT = 60.0  # seconds without a byte from the browser
MAX_FORM_PARTS = 1000


def check_token(token: str) -> None:
    """Raises `CSRFError` for a wrong CSRF token. (Flask-WTF would read the whole form first.)"""
    try:
        validate_csrf(token)
    except ValidationError as error:
        raise CSRFError(error.args[0]) from error


def pieces() -> Iterator[bytes]:
    """The body of the request as it arrives. Raises `ClientDisconnected` if it ends too early."""
    if connection := request.environ.get("gunicorn.socket"):
        connection.settimeout(BROWSER_TIMEOUT)  # gunicorn resets it for the next request
    left = request.content_length or 0
    try:
        while left and (data := request.stream.read(min(left, PIECE))):
            left -= len(data)
            yield data
    except OSError as error:
        raise ClientDisconnected from error
    if left:
        raise ClientDisconnected


def form_events() -> Iterator[Event]:
    """The fields and files of a form as they arrive. Raises `BadRequest`."""
    boundary = request.mimetype_params.get("boundary", "").encode("latin-1", "replace")
    decoder = MultipartDecoder(boundary, 4 * PIECE, max_parts=MAX_FORM_PARTS)
    try:
        for piece in pieces():
            decoder.receive_data(piece)
            while not isinstance(event := decoder.next_event(), NeedData):
                yield event
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue):
            yield event
    except ValueError as error:
        raise BadRequest from error


def field_data(events: Iterator[Event], limit: int | None = None) -> Iterator[bytes]:
    """The bytes of the field or file whose event came last. Raises `BadRequest` above `limit`."""
    size = 0
    for event in events:
        assert isinstance(event, Data)
        size += len(event.data)
        if limit is not None and size > limit:
            raise BadRequest
        yield event.data
        if not event.more_data:
            return
