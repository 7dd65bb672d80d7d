"""The File Manager: what is on the user's hosts, to look at and to download."""

from __future__ import annotations

import codecs
import posixpath
import stat
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Flask, Response, jsonify, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import FileMissing, FileRefused, InvalidForm, NotFound
from ood.hosts.base import FileEntry, Host, as_utf8, shown
from ood.hosts.roles import PORTAL, files_host_id
from ood.transfers.names import unfinished
from ood.web.addresses import (
    asked_path,
    canonical,
    files_address,
    for_audit,
    is_possible,
)
from ood.web.current import note, user, wants_json
from ood.web.files.access import FileAccess, Operation, file_access
from ood.web.files.changes import CHANGES
from ood.web.files.downloads import MAGIC, OCTETS, PDF, send, shown_type
from ood.web.files.editor import edit, mistake_in_text, save
from ood.web.files.listing import Kind, ListingView, kind_of, names_of, page_of, view_of, when
from ood.web.files.selection import as_value

bp = Blueprint("files", __name__, url_prefix="/files")

VIEW_BYTES = 1024 * 1024
ACTIONS = {**CHANGES, "save": save}
"""What the buttons of forms do, by their `action`."""


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)
    app.jinja_env.filters.update(shown=shown, as_utf8=as_utf8, as_value=as_value)
    app.jinja_env.globals.update(files_address=files_address, files_on=files_host_id)


@bp.get("")
@bp.get("/")
def index() -> BaseResponse:
    return _home(PORTAL)


@bp.get("/<host>")
def home(host: str) -> BaseResponse:
    return _home(host)


@bp.get("/<host>/", defaults={"path": ""}, merge_slashes=False)
@bp.get("/<host>/<rest:path>", merge_slashes=False)
def show(host: str, path: str) -> str | BaseResponse:
    """A directory or a file: as a page, as JSON, or its bytes."""
    access = file_access(host)
    path = asked_path()
    right = canonical(path)
    if not is_possible(right):
        raise FileMissing(f"There is no {shown(right)}.")
    if "path" in request.args:  # typed into “Change directory”
        typed = _typed(request.args["path"].strip(), right, access.machine)
        return redirect(files_address(access.id, typed))
    if (access.id, right) != (host, path):
        query = request.query_string.decode("latin-1")
        return redirect(files_address(access.id, right) + (f"?{query}" if query else ""))
    entry = access.stat(right)
    if {"download", "inline"} & {*request.args}:
        return _send(access, right, entry)
    if wants_json():
        return _as_json(access, right, entry)
    if entry.is_directory:
        return _directory(access, right)
    if "edit" in request.args:
        return edit(access, right)
    return _file(access, right, entry)


@bp.post("/<host>/", defaults={"path": ""}, merge_slashes=False)
@bp.post("/<host>/<rest:path>", merge_slashes=False)
def change(host: str, path: str) -> str | BaseResponse | tuple[str, int]:
    """Do what a form of a page asks for."""
    access = file_access(host)
    path = canonical(asked_path())
    action = ACTIONS.get(request.form.get("action", ""))
    if action is None or not is_possible(path):
        raise NotFound("There is no such page.")
    try:
        return action(access, path)
    except InvalidForm as error:  # about a form of the directory's own page
        return _directory(access, path, error.fields), error.http_status


def _home(host: str) -> BaseResponse:
    access = file_access(host)
    return redirect(files_address(access.id, access.start))


def _typed(typed: str, here: str, machine: Host) -> str:
    """What is meant by a path that is typed at a directory, as in a shell."""
    if typed.split("/")[0] == "~":
        return canonical(machine.home + typed[1:])
    return canonical(posixpath.join(here, typed))


# ---- Directories


def _directory(access: FileAccess, path: str, mistakes: dict[str, str] | None = None) -> str:
    """The page of a directory. `mistakes` are sentences about fields of its forms."""
    view = view_of(request.args)
    found = access.files.list(access.end(path))
    page = page_of(found, path, view, access.stat)
    entries = [row.entry for row in page.rows] if view.details else []
    machine = access.machine
    return render_template(
        "files/directory.html",
        **access.shown(path),
        view=view,
        page=page,
        left=[each for each in found if unfinished(each.name)],
        owners=names_of(machine, "passwd", (each.uid for each in entries)) if entries else {},
        groups=names_of(machine, "group", (each.gid for each in entries)) if entries else {},
        link=lambda **changes: files_address(access.id, path) + _query(view, **changes),
        kept=_query(view, text="", page=1),
        mistakes=mistakes or {},
        typed=request.form,
    )


def _query(view: ListingView, **changes: str | int) -> str:
    """The query of a view with some of it changed; a change begins at page 1."""
    query = {
        "hidden": "1" if view.hidden else "",
        "details": "1" if view.details else "",
        "text": view.text,
        "sort": view.sort,
        **changes,
    }
    query = {name: value for name, value in query.items() if value not in ("", 1)}
    return f"?{urlencode(query)}" if query else ""


# ---- Files


def _file(access: FileAccess, path: str, entry: FileEntry) -> str:
    """The page of a file, with what it holds if that is text or an image. A PDF has a page of its
    own in the browser."""
    kind = kind_of(entry)
    head = access.files.read(access.end(path), VIEW_BYTES) if kind is Kind.FILE else b""
    type = shown_type(head[:MAGIC])
    cut = entry.size > len(head)
    text = None
    if kind is Kind.FILE and not type and b"\0" not in head:
        note("file-read", user(), host=access.machine.name, object=for_audit(path))
        # What is cut may end within a character.
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(head, final=not cut)
    return render_template(
        "files/file.html",
        **access.shown(path),
        kept="",
        entry=entry,
        kind=kind,
        modified=when(entry),
        permissions=stat.filemode(entry.mode),
        type=type,
        is_pdf=type == PDF,
        too_big=entry.size > VIEW_BYTES and not access.may(Operation.DOWNLOAD),
        text=text,
        editable=kind is Kind.FILE and not mistake_in_text(head),
        cut=cut,
    )


def _send(access: FileAccess, path: str, entry: FileEntry) -> Response:
    if not entry.is_file:
        raise FileRefused(f"{shown(path)} is no file that can be downloaded.")
    real = access.end(path)
    type = ""
    if "download" not in request.args:
        type = shown_type(access.files.read(real, MAGIC))
    # A picture is looked at, and so is no more of it than of a text: anything can begin like one.
    # What shows a PDF also saves it.
    if type in ("", PDF) or entry.size > VIEW_BYTES:
        access.demand(Operation.DOWNLOAD)
    response = send(access.files, real, entry, type or OCTETS)
    if request.method == "GET" and response.status_code != 416:
        event = "file-read" if type else "file-downloaded"
        note(event, user(), host=access.machine.name, object=for_audit(path))
    return response


# ---- JSON


def _as_json(access: FileAccess, path: str, entry: FileEntry) -> Response:
    """The facts of a file, or of a directory with all its entries, in no order. `mode` has the
    permission bits, `modified` is in seconds since the epoch. Where a name is not UTF-8, only the
    `address` has all of it."""
    facts = _facts(access.id, path, entry) if not entry.is_directory else {}
    if entry.is_directory:
        facts["entries"] = [
            _facts(access.id, posixpath.join(path, each.name), each)
            for each in access.files.list(access.end(path))
        ]
    return jsonify({**facts, "host": access.id, "path": as_utf8(path)})


def _facts(host: str, path: str, entry: FileEntry) -> dict[str, Any]:
    return {
        "name": as_utf8(entry.name),
        "type": kind_of(entry),
        "size": entry.size,
        "modified": entry.modified,
        "mode": stat.S_IMODE(entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "address": files_address(host, path),
    }
