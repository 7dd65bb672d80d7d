"""Copying and moving: the form that asks for the target, and the list of transfers."""

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import FileExists, FileFailed, FileMissing, InvalidForm
from ood.hosts.base import FileEntry, as_utf8, shown
from ood.transfers.copying import Endpoint, Order
from ood.transfers.names import free_name, unfinished
from ood.transfers.transfer import Transfer
from ood.web.addresses import (
    canonical,
    directory_address,
    files_address,
    for_audit,
    is_possible,
    same_query,
)
from ood.web.current import portal, user
from ood.web.files.access import FileAccess, Operation, file_access, from_address, hosts
from ood.web.files.changes import note_each
from ood.web.files.selection import from_value, selected

bp = Blueprint("transfers", __name__)

MAX_OFFERED = 200  # directories to choose from
SKIP, BOTH = "skip", "both"  # what to do with entries whose names are taken


bp.add_app_template_global(directory_address)
bp.add_app_template_global(unfinished, "unfinished_name")


@bp.app_template_global()
def transfers() -> list[Transfer]:
    """The user's transfers, the newest first."""
    return portal().transfers.of(user())


@bp.app_template_global("transfer_ends")
def ends(transfer: Transfer) -> dict[str, str]:
    """What a transfer copies, its source and target in words, and the target's address."""
    order = transfer.order
    names = list(order.names)
    what = f"“{shown(names[0])}”" if len(names) == 1 else f"{len(names)} items"
    source, target = (
        f"{shown(endpoint.directory)} on {hosts().get(endpoint.host_id, endpoint.host_id)}"
        if not order.same_host
        else shown(endpoint.directory)
        for endpoint in (order.source, order.target)
    )
    address = files_address(order.target.host_id, order.target.directory)
    return {"source": source, "target": target, "address": address, "what": what}


# ---- The form


@bp.post("/copies/<host>/<rest:path>", merge_slashes=False)
def begin(host: str, path: str) -> str | BaseResponse:  # noqa: ARG001 - see asked_path
    """Ask where to copy the selected entries to, or start the transfer."""
    access, directory = from_address(host, Operation.EDIT)
    try:
        chosen = selected(access, directory)
    except InvalidForm as error:
        flash(error.fields["selection"])
        return redirect(files_address(access.host_id, directory), 303)
    target = file_access(request.form.get("to_host", access.host_id))
    problem, there = "", {}
    try:
        to = _wanted_directory(target, directory)
        if not is_possible(to):
            raise FileMissing(f"File not found: {shown(to)}.")
        there = _entries(target, to)
    except FileFailed as error:
        to, problem = canonical(target.start_directory), error.message
        there = _entries(target, to)
    if problem or "go" not in request.form:
        return _ask(access, directory, chosen, target, to, there, problem=problem)
    try:
        order = _order(access, directory, chosen, target, to)
    except FileFailed as error:
        return _ask(access, directory, chosen, target, to, there, problem=error.message)
    taken = sorted(name for name in order.names if name in there)
    if_there = request.form.get("if_there")
    if taken and if_there not in (SKIP, BOTH):
        return _ask(access, directory, chosen, target, to, there, taken=taken)
    names: dict[str, str] = {}
    full = {*there}
    for name in order.names:
        if name not in there or if_there == BOTH:
            names[name] = free_name(name, full)
            full.add(names[name])
    if not names:
        problem = "All of these items already exist there."
        return _ask(access, directory, chosen, target, to, there, problem=problem)
    portal().transfers.start(user(), replace(order, names=names))
    note_each(
        access,
        "file-moved" if order.move else "file-copied",
        order.source.directory,
        list(names),
        to_host=target.host.name,
        to=for_audit(order.target.directory),
    )
    return redirect(files_address(access.host_id, directory), 303)


def _wanted_directory(target: FileAccess, directory: str) -> str:
    """The directory that the form asks for: the one whose button was pressed, the one that the form
    shows, or a typed one, relative to that as in a shell. (Not every name can be typed.)"""
    form = request.form
    if form.get("look"):
        return from_value(form["look"])
    shown_host, at = form.get("at_host", ""), from_value(form.get("at", ""))
    if not shown_host:
        return directory
    typed = form.get("to", "").strip()
    if typed == _one_line(at):
        if target.host_id == shown_host:
            return at
        if "go" not in form:
            return canonical(target.start_directory)
    return target.typed(typed, at if target.host_id == shown_host else target.host.home)


def _one_line(path: str) -> str:
    """A path as browsers send it from a text field."""
    return as_utf8(path).replace("\r", "").replace("\n", "").strip()


def _entries(target: FileAccess, to: str) -> dict[str, FileEntry]:
    """The entries of the target directory, by name."""
    found = target.files.list(target.resolved(to, Operation.EDIT))
    return {entry.name: entry for entry in found}


def _order(
    access: FileAccess, directory: str, chosen: Sequence[FileEntry], target: FileAccess, to: str
) -> Order:
    """The transfer that the form asks for. Raises `FileFailed` if it is impossible."""
    move = request.form.get("action") == "move"
    operations = [Operation.EDIT] if move else []
    paths = [access.entry_path(posixpath.join(directory, e.name), *operations) for e in chosen]
    source = Endpoint(access.host_id, access.host, posixpath.dirname(paths[0]))
    into = Endpoint(target.host_id, target.host, target.resolved(to, Operation.EDIT))
    if source.host_id == into.host_id:
        real, from_ = access.files.resolve(into.directory), access.files.resolve(source.directory)
        for entry in chosen:
            own = posixpath.join(from_, entry.name)
            if entry.is_directory and f"{real}/".startswith(f"{own}/"):
                raise FileFailed(
                    f"“{shown(entry.name)}” cannot be copied or moved into itself. Choose "
                    "another directory."
                )
        if move and real == from_:
            raise FileExists("The items are already in this directory. Choose another one.")
    return Order(move, source, into, {entry.name: entry.name for entry in chosen})


def _ask(
    access: FileAccess,
    directory: str,
    chosen: Sequence[FileEntry],
    target: FileAccess,
    to: str,
    there: dict[str, FileEntry],
    **facts: Any,
) -> str:
    """The form, with a `problem` or with the names that are `taken`."""
    offered = sorted(
        name for name, entry in there.items() if entry.is_directory and not name.startswith(".")
    )
    above = [above for _, above in target.crumbs(to)[:-1]]
    return render_template(
        "files/copy.html",
        host=access.host_id,
        path=directory,
        chosen=chosen,
        hosts=hosts(),
        target=target,
        to=to,
        to_line=_one_line(to),
        offered=[(name, posixpath.join(to, name)) for name in offered[:MAX_OFFERED]],
        above=above[-1] if above else "",
        more=len(offered) - MAX_OFFERED,
        all=bool(request.form.get("all")),
        query=same_query(),
        move=request.form.get("action") == "move",
        **facts,
    )


# ---- The list of transfers


@bp.get("/transfers")
def index() -> str:
    return render_template("transfers/index.html")


@bp.get("/transfers/changes")
def changes() -> str | BaseResponse:
    """The list of transfers, unless it has not changed since `have`: then 204."""
    text = render_template("transfers/_changed.html", have=request.args.get("have", ""))
    return text if text.strip() else BaseResponse(status=204)


@bp.post("/transfers/<id>/cancel")
def cancel(id: str) -> BaseResponse:
    portal().transfers.cancel(user(), id)
    return _back()


@bp.post("/transfers/<id>/dismiss")
def dismiss(id: str) -> BaseResponse:
    portal().transfers.dismiss(user(), id)
    return _back()


def _back() -> BaseResponse:
    """Return to the page whose button was pressed."""
    page = urlsplit(request.referrer or "")
    if page.netloc == request.host and page.path.startswith("/files/"):
        return redirect(f"{page.path}?{page.query}" if page.query else page.path, 303)
    return redirect(url_for("transfers.index"), 303)
