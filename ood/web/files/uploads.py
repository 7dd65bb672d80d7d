"""Uploads: parts of files as the page's script sends them, and forms of browsers without one.

Bytes go from the socket to the user's host as they come; the portal holds one piece at a time.
These addresses have a place of their own in the web server's configuration: bodies stream there.
"""

from __future__ import annotations

import posixpath
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

from flask import Blueprint, Flask, Response, flash, jsonify, redirect, request
from flask_wtf.csrf import CSRFError, validate_csrf
from pydantic import BaseModel, Field, TypeAdapter
from pydantic import ValidationError as NotValid
from werkzeug.exceptions import BadRequest, ClientDisconnected, HTTPException, LengthRequired
from werkzeug.sansio.multipart import Data, Epilogue, Event, File, MultipartDecoder, NeedData
from werkzeug.sansio.multipart import Field as FormField
from werkzeug.wrappers import Response as BaseResponse
from wtforms import ValidationError

from ood.errors import FileExists, FileFailed, FileMissing, HostError, PortalError, UploadElsewhere
from ood.hosts.base import shown
from ood.transfers.names import part_name
from ood.transfers.parts import IfThere, Upload
from ood.web.addresses import asked_path, canonical, files_address, for_audit, is_possible
from ood.web.current import note, portal, user
from ood.web.files.access import FileAccess, Operation, file_access

bp = Blueprint("uploads", __name__, url_prefix="/uploads")

PIECE = 4 * 255 * 1024  # bytes: what SFTP moves with four requests, and gunicorn with one look
MAX_PART = 64 * 1024 * 1024  # bytes of one request of the page's script
MAX_FORM = 1024 * 1024 * 1024  # bytes of a form: it cannot go on after a break
MAX_FIELD = 1000  # bytes of a form's field that is no file
SILENCE = 60.0  # seconds without a byte from the browser

LATE = 60.0  # seconds
NEVER = float("-inf")

_cancelled: dict[tuple[str, str], float] = {}
"""Parts of users that were cancelled, and when. What the browser sent of one before that can be
looked at after it, on a busy machine, and would be left."""


class ChosenFile(BaseModel):
    """A file as the browser knows it: its path below the directory, bytes, and ms since 1970."""

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    size: Annotated[int, Field(ge=0, lt=2**62)]
    modified: Annotated[int, Field(gt=-(2**62), lt=2**62)]


class Plan(BaseModel):
    """What somebody has chosen. Directories are made, empty ones too."""

    files: Annotated[list[ChosenFile], Field(max_length=1000)]
    directories: Annotated[list[str], Field(max_length=1000)] = []


_CHOSEN: TypeAdapter[ChosenFile] = TypeAdapter(ChosenFile)


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)
    app.jinja_env.globals["max_form"] = MAX_FORM


@bp.post("/<host>/<rest:path>", merge_slashes=False)
def post(host: str, path: str) -> BaseResponse:  # noqa: ARG001 - see asked_path
    """Before parts are sent: what is there. Or a whole form with files."""
    if not request.is_json:
        with portal().turns.turn(user()):
            return _form(host)
    _check_token(request.headers.get("X-CSRFToken", ""))
    access, directory = _place(host)
    try:
        plan = Plan.model_validate(request.get_json())
    except NotValid as error:
        raise BadRequest from error
    for each in plan.directories:
        _made(access, directory, _names(each))
    return jsonify(files=_there(access, directory, plan.files))


@bp.put("/<host>/<rest:path>", merge_slashes=False)
def part(host: str, path: str) -> BaseResponse:  # noqa: ARG001
    """A part of a file, from `offset` on. Without one, what came of it: `done` says that it is
    whole and has its name."""
    _check_token(request.headers.get("X-CSRFToken", ""))
    request.max_content_length = MAX_PART
    if request.content_length is None:
        raise LengthRequired
    access, directory = _place(host)
    with portal().turns.turn(user()):
        upload = _upload(access, directory, make=True)
        try:
            offset = int(request.args["offset"])
            if_there = IfThere(request.args["if_there"])
        except ValueError as error:
            raise BadRequest from error
        try:
            got = upload.write(offset, _pieces())
        except ClientDisconnected:
            if time.monotonic() - _cancelled.get((user(), upload.part), NEVER) < LATE:
                upload.cancel()
            raise
        except UploadElsewhere as error:
            answer = jsonify(
                error={"code": error.code, "message": error.message}, offset=error.offset
            )
            answer.status_code = error.http_status
            return answer
        if got < upload.size:
            return jsonify(offset=got, done=False)
        return jsonify(offset=got, done=True, name=_finished(access, upload, if_there))


@bp.delete("/<host>/<rest:path>", merge_slashes=False)
def cancel(host: str, path: str) -> BaseResponse:  # noqa: ARG001
    """Nothing of this file is wanted any more."""
    _check_token(request.headers.get("X-CSRFToken", ""))
    access, directory = _place(host)
    with suppress(FileMissing):
        upload = _upload(access, directory)
        now = time.monotonic()
        for key in [key for key, when in _cancelled.items() if now - when > LATE]:
            _cancelled.pop(key, None)
        _cancelled[user(), upload.part] = now
        upload.cancel()
    return Response(status=204)


def _place(host: str) -> tuple[FileAccess, str]:
    """Where an upload goes, and by what path it was asked for."""
    access = file_access(host)
    path = canonical(asked_path())
    if not is_possible(path):
        raise FileMissing(f"There is no {shown(path)}.")
    access.demand(Operation.UPLOAD)
    return access, path


def _check_token(token: str) -> None:
    """This blueprint does it itself: the usual way reads the whole form to find the token."""
    try:
        validate_csrf(token)
    except ValidationError as error:
        raise CSRFError(error.args[0]) from error


def _names(path: str) -> list[str]:
    names = path.split("/")
    if not is_possible("/" + path) or {"", ".", ".."} & {*names}:
        raise FileFailed(f"{shown(path)} cannot be the name of a file here.")
    return names


def _made(access: FileAccess, directory: str, names: list[str]) -> str:
    """The real path of a directory below another one; what is missing of it is made."""
    path = posixpath.join(directory, *names)
    try:
        real = access.end(path, Operation.UPLOAD)
        if not access.files.stat(real).is_directory:
            raise FileExists(f"{shown(path)} is there already, and is no directory.")
        return real
    except FileMissing:
        if not names:
            raise
    _made(access, directory, names[:-1])
    with suppress(FileExists):  # another file of the same directory was quicker
        access.files.mkdir(access.name(path, Operation.UPLOAD))
    return access.end(path, Operation.UPLOAD)


def _there(access: FileAccess, directory: str, files: list[ChosenFile]) -> list[dict[str, Any]]:
    """For each file, how much of it came earlier, and whether its name is taken."""
    listed: dict[str, dict[str, int]] = {}
    found = []
    for file in files:
        *above, name = _names(file.name)
        where = posixpath.join(directory, *above)
        if where not in listed:
            try:
                entries = access.files.list(access.end(where))
            except FileMissing:
                entries = []
            listed[where] = {entry.name: entry.size for entry in entries}
        known = listed[where]
        received = known.get(part_name(name, file.size, file.modified), 0)
        found.append({"offset": received, "there": name in known})
    return found


def _upload(access: FileAccess, directory: str, make: bool = False) -> Upload:
    """The upload that a part's address names."""
    try:
        file = _CHOSEN.validate_python(request.args.to_dict())
    except NotValid as error:
        raise BadRequest from error
    *above, name = _names(file.name)
    if make:
        real = _made(access, directory, above)
    else:
        real = access.end(posixpath.join(directory, *above), Operation.UPLOAD)
    return Upload(access.machine, real, name, file.size, file.modified)


def _finished(access: FileAccess, upload: Upload, if_there: IfThere) -> str:
    name = upload.finish(if_there)
    path = posixpath.join(upload.directory, name)
    note("file-uploaded", user(), host=access.machine.name, object=for_audit(path))
    return name


def _pieces() -> Iterator[bytes]:
    """The body as it comes. Raises `ClientDisconnected` when it breaks off."""
    if connection := request.environ.get("gunicorn.socket"):
        connection.settimeout(SILENCE)  # until gunicorn has it back
    left = request.content_length or 0
    try:
        while left and (data := request.stream.read(min(left, PIECE))):
            left -= len(data)
            yield data
    except OSError as error:
        raise ClientDisconnected from error
    if left:
        raise ClientDisconnected


# ---- Forms


def _form(host: str) -> BaseResponse:
    """Each file of a form as it comes. One that cannot be written does not keep the others back."""
    request.max_content_length = MAX_FORM
    if request.mimetype != "multipart/form-data" or request.content_length is None:
        raise CSRFError("the token is in a form")
    events = _events(request.mimetype_params.get("boundary", ""))
    access, real = None, ""
    if_there = IfThere.REFUSE
    done, problems = [], []
    for event in events:
        if isinstance(event, FormField):
            value = b"".join(_data(events, MAX_FIELD)).decode("utf-8", "replace")
            if event.name == "csrf_token":
                _check_token(value)
                access, directory = _place(host)
                real = access.end(directory, Operation.UPLOAD)
            elif event.name == "if_there" and value in list(IfThere):
                if_there = IfThere(value)
        elif isinstance(event, File):
            if access is None:
                raise CSRFError("the token comes first")
            data = _data(events)
            try:
                done += _take(access, real, event.filename, data, if_there)
            except HostError as error:
                problems.append(error)
            for _ in data:  # what is left of it is not wanted
                pass
    if access is None:
        raise CSRFError("there is no token")
    for problem in problems:
        flash(problem.message)
    if done:
        flash(f"Uploaded {done[0] if len(done) == 1 else f'{len(done)} files'}.", "done")
    elif not problems:
        flash("No file was chosen. Choose one, and press Upload again.")
    return redirect(files_address(access.id, directory), 303)


def _take(
    access: FileAccess, directory: str, name: str, data: Iterator[bytes], if_there: IfThere
) -> list[str]:
    """One file of a form; its name in words, or nothing where no file was chosen."""
    if not name:
        return []
    (name,) = _names(name.rpartition("/")[2])
    upload = Upload(access.machine, directory, name, MAX_FORM, secrets.randbits(60))
    if if_there is IfThere.REFUSE:
        with suppress(FileMissing):
            access.files.lstat(upload.target)
            raise FileExists(f"There is a {shown(name)} already, which was left as it is.")
    try:
        upload.write(0, data)
        return [shown(_finished(access, upload, if_there))]
    except (PortalError, HTTPException):  # the browser breaking off is one of these
        upload.cancel()
        raise


def _events(boundary: str) -> Iterator[Event]:
    """What a form holds, piece by piece."""
    decoder = MultipartDecoder(boundary.encode("latin-1", "replace"), 4 * PIECE, max_parts=1000)
    try:
        for piece in _pieces():
            decoder.receive_data(piece)
            while not isinstance(event := decoder.next_event(), NeedData):
                yield event
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue):
            yield event
    except ValueError as error:
        raise BadRequest from error


def _data(events: Iterator[Event], limit: int | None = None) -> Iterator[bytes]:
    """The bytes of one field, or of one file."""
    size = 0
    for event in events:
        assert isinstance(event, Data)
        size += len(event.data)
        if limit is not None and size > limit:
            raise BadRequest
        yield event.data
        if not event.more_data:
            return
