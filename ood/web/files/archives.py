"""Downloads of directories, and of selections, as archives."""

from __future__ import annotations

import posixpath

from flask import Blueprint, Flask, Response, flash, redirect
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import FileMissing, InvalidForm
from ood.hosts.base import shown
from ood.transfers.archive import start_packing, zipped
from ood.web.addresses import asked_path, canonical, files_address, is_possible
from ood.web.current import portal, user
from ood.web.files.access import FileAccess, Operation, file_access
from ood.web.files.changes import note_each
from ood.web.files.downloads import NEVER_RUN, attachment
from ood.web.files.selection import selected

bp = Blueprint("archives", __name__, url_prefix="/archives")


def init_app(app: Flask) -> None:
    app.register_blueprint(bp)


@bp.post("/<host>/<rest:path>", merge_slashes=False)
def send(host: str, path: str) -> BaseResponse:  # noqa: ARG001 - see asked_path
    """Entries of a directory, by a form with their names."""
    access = file_access(host)
    directory = canonical(asked_path())
    if not is_possible(directory):
        raise FileMissing(f"There is no {shown(directory)}.")
    real = access.end(directory, Operation.DOWNLOAD)
    try:
        names = [entry.name for entry in selected(access, directory)]
    except InvalidForm as error:
        flash(next(iter(error.fields.values())))
        return redirect(files_address(access.id, directory), 303)
    name = names[0] if len(names) == 1 else posixpath.basename(directory) or access.id
    return _send(access, real, names, name)


def _send(access: FileAccess, directory: str, names: list[str], title: str) -> Response:
    """The archive `title`.zip. It has no length before it is made."""
    headers = {
        "Content-Disposition": attachment(f"{title}.zip"),
        "Content-Security-Policy": NEVER_RUN,
    }
    who = user()
    turns = portal().turns
    turns.take(who)
    try:
        command = start_packing(access.machine, directory, names)
    except BaseException:
        turns.give_back(who)
        raise
    response = Response(zipped(command), content_type="application/zip", headers=headers)
    # Also when the browser goes away, or never asked for the first piece.
    response.call_on_close(lambda: turns.give_back(who))
    response.call_on_close(command.close)
    note_each(access, "file-downloaded", directory, names)
    return response
