"""Copying and moving: where to, what becomes of it, and what became of it."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import FileExists, FileFailed, FileMissing, InvalidForm
from ood.hosts.base import FileEntry, as_utf8, shown
from ood.transfers.names import free_name, unfinished
from ood.transfers.transfer import Order, Place, Transfer
from ood.web.addresses import (
    address_of,
    asked_path,
    canonical,
    files_address,
    for_audit,
    is_possible,
)
from ood.web.current import portal, user
from ood.web.files.access import FileAccess, Operation, file_access, hosts
from ood.web.files.changes import note_each
from ood.web.files.selection import from_value, selected

bp = Blueprint("transfers", __name__)

MOST_OFFERED = 200  # directories to go on to
REFUSE, SKIP, BOTH = "refuse", "skip", "both"


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)
    app.jinja_env.globals["transfers"] = lambda: portal().transfers.of(user())
    app.jinja_env.globals.update(
        transfer_ends=ends, address_of=address_of, unfinished_name=unfinished
    )


@dataclass(frozen=True)
class Ends:
    """Where a transfer comes from and goes to, in words and as an address."""

    source: str
    target: str
    address: str
    what: str


def ends(transfer: Transfer) -> Ends:
    order = transfer.order
    names = list(order.names)
    what = f"“{shown(names[0])}”" if len(names) == 1 else f"{len(names)} entries"
    said = [
        f"{shown(place.directory)} on {hosts().get(place.id, place.id)}"
        if not order.same_host
        else shown(place.directory)
        for place in (order.source, order.target)
    ]
    address = files_address(order.target.id, order.target.directory)
    return Ends(said[0], said[1], address, what)


# ---- Where to


@bp.post("/copies/<host>/<rest:path>", merge_slashes=False)
def begin(host: str, path: str) -> str | BaseResponse:  # noqa: ARG001 - see asked_path
    """Ask where the chosen entries are to go, or send them there."""
    access = file_access(host)
    directory = canonical(asked_path())
    if not is_possible(directory):
        raise FileMissing(f"There is no {shown(directory)}.")
    access.demand(Operation.EDIT)
    try:
        chosen = selected(access, directory)
    except InvalidForm as error:
        flash(next(iter(error.fields.values())))
        return redirect(files_address(access.id, directory), 303)
    form = request.form
    target = file_access(form.get("to_host", access.id))
    try:
        to = _meant(target, directory)
        if not is_possible(to):
            raise FileMissing(f"There is no {shown(to)}.")
        there = _directories(target, to)
    except FileFailed as error:
        to = canonical(target.start)
        return _ask(access, directory, chosen, target, to, _directories(target, to), error.message)
    if "go" not in form:
        return _ask(access, directory, chosen, target, to, there)
    try:
        order = _order(access, directory, chosen, target, to)
    except FileFailed as error:
        return _ask(access, directory, chosen, target, to, there, error.message)
    taken = sorted(name for name, wanted in order.names.items() if wanted in there)
    if_there = form.get("if_there", REFUSE)
    if taken and if_there not in (SKIP, BOTH):
        return _ask(access, directory, chosen, target, to, there, taken=taken)
    names: dict[str, str] = {}
    full = {*there}
    for name in order.names:
        if name in there and if_there == SKIP:
            continue
        names[name] = free_name(name, full)
        full.add(names[name])
    if not names:
        return _ask(access, directory, chosen, target, to, there, "All of them are there already.")
    order = Order(order.move, order.source, order.target, names)
    portal().transfers.start(user(), order)
    event = "file-moved" if order.move else "file-copied"
    note_each(
        access,
        event,
        order.source.directory,
        list(names),
        to_host=target.machine.name,
        to=for_audit(order.target.directory),
    )
    return redirect(files_address(access.id, directory), 303)


def _meant(target: FileAccess, directory: str) -> str:
    """The directory that the form means: one that was pressed, the one that it shows, which may
    have a name that cannot be typed, or what was typed, as in a shell at that one."""
    form = request.form
    if form.get("look"):
        return from_value(form["look"])
    shown_at, at = form.get("at_host", ""), from_value(form.get("at", ""))
    if not shown_at:
        return directory
    typed = form.get("to", "").strip()
    if typed == _one_line(at):
        if target.id == shown_at:
            return at
        if "go" not in form:
            return canonical(target.start)
    if typed.split("/")[0] == "~":
        return canonical(target.machine.home + typed[1:])
    return canonical(posixpath.join(at if target.id == shown_at else target.machine.home, typed))


def _one_line(path: str) -> str:
    """A path as a text field has it."""
    return as_utf8(path).replace("\r", "").replace("\n", "").strip()


def _directories(target: FileAccess, to: str) -> dict[str, FileEntry]:
    """All that is there, by name."""
    return {entry.name: entry for entry in target.files.list(target.end(to, Operation.EDIT))}


def _order(
    access: FileAccess, directory: str, chosen: Sequence[FileEntry], target: FileAccess, to: str
) -> Order:
    """Raises `FileFailed` for what cannot be."""
    move = request.form.get("action") == "move"
    operations = [Operation.EDIT] if move else []
    paths = [access.name(posixpath.join(directory, entry.name), *operations) for entry in chosen]
    source = Place(access.id, access.machine, posixpath.dirname(paths[0]))
    into = Place(target.id, target.machine, target.end(to, Operation.EDIT))
    if source.id == into.id:
        real, from_ = access.files.resolve(into.directory), access.files.resolve(source.directory)
        for entry in chosen:
            own = posixpath.join(from_, entry.name)
            if entry.is_directory and f"{real}/".startswith(f"{own}/"):
                raise FileFailed(f"“{shown(entry.name)}” cannot go into itself.")
        if move and real == from_:
            raise FileExists("They are there already. Choose another directory.")
    return Order(move, source, into, {entry.name: entry.name for entry in chosen})


def _ask(
    access: FileAccess,
    directory: str,
    chosen: Sequence[FileEntry],
    target: FileAccess,
    to: str,
    there: dict[str, FileEntry],
    problem: str = "",
    taken: Sequence[str] = (),
) -> str:
    offered = sorted(entry.name for entry in there.values() if entry.is_directory)
    offered = [name for name in offered if not name.startswith(".")]
    above = [above for _, above in target.crumbs(to)[:-1]]
    return render_template(
        "files/copy.html",
        host=access.id,
        path=directory,
        chosen=chosen,
        hosts=hosts(),
        target=target,
        to=to,
        to_line=_one_line(to),
        offered=[(name, posixpath.join(to, name)) for name in offered[:MOST_OFFERED]],
        above=above[-1] if above else "",
        more=len(offered) - MOST_OFFERED,
        problem=problem,
        taken=taken,
        all=bool(request.form.get("all")),
        query=f"?{query}" if (query := request.query_string.decode("latin-1")) else "",
        move=request.form.get("action") == "move",
    )


# ---- What becomes of it


@bp.get("/transfers")
def index() -> str:
    return render_template("transfers/index.html")


@bp.get("/transfers/changes")
def changes() -> str | BaseResponse:
    """What open pages ask: the transfers, unless the page has them just so."""
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
    """To the page with the button."""
    page = urlsplit(request.referrer or "")
    if page.netloc == request.host and page.path.startswith("/files/"):
        return redirect(f"{page.path}?{page.query}" if page.query else page.path, 303)
    return redirect(url_for("transfers.index"), 303)
