"""A directory as the File Manager shows it: which entries, in which order, a page at a time."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from ood.errors import CommandFailed, CommandTimedOut, FileFailed, FileRefused
from ood.hosts.base import FileEntry, Host
from ood.sessions.checked_json import LAST_SECOND
from ood.web.current import asked_page

PAGE_SIZE = 500
MAX_TEXT = 200  # characters to look for
GETENT_TIMEOUT = 5.0  # seconds
FIRST_SECOND = -62_135_596_800  # of the year 1, when calendars begin


class Kind(StrEnum):
    """What an entry is. In this order when sorted by type."""

    DIRECTORY = "directory"
    LINK = "link"
    FILE = "file"
    PIPE = "pipe"
    SOCKET = "socket"
    DEVICE = "device"
    OTHER = "other"


KINDS = {
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.LINK,
    stat.S_IFREG: Kind.FILE,
    stat.S_IFIFO: Kind.PIPE,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFBLK: Kind.DEVICE,
    stat.S_IFCHR: Kind.DEVICE,
}
ORDER = {kind: place for place, kind in enumerate(Kind)}


def kind_of(entry: FileEntry) -> Kind:
    return KINDS.get(stat.S_IFMT(entry.mode), Kind.OTHER)


@dataclass(frozen=True)
class ListingView:
    """What of a directory is asked for. `sort` is a key of `SORTS`, with `-` before it for the
    other way round; empty: directories first."""

    hidden: bool = False
    details: bool = False
    text: str = ""
    sort: str = ""
    page: int = 1


@dataclass(frozen=True)
class FileRow:
    """One entry. `leads_to` is what opening it opens: a link's end, None when there is none, or
    none for this user (`refused`)."""

    entry: FileEntry
    path: str
    kind: Kind
    leads_to: Kind | None
    refused: bool = False

    @property
    def can_be_opened(self) -> bool:
        """A pipe would wait for somebody to write, and a device do what it does."""
        return self.leads_to in (Kind.DIRECTORY, Kind.FILE)

    @property
    def type(self) -> str:
        """In words."""
        if self.kind is not Kind.LINK:
            return self.kind.capitalize()
        if self.leads_to:
            return f"Link to a {self.leads_to}"
        return "Link out of reach" if self.refused else "Broken link"

    @property
    def modified(self) -> int | None:
        """In seconds since the epoch; None for what no calendar has."""
        return when(self.entry)

    @property
    def permissions(self) -> str:
        return stat.filemode(self.entry.mode)


def when(entry: FileEntry) -> int | None:
    return int(entry.modified) if FIRST_SECOND <= entry.modified <= LAST_SECOND else None


@dataclass(frozen=True)
class ListingPage:
    """The rows of one page of `pages`; `total` entries are like that, and `hidden` others are not
    shown for the dot they begin with."""

    rows: list[FileRow]
    total: int
    hidden: int
    page: int
    pages: int


SORTS: dict[str, Callable[[FileEntry], Any]] = {
    "name": lambda entry: (entry.name.lower(), entry.name),
    "size": lambda entry: -1 if entry.is_directory else entry.size,
    "modified": lambda entry: entry.modified,
    "type": lambda entry: ORDER[kind_of(entry)],
}


def view_of(query: Mapping[str, str]) -> ListingView:
    """The view that an address asks for."""
    return ListingView(
        hidden=query.get("hidden") == "1",
        details=query.get("details") == "1",
        text=query.get("text", "").strip()[:MAX_TEXT],
        sort=query.get("sort", ""),
        page=asked_page(),
    )


def matching(entries: list[FileEntry], view: ListingView) -> tuple[list[FileEntry], int]:
    """The entries that a view shows, in no order, and how many others it does not show for the dot
    they begin with."""
    if view.text:
        text = view.text.lower()
        entries = [entry for entry in entries if text in entry.name.lower()]
    if view.hidden:
        return entries[:], 0
    shown = [entry for entry in entries if not entry.name.startswith(".")]
    return shown, len(entries) - len(shown)


def page_of(
    entries: list[FileEntry], directory: str, view: ListingView, end_of: Callable[[str], FileEntry]
) -> ListingPage:
    """What to show of the entries of a directory. Links are followed, by `end_of`, for the one page
    only: each is a question to the host."""
    shown, hidden = matching(entries, view)
    shown.sort(key=SORTS["name"])
    by = SORTS.get(view.sort.removeprefix("-"))
    if by is None:
        shown.sort(key=lambda entry: not entry.is_directory)
    else:
        shown.sort(key=by, reverse=view.sort.startswith("-"))
    pages = max(1, -(-len(shown) // PAGE_SIZE))
    page = min(max(view.page, 1), pages)
    on_page = shown[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    rows = [row_of(entry, directory, end_of) for entry in on_page]
    return ListingPage(rows, len(shown), hidden, page, pages)


def row_of(entry: FileEntry, directory: str, end_of: Callable[[str], FileEntry]) -> FileRow:
    path = posixpath.join(directory, entry.name)
    kind = kind_of(entry)
    if kind is not Kind.LINK:
        return FileRow(entry, path, kind, kind)
    try:
        return FileRow(entry, path, kind, kind_of(end_of(path)))
    except FileFailed as error:
        return FileRow(entry, path, kind, None, isinstance(error, FileRefused))


def names_of(
    host: Host, database: Literal["passwd", "group"], ids: Iterable[int]
) -> dict[int, str]:
    """How the host calls users or groups, as far as it says so."""
    asked = sorted(str(id) for id in set(ids))
    try:
        answer = host.run(["getent", database, *asked], check=False, timeout=GETENT_TIMEOUT)
    except (CommandFailed, CommandTimedOut):
        return {}
    lines = (line.split(":") for line in answer.text.splitlines())
    return {int(line[2]): line[0] for line in lines if len(line) > 2 and line[2].isdecimal()}
