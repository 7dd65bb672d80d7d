"""Changes to the entries of a directory: create, rename, set permissions, delete.

Each is a plain form, sent to the directory's address. A page asks before anything is deleted. A
form with a mistake is shown again with what was typed.
"""

import posixpath
from collections.abc import Callable, Mapping

from flask import flash, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import FileExists, FileFailed, InvalidForm
from ood.hosts import trees
from ood.hosts.base import FileEntry, Host
from ood.hosts.rights import create_directory, create_file
from ood.web.addresses import files_address, for_audit, same_query
from ood.web.current import note, user
from ood.web.files.access import FileAccess, Operation
from ood.web.files.listing import Kind, kind_of
from ood.web.files.selection import brief, items, listed, names_seen, new_name, selected

Page = str | BaseResponse | tuple[str, int]

PERMISSION_BITS = 0o7777
BITS = frozenset(f"{1 << number:o}" for number in range(9))
"""The values of the check boxes for permissions."""
COUNT_SECONDS = 8
MAX_LINES = 1000  # in the audit log, for one change


def _new_file(access: FileAccess, directory: str) -> Page:
    path = _new(access, directory, create_file)
    return redirect(files_address(access.host_id, path) + "?edit", 303)


def _new_directory(access: FileAccess, directory: str) -> Page:
    path = _new(access, directory, create_directory)
    return _done(access, directory, f"Created the directory {brief(posixpath.basename(path))}.")


def _new(access: FileAccess, directory: str, create: Callable[[Host, str], None]) -> str:
    """Create an entry with the name that was typed; return its path."""
    access.demand(Operation.EDIT)
    name = new_name("new")
    path = posixpath.join(directory, name)
    real = access.entry_path(path, Operation.EDIT)
    try:
        create(access.host, real)
    except FileFailed as error:
        raise InvalidForm({"new": _sentence(error, name)}) from error
    note_each(access, "file-made", directory, [name])
    return path


def _rename(access: FileAccess, directory: str) -> Page:
    chosen = _chosen(access, directory)
    if len(chosen) > 1:
        raise InvalidForm({"selection": "Select only one file or folder to rename."})
    old, typed = chosen[0].name, request.form.get("new_name")
    if typed is None:
        return _ask(access, directory, "rename", chosen, typed=old)
    try:
        name = new_name("new_name")
        if name != old:
            paths = [posixpath.join(directory, each) for each in (old, name)]
            access.files.move(*(access.entry_path(path, Operation.EDIT) for path in paths))
    except (InvalidForm, FileFailed) as error:
        fields = error.fields if isinstance(error, InvalidForm) else {}
        mistake = fields.get("new_name") or _sentence(error, typed)
        page = _ask(access, directory, "rename", chosen, typed=typed, mistake=mistake)
        return page, error.http_status
    note_each(access, "file-renamed", directory, [old], to=for_audit(name))
    return _done(access, directory, f"Renamed {brief(old)} to {brief(name)}.")


def _permissions(access: FileAccess, directory: str) -> Page:
    chosen = [entry for entry in _chosen(access, directory) if kind_of(entry) is not Kind.LINK]
    if not chosen:
        raise InvalidForm({"selection": "Links have no permissions. Select their targets instead."})
    modes = {entry.mode & PERMISSION_BITS for entry in chosen}
    mode = chosen[0].mode
    if "set" not in request.form:
        return _ask(access, directory, "permissions", chosen, mode=mode, same=len(modes) == 1)
    octal = request.form.get("octal", "").strip()
    mode = sum({int(bit, 8) for bit in request.form.getlist("bit") if bit in BITS})
    if octal and not (3 <= len(octal) <= 4 and set(octal) <= set("01234567")):
        mistake = "Enter three or four digits from 0 to 7, such as 640, or leave this empty."
        facts = {"mode": mode, "same": True, "typed": octal, "mistake": mistake}
        return _ask(access, directory, "permissions", chosen, **facts), InvalidForm.http_status
    below = request.form.get("below") == "1"
    if octal:
        mode = int(octal, 8)
    elif not below and len(modes) == 1:
        mode |= modes.pop() & ~0o777  # keeps the bits that have no check boxes
    names = [entry.name for entry in chosen]
    real = access.resolved(directory, Operation.EDIT)
    reason = trees.set_permissions(access.host, real, names, mode, below)
    note_each(access, "file-permissions", directory, names, mode=f"{mode:o}", below=int(below))
    if reason:
        flash(f"Could not set all permissions: {reason}.")
        return _back(access, directory)
    return _done(access, directory, f"Set the permissions of {listed(names)}.")


def _delete(access: FileAccess, directory: str) -> Page:
    chosen = _chosen(access, directory)
    real = access.resolved(directory, Operation.EDIT)
    names = [entry.name for entry in chosen]
    home = access.files.resolve(access.host.home)
    if any(f"{home}/".startswith(f"{posixpath.join(real, name)}/") for name in names):
        raise InvalidForm(
            {"selection": "You cannot delete your home directory. Delete files in it instead."}
        )
    if request.form.get("sure") != names_seen(chosen):
        count = trees.count(access.host, real, names, seconds=COUNT_SECONDS)
        changed = "sure" in request.form
        return _ask(access, directory, "delete", chosen, count=count, changed=changed)
    reason = trees.delete(access.host, real, names)
    there = {entry.name for entry in access.files.list(real)} if reason else set()
    left = [name for name in names if name in there]
    note_each(access, "file-deleted", directory, names, left=len(left))
    if left:
        rest = trees.count(access.host, real, left, seconds=COUNT_SECONDS)
        flash(
            f"Deleted {items(len(names) - len(left))}, but not {listed(left)}: {reason}. "
            f"{'' if rest.complete else 'At least '}{items(rest.files + rest.directories)} left."
        )
        return _back(access, directory)
    return _done(access, directory, f"Deleted {listed(names)}.")


CHANGES: Mapping[str, Callable[[FileAccess, str], Page]] = {
    "new-file": _new_file,
    "new-directory": _new_directory,
    "rename": _rename,
    "permissions": _permissions,
    "delete": _delete,
}


def _chosen(access: FileAccess, directory: str) -> list[FileEntry]:
    """The selected entries. Raises `FileRefused` if the user may not change them."""
    access.demand(Operation.EDIT)
    chosen = selected(access, directory)
    # This refuses a root. All entries are in one directory, so checking one is enough.
    access.entry_path(posixpath.join(directory, chosen[0].name), Operation.EDIT)
    return chosen


def _ask(
    access: FileAccess, directory: str, action: str, chosen: list[FileEntry], **facts: object
) -> str:
    """The page with the form for an action."""
    return render_template(
        f"files/{action}.html",
        **access.page_facts(directory),
        kept="",
        address=_address(access, directory),
        chosen=chosen,
        all="1" if request.form.get("all") else "",
        seen=names_seen(chosen),
        **facts,
    )


def _address(access: FileAccess, directory: str) -> str:
    """The directory's page, with the filter and sorting of this request."""
    return files_address(access.host_id, directory) + same_query()


def _back(access: FileAccess, directory: str) -> BaseResponse:
    return redirect(_address(access, directory), 303)


def _done(access: FileAccess, directory: str, sentence: str) -> BaseResponse:
    flash(sentence, "done")
    return _back(access, directory)


def _sentence(error: InvalidForm | FileFailed, name: str) -> str:
    """The message for an entry that could not be given a name."""
    if isinstance(error, FileExists):
        return f"{brief(name)} already exists. Nothing was changed. Choose another name."
    return error.message


def note_each(
    access: FileAccess, event: str, directory: str, names: list[str], **facts: str | int
) -> None:
    """Write a line to the audit log for each of these entries of a directory."""
    host, more = access.host.name, len(names) - MAX_LINES
    for name in names[:MAX_LINES]:
        note(event, user(), host=host, object=for_audit(posixpath.join(directory, name)), **facts)
    if more > 0:
        note(event, user(), host=host, object=for_audit(directory), more=more, **facts)
