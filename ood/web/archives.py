"""Downloads of directories, and of selections, as archives."""

from __future__ import annotations

import posixpath

from flask import Blueprint, Flask, Response, flash, redirect
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import FileMissing, InvalidForm
from ood.hosts.base import shown
from ood.transfers.archive import start_packing, zipped
from ood.web.downloads import NEVER_RUN, attachment
from ood.web.file_changes import note_each
from ood.web.here import portal, user
from ood.web.paths import asked_path, canonical, files_address, is_possible
from ood.web.reach import Access, Reach, reach_on
from ood.web.selection import selected

bp = Blueprint("archives", __name__, url_prefix="/archives")


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.post("/<host>/<rest:path>", merge_slashes=False)
def send(host: str, path: str) -> BaseResponse:  # noqa: ARG001 - see asked_path
    """Entries of a directory, by a form with their names."""
    reach = reach_on(host)
    directory = canonical(asked_path())
    if not is_possible(directory):
        raise FileMissing(f"There is no {shown(directory)}.")
    real = reach.end(directory, Access.DOWNLOAD)
    try:
        names = [entry.name for entry in selected(reach, directory)]
    except InvalidForm as error:
        flash(next(iter(error.fields.values())))
        return redirect(files_address(reach.id, directory), 303)
    name = names[0] if len(names) == 1 else posixpath.basename(directory) or reach.id
    return _send(reach, real, names, name)


def _send(reach: Reach, directory: str, names: list[str], title: str) -> Response:
    """The archive `title`.zip. It has no length before it is made."""
    headers = {
        "Content-Disposition": attachment(f"{title}.zip"),
        "Content-Security-Policy": NEVER_RUN,
    }
    who = user()
    turns = portal().turns
    turns.take(who)
    try:
        command = start_packing(reach.machine, directory, names)
    except BaseException:
        turns.give_back(who)
        raise
    response = Response(zipped(command), content_type="application/zip", headers=headers)
    # Also when the browser goes away, or never asked for the first piece.
    response.call_on_close(lambda: turns.give_back(who))
    response.call_on_close(command.close)
    note_each(reach, "file-downloaded", directory, names)
    return response
