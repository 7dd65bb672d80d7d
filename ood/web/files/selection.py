"""Entries chosen on a page, and names that are typed there."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes

from flask import request

from ood.errors import FileMissing, InvalidForm
from ood.hosts.base import FileEntry, shown
from ood.web.addresses import MAX_NAME, as_bytes
from ood.web.files.access import FileAccess
from ood.web.files.listing import SORTS, matching, view_of

BRIEF = 60  # characters of a name within a sentence


def as_value(name: str) -> str:
    """A name of any bytes as the value of a form's field, percent-encoded as in addresses."""
    return quote(as_bytes(name), safe="")


def from_value(value: str) -> str:
    return unquote_to_bytes(value).decode("utf-8", "surrogateescape")


def brief(name: str) -> str:
    """A name within a sentence."""
    text = shown(name)
    return f"“{text if len(text) <= BRIEF else text[: BRIEF - 1] + '…'}”"


def listed(names: Iterable[str]) -> str:
    """A few names within a sentence, and how many there are besides."""
    found = list(names)
    few = ", ".join(brief(name) for name in found[:3])
    return f"{few} and {len(found) - 3} more" if len(found) > 3 else few


def entries(number: int) -> str:
    return f"{number} {'entry' if number == 1 else 'entries'}"


def selected(access: FileAccess, directory: str) -> list[FileEntry]:
    """The entries of a directory that a form names by `name`, or `all` that its view shows, in the
    order of their names. Links are the links themselves. Those that have gone are left out.

    Raises `InvalidForm` for `selection` when nothing is chosen, and `FileMissing` when all have
    gone.
    """
    real = access.end(directory)
    if request.form.get("all"):
        found = matching(access.files.list(real), view_of(request.args))[0]
    else:
        names = [from_value(value) for value in request.form.getlist("name")]
        if not names:
            raise InvalidForm({"selection": "Choose entries first, by the boxes before them."})
        for name in names:
            if mistake_in(name):
                raise InvalidForm({"selection": "There can be no such entry."})
        found = []
        for name in dict.fromkeys(names):
            try:
                found.append(access.files.lstat(posixpath.join(real, name)))
            except FileMissing:
                continue
    found.sort(key=SORTS["name"])
    if not found:
        raise FileMissing("What you chose is no longer there. Go back and reload the page.")
    return found


def names_seen(entries: Iterable[FileEntry]) -> str:
    """A fingerprint of names, to see whether it is still the same entries."""
    names = sorted(as_bytes(entry.name) for entry in entries)
    return hashlib.blake2b(b"\0".join(names), digest_size=12).hexdigest()


def new_name(field: str) -> str:
    """The name typed into a field. Raises `InvalidForm` for one that nothing can have."""
    name = request.form.get(field, "")
    mistake = mistake_in(name)
    if mistake:
        raise InvalidForm({field: mistake})
    return name


def mistake_in(name: str) -> str:
    """What is wrong with a name, as a sentence; empty for one that a file can have."""
    length = len(as_bytes(name))
    if not name:
        return "Type a name."
    if name in (".", ".."):
        return f"“{name}” stands for a directory itself: choose another name."
    if "/" in name:
        return "A name cannot hold “/”, which stands between names: choose another name."
    if "\0" in name:
        return "A name cannot hold the character NUL: choose another name."
    if length > MAX_NAME:
        return (
            f"This name is {length} bytes long, and {MAX_NAME} is the most: shorten it. Letters "
            "other than a to z take two bytes or more."
        )
    return ""
