"""The File Manager's changes to entries of a directory: new ones, other names, permissions, delete.

Each is a plain form, sent to the directory's own address. What cannot be taken back is asked about
on a page of its own; what fails leaves what was typed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping

from flask import flash, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import FileExists, FileFailed, InvalidForm
from ood.hosts import trees
from ood.hosts.base import FileEntry
from ood.web.addresses import files_address, for_audit
from ood.web.current import note, user
from ood.web.files.access import FileAccess, Operation
from ood.web.files.listing import Kind, kind_of
from ood.web.files.selection import brief, entries, listed, names_seen, new_name, selected

Page = str | BaseResponse | tuple[str, int]

OCTAL = 0o7777
MOST_LINES = 1000  # in the audit log, for one change


def _new_file(access: FileAccess, directory: str) -> Page:
    name, path = _new(access, directory, lambda real: access.files.open(real, "xb").close())
    note_each(access, "file-made", directory, [name])
    return redirect(files_address(access.id, path) + "?edit", 303)


def _new_directory(access: FileAccess, directory: str) -> Page:
    name, _ = _new(access, directory, access.files.mkdir)
    note_each(access, "file-made", directory, [name])
    return _done(access, directory, f"The directory {brief(name)} is made.")


def _new(access: FileAccess, directory: str, make: Callable[[str], None]) -> tuple[str, str]:
    """Make an entry of the name that was typed; return name and path."""
    access.demand(Operation.EDIT)
    name = new_name("new")
    path = posixpath.join(directory, name)
    real = access.name(path, Operation.EDIT)
    try:
        make(real)
    except FileExists as error:
        raise InvalidForm({"new": _taken(name)}) from error
    except FileFailed as error:
        raise InvalidForm({"new": error.message}) from error
    return name, path


def _rename(access: FileAccess, directory: str) -> Page:
    chosen = _chosen(access, directory)
    if len(chosen) > 1:
        raise InvalidForm({"selection": "Choose one entry alone to rename it."})
    entry, typed = chosen[0], request.form.get("new_name")
    if typed is None:
        return _ask(access, directory, "rename", chosen, typed=entry.name)
    try:
        name = new_name("new_name")
        if name != entry.name:
            old, new = (
                access.name(posixpath.join(directory, n), Operation.EDIT)
                for n in (entry.name, name)
            )
            access.files.move(old, new)
    except (InvalidForm, FileFailed) as error:
        mistake = error.message
        if isinstance(error, InvalidForm):
            mistake = error.fields["new_name"]
        elif isinstance(error, FileExists):
            mistake = _taken(name)
        page = _ask(access, directory, "rename", chosen, typed=typed, mistake=mistake)
        return page, error.http_status
    note_each(access, "file-renamed", directory, [entry.name], to=for_audit(name))
    return _done(access, directory, f"{brief(entry.name)} is called {brief(name)} now.")


def _permissions(access: FileAccess, directory: str) -> Page:
    chosen = [entry for entry in _chosen(access, directory) if kind_of(entry) is not Kind.LINK]
    if not chosen:
        raise InvalidForm({"selection": "Links have no permissions: choose what they lead to."})
    modes = {entry.mode & OCTAL for entry in chosen}
    if "set" not in request.form:
        return _ask(
            access, directory, "permissions", chosen, mode=chosen[0].mode, same=len(modes) == 1
        )
    octal = request.form.get("octal", "").strip()
    mode = sum({int(bit, 8) for bit in request.form.getlist("bit") if bit in BITS})
    if octal:
        if not (3 <= len(octal) <= 4 and set(octal) <= set("01234567")):
            mistake = "Type three or four digits from 0 to 7, as in 640, or leave it empty."
            page = _ask(
                access,
                directory,
                "permissions",
                chosen,
                mode=mode,
                same=True,
                typed=octal,
                mistake=mistake,
            )
            return page, InvalidForm.http_status
        mode = int(octal, 8)
    below = request.form.get("below") == "1"
    if not octal and not below and len(modes) == 1:
        mode |= modes.pop() & ~0o777  # the bits that have no boxes stay
    names = [entry.name for entry in chosen]
    real = access.end(directory, Operation.EDIT)
    reason = trees.set_permissions(access.machine, real, names, mode, below)
    note_each(access, "file-permissions", directory, names, mode=f"{mode:o}", below=int(below))
    if reason:
        flash(f"Not all permissions could be set: {reason}.")
        return _back(access, directory)
    return _done(access, directory, f"The permissions of {listed(names)} are set.")


BITS = frozenset(f"{1 << place:o}" for place in range(9))


def _delete(access: FileAccess, directory: str) -> Page:
    chosen = _chosen(access, directory)
    real = access.end(directory, Operation.EDIT)
    names = [entry.name for entry in chosen]
    home = access.files.resolve(access.machine.home)
    if any(f"{home}/".startswith(f"{posixpath.join(real, name)}/") for name in names):
        raise InvalidForm({"selection": "Your home directory is in this: delete what is in it."})
    if request.form.get("sure") != names_seen(chosen):
        count = trees.count(access.machine, real, names)
        changed = "sure" in request.form
        return _ask(access, directory, "delete", chosen, count=count, changed=changed)
    reason = trees.delete(access.machine, real, names)
    left = []
    if reason:
        there = {entry.name for entry in access.files.list(real)}
        left = [name for name in names if name in there]
    note_each(access, "file-deleted", directory, names, left=len(left))
    if left:
        rest = trees.count(access.machine, real, left)
        flash(
            f"{entries(len(names) - len(left))} deleted, but not {listed(left)}: {reason}. Left of "
            f"it: {'' if rest.complete else 'at least '}{entries(rest.files + rest.directories)}."
        )
        return _back(access, directory)
    return _done(
        access, directory, f"{listed(names)} {'is' if len(names) == 1 else 'are'} deleted."
    )


CHANGES: Mapping[str, Callable[[FileAccess, str], Page]] = {
    "new-file": _new_file,
    "new-directory": _new_directory,
    "rename": _rename,
    "permissions": _permissions,
    "delete": _delete,
}


def _chosen(access: FileAccess, directory: str) -> list[FileEntry]:
    """What is selected, all of it in reach."""
    access.demand(Operation.EDIT)
    chosen = selected(access, directory)
    # One stands for all: they are in the same directory. A root is no entry to change.
    access.name(posixpath.join(directory, chosen[0].name), Operation.EDIT)
    return chosen


def _ask(
    access: FileAccess, directory: str, action: str, chosen: list[FileEntry], **facts: object
) -> str:
    """The page that asks for what an action needs."""
    return render_template(
        f"files/{action}.html",
        **access.shown(directory),
        kept="",
        address=_address(access, directory),
        chosen=chosen,
        all="1" if request.form.get("all") else "",
        seen=names_seen(chosen),
        **facts,
    )


def _address(access: FileAccess, directory: str) -> str:
    """The page of the directory, as it was looked at."""
    query = request.query_string.decode("latin-1")
    return files_address(access.id, directory) + (f"?{query}" if query else "")


def _back(access: FileAccess, directory: str) -> BaseResponse:
    return redirect(_address(access, directory), 303)


def _done(access: FileAccess, directory: str, sentence: str) -> BaseResponse:
    flash(sentence, "done")
    return _back(access, directory)


def _taken(name: str) -> str:
    return f"There is a {brief(name)} already: choose another name. Nothing was changed."


def note_each(
    access: FileAccess, event: str, directory: str, names: list[str], **facts: str | int
) -> None:
    """A line in the audit log for each entry of a directory that was chosen."""
    host = access.machine.name
    for name in names[:MOST_LINES]:
        note(event, user(), host=host, object=for_audit(posixpath.join(directory, name)), **facts)
    if len(names) > MOST_LINES:
        more = len(names) - MOST_LINES
        note(event, user(), host=host, object=for_audit(directory), more=more, **facts)
