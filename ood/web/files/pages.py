"""The File Manager's pages: directories and files as HTML, as JSON or as bytes."""

import codecs
import posixpath
import stat
from typing import Any

from flask import Blueprint, Response, jsonify, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import FileRefused, InvalidForm, NotFound
from ood.hosts.base import FileEntry, as_utf8, shown
from ood.hosts.roles import PORTAL, files_host_id
from ood.transfers.names import unfinished
from ood.web.addresses import asked_path, files_address, for_audit, same_query
from ood.web.current import note, user, wants_json
from ood.web.files import listing
from ood.web.files.access import FileAccess, Operation, file_access, from_address
from ood.web.files.changes import CHANGES
from ood.web.files.downloads import MAGIC, OCTETS, PDF, send, shown_type
from ood.web.files.editor import edit, mistake_in_text, save
from ood.web.files.listing import Kind, kind_of, when
from ood.web.files.selection import as_value
from ood.web.files.uploads import MAX_FORM
from ood.web.tables import page_of

bp = Blueprint("files", __name__, url_prefix="/files")

VIEW_BYTES = 1024 * 1024
ACTIONS = {**CHANGES, "save": save}
"""What forms do, by the value of their button `action`."""

bp.add_app_template_filter(shown)
bp.add_app_template_filter(as_utf8)
bp.add_app_template_filter(as_value)
bp.add_app_template_global(files_address)
bp.add_app_template_global(files_host_id, "files_on")


@bp.get("")
@bp.get("/")
def index() -> BaseResponse:
    return home(PORTAL)


@bp.get("/<host>")
def home(host: str) -> BaseResponse:
    access = file_access(host)
    return redirect(files_address(access.host_id, access.start_directory))


@bp.get("/<host>/", defaults={"path": ""}, merge_slashes=False)
@bp.get("/<host>/<rest:path>", merge_slashes=False)
def show(host: str, path: str) -> str | BaseResponse:
    access, path = from_address(host)
    if "path" in request.args:  # from the form “Change directory”
        typed = access.typed(request.args["path"].strip(), path)
        return redirect(files_address(access.host_id, typed))
    if (access.host_id, path) != (host, asked_path()):
        return redirect(files_address(access.host_id, path) + same_query())
    with access.host.home_is_used(path):
        entry = access.stat(path)
    if {"download", "inline"} & {*request.args}:
        return _send(access, path, entry)
    if wants_json():
        return _as_json(access, path, entry)
    if entry.is_directory:
        return _directory(access, path)
    if "edit" in request.args:
        return edit(access, path)
    return _file(access, path, entry)


@bp.post("/<host>/", defaults={"path": ""}, merge_slashes=False)
@bp.post("/<host>/<rest:path>", merge_slashes=False)
def change(host: str, path: str) -> str | BaseResponse | tuple[str, int]:
    """Do what a form asks for."""
    access, path = from_address(host)
    action = ACTIONS.get(request.form.get("action", ""))
    if action is None:
        raise NotFound("Page not found.")
    try:
        return action(access, path)
    except InvalidForm as error:  # in a form on the directory's page
        return _directory(access, path, error.fields), error.http_status


def _directory(access: FileAccess, path: str, mistakes: dict[str, str] | None = None) -> str:
    """The page of a directory. `mistakes` are messages by the field of a form."""
    query = listing.listing_query()
    found = access.files.list(access.resolved(path))
    entries, hidden = listing.matching(found, query)
    page = page_of(entries, query, listing.COLUMNS, listing.PAGE_SIZE)
    owned = page.rows if query.filters["details"] else []
    return render_template(
        "files/directory.html",
        **access.page_facts(path),
        query=query,
        page=page,
        rows=list(listing.rows_of(page.rows, path, access.stat)),
        hidden=hidden,
        left=[entry for entry in found if unfinished(entry.name)],
        owners=listing.names_of(access.host, "passwd", (e.uid for e in owned)) if owned else {},
        groups=listing.names_of(access.host, "group", (e.gid for e in owned)) if owned else {},
        link=lambda **changes: files_address(access.host_id, path) + query.link(**changes),
        kept=query.link(text=""),
        mistakes=mistakes or {},
        typed=request.form,
        max_form=MAX_FORM,
    )


def _file(access: FileAccess, path: str, entry: FileEntry) -> str:
    """The page of a file, with its content if that is text or an image."""
    kind = kind_of(entry)
    head = access.files.read(access.resolved(path), VIEW_BYTES) if kind is Kind.FILE else b""
    type = shown_type(head[:MAGIC])
    cut = entry.size > len(head)
    text = None
    if kind is Kind.FILE and not type and b"\0" not in head:
        note("file-read", user(), host=access.host.name, object=for_audit(path))
        # The cut may be in the middle of a character.
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(head, final=not cut)
    return render_template(
        "files/file.html",
        **access.page_facts(path),
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
        raise FileRefused(f"{shown(path)} is not a regular file, so it cannot be downloaded.")
    real = access.resolved(path)
    type = "" if "download" in request.args else shown_type(access.files.read(real, MAGIC))
    # Where downloads are turned off, only images can be viewed, and only up to the limit for texts:
    # any file can begin like an image. PDFs cannot, because browsers let users save them.
    if type in ("", PDF) or entry.size > VIEW_BYTES:
        access.demand(Operation.DOWNLOAD)
    response = send(access.files, real, entry, type or OCTETS)
    if request.method == "GET" and response.status_code != 416:
        event = "file-read" if type else "file-downloaded"
        note(event, user(), host=access.host.name, object=for_audit(path))
    return response


def _as_json(access: FileAccess, path: str, entry: FileEntry) -> Response:
    """The facts of a file, or the unsorted entries of a directory. If a name is not UTF-8, only
    `address` has all its bytes."""
    facts = _facts(access, path, entry) if not entry.is_directory else {}
    if entry.is_directory:
        facts["entries"] = [
            _facts(access, posixpath.join(path, each.name), each)
            for each in access.files.list(access.resolved(path))
        ]
    return jsonify({**facts, "host": access.host_id, "path": as_utf8(path)})


def _facts(access: FileAccess, path: str, entry: FileEntry) -> dict[str, Any]:
    """`mode` is the permission bits; `modified` is in seconds since the epoch."""
    return {
        "name": as_utf8(entry.name),
        "type": kind_of(entry),
        "size": entry.size,
        "modified": entry.modified,
        "mode": stat.S_IMODE(entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "address": files_address(access.host_id, path),
    }
