"""The table of a directory in the File Manager: filters, columns and kinds of entries."""

import posixpath
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from flask import request

from ood.errors import CommandFailed, CommandTimedOut, FileFailed, FileRefused, FileTimedOut
from ood.hosts.base import FileEntry, Host
from ood.sessions.checked_json import LAST_SECOND
from ood.web.tables import Columns, TableQuery, table_query

PAGE_SIZE = 500
GETENT_TIMEOUT = 5.0  # seconds
LINK_TIMEOUT = 2.0  # seconds for the target of one link
LINKS_TIMEOUT = 3.0  # seconds, after which no further target is looked at
FIRST_SECOND = -62_135_596_800  # of the year 1, the earliest that Python can show


class Kind(StrEnum):
    """What an entry is, in the order of the column “Type”."""

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
COLUMNS: Columns[FileEntry] = {
    "name": lambda entry: (entry.name.lower(), entry.name),
    "size": lambda entry: -1 if entry.is_directory else entry.size,
    "modified": lambda entry: entry.modified,
    "type": lambda entry: list(Kind).index(kind_of(entry)),
}


def kind_of(entry: FileEntry) -> Kind:
    return KINDS.get(stat.S_IFMT(entry.mode), Kind.OTHER)


@dataclass(frozen=True)
class FileRow:
    """One entry. `target_kind` is its own kind or, for a link, that of its target; None if that is
    not known. Then, `problem` says why."""

    entry: FileEntry
    path: str
    kind: Kind
    target_kind: Kind | None
    problem: str = ""

    @property
    def can_be_opened(self) -> bool:
        """True for files and directories. Opening a pipe would wait for a writer, and opening a
        device may have side effects."""
        return self.target_kind in (Kind.DIRECTORY, Kind.FILE)

    @property
    def type(self) -> str:
        """The text of the column “Type”."""
        if not self.entry.mode:
            return "Does not respond"
        if self.kind is not Kind.LINK:
            return self.kind.capitalize()
        if self.target_kind:
            return f"Link to a {self.target_kind}"
        return self.problem

    @property
    def modified(self) -> int | None:
        return when(self.entry)

    @property
    def permissions(self) -> str:
        return stat.filemode(self.entry.mode)


def when(entry: FileEntry) -> int | None:
    """When an entry was modified, in seconds since the epoch; None if that is not known or
    outside the years 1 to 9999."""
    known = entry.mode and FIRST_SECOND <= entry.modified <= LAST_SECOND
    return int(entry.modified) if known else None


def listing_query() -> TableQuery:
    """The query of this request: `hidden` shows dotfiles, `details` shows owner and mode."""
    flags = ("hidden", "details")
    return table_query({name: "1" if request.args.get(name) == "1" else "" for name in flags})


def matching(entries: Iterable[FileEntry], query: TableQuery) -> tuple[list[FileEntry], int]:
    """The entries that a query shows, directories first and by name, and how many dotfiles it
    leaves out."""
    text = query.text.lower()
    found = [entry for entry in entries if text in entry.name.lower()]
    visible = [e for e in found if query.filters["hidden"] or not e.name.startswith(".")]
    visible.sort(key=lambda entry: (not entry.is_directory, *COLUMNS["name"](entry)))
    return visible, len(found) - len(visible)


def rows_of(
    entries: Iterable[FileEntry], directory: str, stat: Callable[[str, float], FileEntry]
) -> Iterator[FileRow]:
    """The rows of entries. `stat` asks the host for the target of a link, within some seconds. The
    targets of all links together may take `LINKS_TIMEOUT`, as each can be on a disk that hangs."""
    deadline = time.monotonic() + LINKS_TIMEOUT
    for entry in entries:
        path = posixpath.join(directory, entry.name)
        kind = kind_of(entry)
        target: Kind | None = None if kind is Kind.LINK else kind
        problem = "Link" if target is None else ""
        if target is None and time.monotonic() < deadline:
            try:
                target = kind_of(stat(path, LINK_TIMEOUT))
            except FileTimedOut:
                problem = "Link (its target does not respond)"
            except FileRefused:
                problem = "Link (no access)"
            except FileFailed:
                problem = "Broken link"
        yield FileRow(entry, path, kind, target, problem)


def names_of(
    host: Host, database: Literal["passwd", "group"], ids: Iterable[int]
) -> dict[int, str]:
    """The names of users or groups by their IDs, as far as the host knows them."""
    wanted = sorted(str(id) for id in set(ids))
    try:
        result = host.run(["getent", database, *wanted], check=False, timeout=GETENT_TIMEOUT)
    except (CommandFailed, CommandTimedOut):
        return {}
    lines = (line.split(":") for line in result.text.splitlines())
    return {int(line[2]): line[0] for line in lines if len(line) > 2 and line[2].isdecimal()}
