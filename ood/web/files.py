"""The File Manager: what is on the user's hosts, to look at and to download."""

from __future__ import annotations

import codecs
import posixpath
import stat
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Flask, Response, jsonify, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import FileMissing, FileRefused, NotFound
from ood.hosts.base import FileEntry, Host, as_utf8, shown
from ood.web.downloads import MAGIC, OCTETS, image_type, send
from ood.web.here import asked_page, groups, note, portal, user, wants_json
from ood.web.listing import Kind, View, kind_of, names_of, page_of, when
from ood.web.node import Rest
from ood.web.paths import (
    PORTAL,
    as_bytes,
    asked_path,
    canonical,
    crumbs,
    files_address,
    files_on,
    is_possible,
)

bp = Blueprint("files", __name__, url_prefix="/files")

MAX_TEXT = 200  # characters to look for
VIEW_BYTES = 1024 * 1024


def init_app(app: Flask) -> None:
    app.url_map.converters["rest"] = Rest
    app.register_blueprint(bp)
    app.jinja_env.filters.update(shown=shown, as_utf8=as_utf8)
    app.jinja_env.globals.update(files_address=files_address, files_on=files_on)


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
    right_host, machine = _host(host)
    path = asked_path()
    right = canonical(path)
    if not is_possible(right):
        raise FileMissing(f"There is no {shown(right)}.")
    if "path" in request.args:  # typed into “Change directory”
        typed = _typed(request.args["path"].strip(), right, machine)
        return redirect(files_address(right_host, typed))
    if (right_host, right) != (host, path):
        query = request.query_string.decode("latin-1")
        return redirect(files_address(right_host, right) + (f"?{query}" if query else ""))
    entry = machine.files.stat(right)
    if {"download", "inline"} & {*request.args}:
        return _send(machine, right, entry)
    if wants_json():
        return _as_json(host, machine, right, entry)
    if entry.is_directory:
        return _directory(host, machine, right)
    return _file(host, machine, right, entry)


def _home(host: str) -> BaseResponse:
    host, machine = _host(host)
    return redirect(files_address(host, canonical(machine.home)))


def _host(id: str) -> tuple[str, Host]:
    """The host with the files of a cluster, and its own name in addresses."""
    if id == PORTAL:
        return PORTAL, portal().pool.portal_host(user())
    cluster = portal().clusters_for(groups()).get(id)
    if cluster is None:
        raise NotFound("There is no such host.")
    return files_on(cluster), portal().home_on(user(), cluster)


def _hosts() -> dict[str, str]:
    """The hosts with files of their own that the user may look at, and what to call them."""
    clusters = portal().clusters_for(groups()).values()
    own = {cluster.id: cluster.label for cluster in clusters if files_on(cluster) != PORTAL}
    return {PORTAL: "Portal host"} | own


def _typed(typed: str, here: str, machine: Host) -> str:
    """What is meant by a path that is typed at a directory, as in a shell."""
    if typed.split("/")[0] == "~":
        return canonical(machine.home + typed[1:])
    return canonical(posixpath.join(here, typed))


# ---- Directories


def _directory(host: str, machine: Host, path: str) -> str:
    view = _view()
    page = page_of(machine.files, path, view)
    entries = [row.entry for row in page.rows] if view.details else []
    return render_template(
        "files/directory.html",
        host=host,
        hosts=_hosts(),
        path=path,
        crumbs=crumbs(path),
        view=view,
        page=page,
        owners=names_of(machine, "passwd", (each.uid for each in entries)) if entries else {},
        groups=names_of(machine, "group", (each.gid for each in entries)) if entries else {},
        link=lambda **changes: files_address(host, path) + _query(view, **changes),
        kept=_query(view, text="", page=1),
    )


def _view() -> View:
    given = request.args
    return View(
        hidden=given.get("hidden") == "1",
        details=given.get("details") == "1",
        text=given.get("text", "").strip()[:MAX_TEXT],
        sort=given.get("sort", ""),
        page=asked_page(),
    )


def _query(view: View, **changes: str | int) -> str:
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


def _file(host: str, machine: Host, path: str, entry: FileEntry) -> str:
    """The page of a file, with what it holds if that is text or an image."""
    kind = kind_of(entry)
    head = machine.files.read(path, VIEW_BYTES) if kind is Kind.FILE else b""
    image = image_type(head[:MAGIC])
    cut = entry.size > len(head)
    text = None
    if kind is Kind.FILE and not image and b"\0" not in head:
        note("file-read", user(), host=machine.name, object=_for_audit(path))
        # What is cut may end within a character.
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(head, final=not cut)
    return render_template(
        "files/file.html",
        host=host,
        hosts=_hosts(),
        path=path,
        crumbs=crumbs(path),
        kept="",
        entry=entry,
        kind=kind,
        modified=when(entry),
        permissions=stat.filemode(entry.mode),
        image=image,
        text=text,
        cut=cut,
    )


def _send(machine: Host, path: str, entry: FileEntry) -> Response:
    if not entry.is_file:
        raise FileRefused(f"{shown(path)} is no file that can be downloaded.")
    image = ""
    if "download" not in request.args:
        image = image_type(machine.files.read(path, MAGIC))
    response = send(machine.files, path, entry, image or OCTETS)
    if request.method == "GET" and response.status_code != 416:
        event = "file-read" if image else "file-downloaded"
        note(event, user(), host=machine.name, object=_for_audit(path))
    return response


def _for_audit(path: str) -> str:
    """A path in which no byte is lost, and which every reader of JSON takes."""
    return as_bytes(path).decode("utf-8", "backslashreplace")


# ---- JSON


def _as_json(host: str, machine: Host, path: str, entry: FileEntry) -> Response:
    """The facts of a file, or of a directory with all its entries, in no order. `mode` has the
    permission bits, `modified` is in seconds since the epoch. Where a name is not UTF-8, only the
    `address` has all of it."""
    facts = _facts(host, path, entry) if not entry.is_directory else {}
    if entry.is_directory:
        facts["entries"] = [
            _facts(host, posixpath.join(path, each.name), each) for each in machine.files.list(path)
        ]
    return jsonify({**facts, "host": host, "path": as_utf8(path)})


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
