"""Text of a file, edited in a form.

A browser knows neither bytes nor line ends: what it would not send back as it was is not edited
here. The file is written aside and renamed, so that it is the old one or the new one, never a part.
"""

from __future__ import annotations

import hashlib
import posixpath
import secrets
from contextlib import suppress
from dataclasses import dataclass

from flask import flash, g, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import (
    CommandFailed,
    CommandTimedOut,
    FileFailed,
    FileMissing,
    FileRefused,
    HostError,
    InvalidForm,
    SignInExpired,
)
from ood.hosts.base import FileEntry, shown
from ood.web.addresses import as_bytes, files_address, for_audit
from ood.web.current import note, user
from ood.web.files.access import FileAccess, Operation

MAX_EDIT = 512 * 1024
"""Bytes of text: a form may hold a MiB, and its line ends take twice as much."""
MOST = f"{MAX_EDIT // 1024} KiB are the most that can be edited here"
MISSING = "missing"
"""The fingerprint of a file that is not there."""


@dataclass(frozen=True)
class Found:
    """A text as it is on the host. `entry` is None when there is no file."""

    entry: FileEntry | None
    text: str
    fingerprint: str
    line_end: str


def edit(access: FileAccess, path: str) -> str | BaseResponse:
    """The form with the text of a file; back to the file's page, with a word, when it has none."""
    try:
        found = _found(access, access.end(path, Operation.EDIT), path)
    except InvalidForm as error:
        flash(error.fields["text"])
        return redirect(files_address(access.id, path), 303)
    note("file-read", user(), host=access.machine.name, object=for_audit(path))
    return _form(access, path, found.text, found.fingerprint, found.line_end)


def save(access: FileAccess, path: str) -> str | BaseResponse | tuple[str, int]:
    """Write what the form holds, unless the file has changed since it was read."""
    access.demand(Operation.EDIT)
    typed = request.form.get("text", "").replace("\r\n", "\n")
    seen = request.form.get("fingerprint", "")
    line_end = "\r\n" if request.form.get("line_end") == "crlf" else "\n"
    data = typed.replace("\n", line_end).encode()
    try:
        real = access.files.resolve(access.end(path))
        found = _found(access, real, path, or_none=True)
        if found.fingerprint != seen:
            return _form(access, path, typed, found.fingerprint, line_end, changed=True), 409
        if len(data) > MAX_EDIT:
            raise InvalidForm({"text": f"{MOST}, and this is more: shorten it."})
        if found.entry is None or typed != found.text:
            _write(access, real, data, found.entry)
            note("file-written", user(), host=access.machine.name, object=for_audit(path))
    except SignInExpired:
        raise
    except (HostError, InvalidForm) as error:
        g.said = error.fields["text"] if isinstance(error, InvalidForm) else error.message
        return _form(access, path, typed, seen, line_end, mistake=g.said), error.http_status
    flash("Saved.", "done")
    return redirect(
        files_address(access.id, path) + ("?edit" if "stay" in request.form else ""), 303
    )


def _form(
    access: FileAccess,
    path: str,
    text: str,
    fingerprint: str,
    line_end: str,
    *,
    changed: bool = False,
    mistake: str = "",
) -> str:
    return render_template(
        "files/edit.html",
        **access.shown(path),
        kept="",
        text=text,
        fingerprint=fingerprint,
        gone=fingerprint == MISSING,
        line_end="crlf" if line_end == "\r\n" else "lf",
        changed=changed,
        mistake=mistake,
    )


def mistake_in_text(data: bytes) -> str:
    """Why a file with this content is not edited here, as a sentence; empty when it is."""
    if len(data) > MAX_EDIT:
        return f"{MOST}: this file is larger."
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "This file is no UTF-8 text: editing it here would damage it."
    lines = text.replace("\r\n", "\n")
    if "\0" in lines or "\r" in lines or len(text) - len(lines) not in (0, lines.count("\n")):
        return (
            "This file holds NUL characters, or line ends of more than one kind: editing it here "
            "would change all of them."
        )
    return ""


def _found(access: FileAccess, real: str, path: str, or_none: bool = False) -> Found:
    """Look at a text. Raises `InvalidForm` for `text` when it cannot be edited here."""
    try:
        entry = access.files.stat(real)
    except FileMissing:
        if or_none:
            return Found(None, "", MISSING, "\n")
        raise
    if not entry.is_file:
        raise InvalidForm({"text": f"{shown(path)} is no file that can be edited."})
    # Renaming asks only whether the directory may be written in, and would replace it all the same.
    if access.machine.run(["test", "-w", real], check=False).exit_code != 0:
        raise InvalidForm({"text": f"You may look at {shown(path)}, but not write to it."})
    data = access.files.read(real, MAX_EDIT + 1)
    if mistake := mistake_in_text(data):
        raise InvalidForm({"text": mistake})
    fingerprint = hashlib.blake2b(data, digest_size=16).hexdigest()
    text = data.decode()
    line_end = "\r\n" if "\r\n" in text else "\n"
    return Found(entry, text.replace("\r\n", "\n"), fingerprint, line_end)


def _write(access: FileAccess, real: str, data: bytes, entry: FileEntry | None) -> None:
    """Put `data` in the place of a file, with its permissions and group: others in a project go on
    being able to read it. The old one stays whole if the disk is full. A file that is not there is
    made anew, and replaces none that has come since."""
    files = access.files
    if entry is None:
        with files.open(real, "xb") as file:
            file.write(data)
        return
    directory, name = posixpath.split(real)
    # Not all of a name that may be as long as names can be.
    short = as_bytes(name)[:200].decode("utf-8", "surrogateescape")
    aside = posixpath.join(directory, f".{short}.{secrets.token_hex(4)}.bak")
    try:
        files.write(aside, data, 0o600)
        try:
            access.machine.run([*KEEP_ATTRIBUTES, "--", real, aside])
        except (CommandFailed, CommandTimedOut):
            files.chmod(aside, entry.mode & 0o777)
        files.rename(aside, real)
    except FileFailed as error:
        with suppress(FileFailed):
            files.remove(aside)
        if isinstance(error, FileRefused):
            raise FileRefused(
                f"You may not write in {shown(directory)}, so this cannot be saved there.",
                error.detail,
            ) from error
        text = error.message.replace(shown(aside), shown(real))
        raise FileFailed(text, error.detail, topic=error.topic) from error


KEEP_ATTRIBUTES = ["cp", "--attributes-only", "--preserve=mode,ownership"]
"""Give a file the permissions of another one, lists of them included, its group and, where the host
lets us, its owner."""
