"""Entries selected on a page, and names typed there."""

import hashlib
import posixpath
from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes

from flask import request

from ood.errors import FileMissing, InvalidForm
from ood.hosts.base import FileEntry, shown
from ood.web.addresses import MAX_NAME, as_bytes
from ood.web.files.access import FileAccess
from ood.web.files.listing import COLUMNS, listing_query, matching

BRIEF = 60  # characters of a name in a sentence


def as_value(name: str) -> str:
    """A name, of any bytes, as the value of a form field, percent-encoded as in addresses."""
    return quote(as_bytes(name), safe="")


def from_value(value: str) -> str:
    return unquote_to_bytes(value).decode("utf-8", "surrogateescape")


def brief(name: str) -> str:
    """A name for a sentence, in quotes and shortened."""
    text = shown(name)
    return f"“{text if len(text) <= BRIEF else text[: BRIEF - 1] + '…'}”"


def listed(names: Iterable[str]) -> str:
    """The first three names for a sentence, and the number of the others."""
    found = list(names)
    few = ", ".join(brief(name) for name in found[:3])
    return f"{few} and {len(found) - 3} more" if len(found) > 3 else few


def items(number: int) -> str:
    return f"{number} {'item' if number == 1 else 'items'}"


def selected(access: FileAccess, directory: str) -> list[FileEntry]:
    """The entries of a directory that a form selects, sorted by name: those in `name` or, with
    `all`, all that match the page's filter. Does not follow links, and omits entries that no longer
    exist. Raises `InvalidForm` for `selection` if nothing is selected, and `FileMissing` if none of
    the entries exist."""
    real = access.resolved(directory)
    if request.form.get("all"):
        found = matching(access.files.list(real), listing_query())[0]
    else:
        names = [from_value(value) for value in request.form.getlist("name")]
        if not names:
            raise InvalidForm({"selection": "Select at least one file or folder."})
        if any(mistake_in(name) for name in names):
            raise InvalidForm({"selection": "That name is not valid."})
        found = []
        for name in dict.fromkeys(names):
            try:
                found.append(access.files.lstat(posixpath.join(real, name)))
            except FileMissing:
                continue
    found.sort(key=COLUMNS["name"])
    if not found:
        raise FileMissing("The selected items no longer exist. Go back and reload the page.")
    return found


def names_seen(entries: Iterable[FileEntry]) -> str:
    """A fingerprint of the names, to check whether a later selection is the same."""
    names = sorted(as_bytes(entry.name) for entry in entries)
    return hashlib.blake2b(b"\0".join(names), digest_size=12).hexdigest()


def new_name(field: str) -> str:
    """The name typed into a field. Raises `InvalidForm` if no file can have it."""
    name = request.form.get(field, "")
    if mistake := mistake_in(name):
        raise InvalidForm({field: mistake})
    return name


def mistake_in(name: str) -> str:
    """Why no file can have this name; empty for a valid name."""
    length = len(as_bytes(name))
    if not name:
        return "Enter a name."
    if name in (".", ".."):
        return f"“{name}” is reserved. Choose another name."
    if "/" in name:
        return "A name cannot contain “/”. Choose another name."
    if "\0" in name:
        return "A name cannot contain the character NUL. Choose another name."
    if length > MAX_NAME:
        return (
            f"This name is {length} bytes long, but the limit is {MAX_NAME}. Shorten it. Accented "
            "letters take two bytes or more."
        )
    return ""
