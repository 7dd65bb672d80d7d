"""Uploads: parts of files from the page's script, and forms from browsers without JavaScript. The
web server has its own settings for these addresses, because their bodies are streamed."""

import posixpath
import secrets
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

from flask import Blueprint, Response, flash, jsonify, redirect, request
from flask_wtf.csrf import CSRFError
from pydantic import BaseModel, Field
from werkzeug.exceptions import BadRequest, ClientDisconnected, HTTPException, LengthRequired
from werkzeug.sansio.multipart import Field as FormField
from werkzeug.sansio.multipart import File
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import FileExists, FileFailed, FileMissing, HostError, PortalError, UploadElsewhere
from ood.hosts.base import shown
from ood.hosts.rights import create_directory
from ood.transfers.names import part_name
from ood.transfers.parts import IfThere, Upload
from ood.web.addresses import files_address, for_audit, is_possible
from ood.web.current import note, portal, user
from ood.web.files.access import FileAccess, Operation, from_address
from ood.web.files.upload_bodies import check_token, field_data, form_events, pieces

bp = Blueprint("uploads", __name__, url_prefix="/uploads")

MAX_PART = 64 * 1024 * 1024  # bytes of one request of the page's script
MAX_FORM = 1024 * 1024 * 1024  # bytes of a form, which cannot be resumed
MAX_FIELD = 1000  # bytes of a form's field that is not a file
CANCEL_SECONDS = 60.0

_cancelled: deque[tuple[float, str, str]] = deque(maxlen=1000)
"""The last parts that were cancelled: when, by which user, and their paths. A request with earlier
data may be handled after the request that cancels it. Deques need no lock to append and copy."""


class ChosenFile(BaseModel):
    """A file on the user's computer. `name` is its path below the directory, `size` is in bytes,
    and `modified` in ms since 1970."""

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    size: Annotated[int, Field(ge=0, lt=2**62)]
    modified: Annotated[int, Field(gt=-(2**62), lt=2**62)]


class Plan(BaseModel):
    """The files to upload, and the directories to create."""

    files: Annotated[list[ChosenFile], Field(max_length=1000)]
    directories: Annotated[list[str], Field(max_length=1000)] = []


@bp.post("/<host>/<rest:path>", merge_slashes=False)
def post(host: str, path: str) -> BaseResponse:  # noqa: ARG001 - see asked_path
    """Report what already exists of the files in a plan, or store the files of a form."""
    if not request.is_json:
        with portal().stream_quota.hold(user()):
            return _form(host)
    check_token(request.headers.get("X-CSRFToken", ""))
    access, directory = from_address(host, Operation.UPLOAD)
    try:
        plan = Plan.model_validate(request.get_json())
    except ValueError as error:
        raise BadRequest from error
    for each in plan.directories:
        _make_directories(access, directory, _names(each))
    return jsonify(files=_existing(access, directory, plan.files))


@bp.put("/<host>/<rest:path>", merge_slashes=False)
def part(host: str, path: str) -> BaseResponse:  # noqa: ARG001
    """Append the body to a file at `offset`. The response says how much has arrived and, in `done`,
    whether the file is complete and has its final name."""
    check_token(request.headers.get("X-CSRFToken", ""))
    request.max_content_length = MAX_PART
    if request.content_length is None:
        raise LengthRequired
    access, directory = from_address(host, Operation.UPLOAD)
    with portal().stream_quota.hold(user()):
        upload = _upload(access, directory, make=True)
        try:
            offset = int(request.args["offset"])
            if_there = IfThere(request.args["if_there"])
        except ValueError as error:
            raise BadRequest from error
        try:
            offset = upload.write(offset, pieces(), if_there)
        except ClientDisconnected:
            for when, *what in _cancelled.copy():
                if what == [user(), upload.part] and time.monotonic() - when < CANCEL_SECONDS:
                    upload.cancel()
                    break
            raise
        except UploadElsewhere as error:
            problem = {"code": error.code, "message": error.message}
            response = jsonify(error=problem, offset=error.offset)
            response.status_code = error.http_status
            return response
        if offset < upload.size:
            return jsonify(offset=offset, done=False)
        return jsonify(offset=offset, done=True, name=_finished(access, upload, if_there))


@bp.delete("/<host>/<rest:path>", merge_slashes=False)
def cancel(host: str, path: str) -> BaseResponse:  # noqa: ARG001
    """Cancel the upload of a file, and remove what has arrived."""
    check_token(request.headers.get("X-CSRFToken", ""))
    access, directory = from_address(host, Operation.UPLOAD)
    with suppress(FileMissing):
        upload = _upload(access, directory)
        _cancelled.append((time.monotonic(), user(), upload.part))
        upload.cancel()
    return Response(status=204)


def _names(path: str) -> list[str]:
    """The names in a relative path that the browser sent. Raises `FileFailed`."""
    names = path.split("/")
    if not is_possible("/" + path) or {"", ".", ".."} & {*names}:
        raise FileFailed(f"{shown(path)} is not a valid name.")
    return names


def _make_directories(access: FileAccess, directory: str, names: list[str]) -> str:
    """Create the missing directories of a relative path; return its real path."""
    path = posixpath.join(directory, *names)
    try:
        real = access.resolved(path, Operation.UPLOAD)
        if not access.files.stat(real).is_directory:
            raise FileExists(f"{shown(path)} already exists and is not a directory.")
        return real
    except FileMissing:
        if not names:
            raise
    _make_directories(access, directory, names[:-1])
    with suppress(FileExists):  # another upload may have created it since
        create_directory(access.host, access.entry_path(path, Operation.UPLOAD))
    return access.resolved(path, Operation.UPLOAD)


def _existing(access: FileAccess, directory: str, files: list[ChosenFile]) -> list[dict[str, Any]]:
    """For each file, how many bytes have arrived already, and whether its name is taken."""
    sizes: dict[str, dict[str, int]] = {}  # by directory and name
    found = []
    for file in files:
        *above, name = _names(file.name)
        parent = posixpath.join(directory, *above)
        if parent not in sizes:
            try:
                entries = access.files.list(access.resolved(parent))
            except FileMissing:
                entries = []
            sizes[parent] = {entry.name: entry.size for entry in entries}
        received = sizes[parent].get(part_name(name, file.size, file.modified), 0)
        found.append({"offset": received, "there": name in sizes[parent]})
    return found


def _upload(access: FileAccess, directory: str, make: bool = False) -> Upload:
    """The upload that the query string describes. With `make`, creates its directories."""
    try:
        file = ChosenFile.model_validate(request.args.to_dict())
    except ValueError as error:
        raise BadRequest from error
    *above, name = _names(file.name)
    if make:
        real = _make_directories(access, directory, above)
    else:
        real = access.resolved(posixpath.join(directory, *above), Operation.UPLOAD)
    return Upload(access.host, real, name, file.size, file.modified)


def _finished(access: FileAccess, upload: Upload, if_there: IfThere) -> str:
    name = upload.finish(if_there)
    path = posixpath.join(upload.directory, name)
    note("file-uploaded", user(), host=access.host.name, object=for_audit(path))
    return name


# ---- Forms


def _form(host: str) -> BaseResponse:
    """Store each file of a form as it arrives. If one fails, the others are still stored."""
    request.max_content_length = MAX_FORM
    if request.mimetype != "multipart/form-data" or request.content_length is None:
        raise CSRFError("the token is in a form")
    events = form_events()
    access, real = None, ""
    if_there = IfThere.REFUSE
    done, problems = [], []
    for event in events:
        if isinstance(event, FormField):
            value = b"".join(field_data(events, MAX_FIELD)).decode("utf-8", "replace")
            if event.name == "csrf_token":
                check_token(value)
                access, directory = from_address(host, Operation.UPLOAD)
                real = access.resolved(directory, Operation.UPLOAD)
            elif event.name == "if_there" and value in list(IfThere):
                if_there = IfThere(value)
        elif isinstance(event, File):
            if access is None:
                raise CSRFError("the token comes first")
            data = field_data(events)
            try:
                if event.filename:  # empty when no file was chosen
                    done.append(_store(access, real, event.filename, data, if_there))
            except HostError as error:
                problems.append(error)
            for _ in data:  # skip the rest of the file
                pass
    if access is None:
        raise CSRFError("there is no token")
    for problem in problems:
        flash(problem.message)
    if done:
        flash(f"Uploaded {done[0] if len(done) == 1 else f'{len(done)} files'}.", "done")
    elif not problems:
        flash("No file was chosen. Choose a file, then click Upload.")
    return redirect(files_address(access.host_id, directory), 303)


def _store(
    access: FileAccess, directory: str, path: str, data: Iterator[bytes], if_there: IfThere
) -> str:
    """Store one file of a form; return its name for a message."""
    (name,) = _names(path.rpartition("/")[2])
    upload = Upload(access.host, directory, name, MAX_FORM, secrets.randbits(60))
    if if_there is IfThere.REFUSE:
        with suppress(FileMissing):
            access.files.lstat(upload.target)
            raise FileExists(f"{shown(name)} already exists. It was not replaced.")
    try:
        upload.write(0, data, if_there)
        return shown(_finished(access, upload, if_there))
    except (PortalError, HTTPException):  # HTTPException: the browser disconnected
        upload.cancel()
        raise
