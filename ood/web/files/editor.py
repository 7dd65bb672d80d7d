"""The editor of the File Manager: a form with the text of a file.

Browsers change line ends, and bytes that are not UTF-8. Files that this would damage cannot be
edited. The text is saved to a new file, which then replaces the old one in one step.
"""

import hashlib
import posixpath
import secrets
from contextlib import suppress
from dataclasses import dataclass

from flask import flash, g, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from ood.errors import (
    FileExists,
    FileFailed,
    FileMissing,
    FileRefused,
    HostError,
    InvalidForm,
    SignInExpired,
)
from ood.hosts import rights
from ood.hosts.base import FileEntry, shown
from ood.web.addresses import as_bytes, files_address, for_audit
from ood.web.current import note, user
from ood.web.files.access import FileAccess, Operation

MAX_EDIT = 512 * 1024  # bytes: a form may have 1 MiB, and its line ends may be twice as long
MISSING = "missing"
"""The fingerprint of a file that does not exist."""


@dataclass(frozen=True)
class Found:
    """The text of a file. `entry` is None if the file does not exist."""

    entry: FileEntry | None
    text: str
    fingerprint: str
    line_end: str


def edit(access: FileAccess, path: str) -> str | BaseResponse:
    """The form with the text of a file. Redirects to the file's page if it cannot be edited."""
    try:
        found = _found(access, access.resolved(path, Operation.EDIT), path)
    except InvalidForm as error:
        flash(error.fields["text"])
        return redirect(files_address(access.host_id, path), 303)
    note("file-read", user(), host=access.host.name, object=for_audit(path))
    return _form(access, path, found.text, found.fingerprint, found.line_end)


def save(access: FileAccess, path: str) -> str | BaseResponse | tuple[str, int]:
    """Save the text of the form, unless the file has changed since it was opened."""
    access.demand(Operation.EDIT)
    typed = request.form.get("text", "").replace("\r\n", "\n")
    seen = request.form.get("fingerprint", "")
    line_end = "\r\n" if request.form.get("line_end") == "crlf" else "\n"
    data = typed.replace("\n", line_end).encode()
    try:
        real = access.files.resolve(access.resolved(path))
        found = _found(access, real, path, or_none=True)
        if found.fingerprint != seen:
            return _form(access, path, typed, found.fingerprint, line_end, changed=True), 409
        if len(data) > MAX_EDIT:
            mistake = f"The text is longer than {MAX_EDIT // 1024} KiB, the limit of this editor."
            raise InvalidForm({"text": mistake})
        if found.entry is None or typed != found.text:
            _write(access, real, data, found.entry)
            note("file-written", user(), host=access.host.name, object=for_audit(path))
    except SignInExpired:
        raise
    except (HostError, InvalidForm) as error:
        g.said = error.fields["text"] if isinstance(error, InvalidForm) else error.message
        return _form(access, path, typed, seen, line_end, mistake=g.said), error.http_status
    flash("Saved.", "done")
    query = "?edit" if "stay" in request.form else ""
    return redirect(files_address(access.host_id, path) + query, 303)


def _form(
    access: FileAccess, path: str, text: str, fingerprint: str, line_end: str, **facts: object
) -> str:
    """The form with a text; `changed` and `mistake` say why it was not saved."""
    return render_template(
        "files/edit.html",
        **access.page_facts(path),
        kept="",
        text=text,
        fingerprint=fingerprint,
        gone=fingerprint == MISSING,
        line_end="crlf" if line_end == "\r\n" else "lf",
        **facts,
    )


def mistake_in_text(data: bytes) -> str:
    """Why a file with this content cannot be edited here; empty if it can."""
    if len(data) > MAX_EDIT:
        return f"This file is larger than {MAX_EDIT // 1024} KiB, the limit of this editor."
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "This file is not UTF-8 text. Editing it here would damage it."
    lines = text.replace("\r\n", "\n")
    if "\0" in lines or "\r" in lines or len(text) - len(lines) not in (0, lines.count("\n")):
        return (
            "This file has NUL characters or mixed line endings. Editing it here would change them."
        )
    return ""


def _found(access: FileAccess, real: str, path: str, or_none: bool = False) -> Found:
    """Read a text. Raises `InvalidForm` for `text` if it cannot be edited here, and `FileMissing`
    unless `or_none`."""
    try:
        entry = access.files.stat(real)
    except FileMissing:
        if or_none:
            return Found(None, "", MISSING, "\n")
        raise
    if not entry.is_file:
        raise InvalidForm({"text": f"{shown(path)} is not a regular file, so it cannot be edited."})
    # Renaming needs permission for the directory only, and would replace a read-only file.
    if access.host.run(["test", "-w", real], check=False).exit_code != 0:
        raise InvalidForm({"text": f"You do not have permission to change {shown(path)}."})
    data = access.files.read(real, MAX_EDIT + 1)
    if mistake := mistake_in_text(data):
        raise InvalidForm({"text": mistake})
    fingerprint = hashlib.blake2b(data, digest_size=16).hexdigest()
    text = data.decode()
    line_end = "\r\n" if "\r\n" in text else "\n"
    return Found(entry, text.replace("\r\n", "\n"), fingerprint, line_end)


def _write(access: FileAccess, real: str, data: bytes, entry: FileEntry | None) -> None:
    """Replace the content of a file but keep its rights, so that others in a project can still read
    it. If the disk is full, the old file stays unchanged. Without an `entry`, create a file; raises
    `FileExists` if somebody else has created it since."""
    host, files = access.host, access.files
    directory, name = posixpath.split(real)
    # The name may already have the maximum length.
    short = as_bytes(name)[:200].decode("utf-8", "surrogateescape")
    aside = posixpath.join(directory, f".{short}.{secrets.token_hex(4)}.bak")
    try:
        if entry is None:
            rights.create_file(host, aside)
            with files.open(aside, "r+b") as file:
                file.write(data)
            files.move(aside, real)
            return
        files.write(aside, data, 0o600)
        rights.copy_rights(host, real, aside)
        files.rename(aside, real)
    except FileFailed as error:
        with suppress(FileFailed):
            files.remove(aside)
        if isinstance(error, FileExists):
            raise
        if isinstance(error, FileRefused):
            raise FileRefused(
                f"You do not have permission to write to {shown(directory)}, so the file cannot be "
                "saved.",
                error.detail,
            ) from error
        message = error.message.replace(shown(aside), shown(real))
        raise FileFailed(message, error.detail, topic=error.topic) from error
