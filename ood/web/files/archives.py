"""Downloads of directories and selections as zip archives."""

import posixpath

from flask import Blueprint, Response, flash, redirect
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import InvalidForm
from ood.hosts import trees
from ood.transfers.archive import PACK, zipped
from ood.web.addresses import files_address
from ood.web.current import portal, user
from ood.web.files.access import Operation, from_address
from ood.web.files.changes import note_each
from ood.web.files.downloads import NEVER_RUN, disposition
from ood.web.files.selection import selected

bp = Blueprint("archives", __name__, url_prefix="/archives")


@bp.post("/<host>/<rest:path>", merge_slashes=False)
def send(host: str, path: str) -> BaseResponse:  # noqa: ARG001 - see asked_path
    """An archive of the selected entries, without Content-Length."""
    access, directory = from_address(host)
    real = access.resolved(directory, Operation.DOWNLOAD)
    try:
        names = [entry.name for entry in selected(access, directory)]
    except InvalidForm as error:
        flash(error.fields["selection"])
        return redirect(files_address(access.host_id, directory), 303)
    title = names[0] if len(names) == 1 else posixpath.basename(directory) or access.host_id
    who, quota = user(), portal().stream_quota
    quota.take(who)
    try:
        command = trees.start(access.host, PACK, real, names)
    except BaseException:
        quota.give_back(who)
        raise
    response = Response(zipped(command), content_type="application/zip")
    # These run even if the browser disconnects before the first piece.
    response.call_on_close(lambda: quota.give_back(who))
    response.call_on_close(command.close)
    response.headers["Content-Disposition"] = disposition("attachment", f"{title}.zip")
    response.headers["Content-Security-Policy"] = NEVER_RUN
    note_each(access, "file-downloaded", directory, names)
    return response
