"""Where job context directories are, and looking into them.

All in them may have been changed by the user or by what ran in the job, so every file is read with
a limit and only if it is a plain file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ood.errors import FileFailed
from ood.hosts.base import FileEntry, Host
from ood.sessions.facts import MAX_SIZE

Version = tuple[int, float]  # size and time of change


@dataclass(frozen=True)
class Place:
    """A directory below the user's home on a host. To know its `path` the host may be asked."""

    host: Host
    relative: str

    @property
    def path(self) -> str:
        return f"{self.host.home}/{self.relative}"

    def write(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Write new files into it (0700, made if need be): name -> (content, mode)."""
        path = self.path
        self.host.files.make_directories(path, 0o700)
        for name, (content, mode) in files.items():
            self.host.files.write(f"{path}/{name}", content, mode)

    def remove(self) -> None:
        """Remove it, with all that is in it."""
        self.host.run(["rm", "-rf", "--", self.path])


class Listing:
    """One look at a directory: the names in it, and the plain files among them to read."""

    def __init__(self, place: Place) -> None:
        self._place = place
        try:
            entries = place.host.files.list(place.path)
        except FileFailed:  # the user removed it
            entries = []
        self.files: Mapping[str, FileEntry] = {entry.name: entry for entry in entries}

    def version(self, name: str) -> Version | None:
        """What changes when a plain file does; None when there is none of this name."""
        found = self.files.get(name)
        return (found.size, found.modified) if found and found.is_file else None

    def read(self, name: str, limit: int = MAX_SIZE, offset: int = 0) -> bytes | None:
        """At most `limit` bytes of a plain file: opening a pipe would wait for ever."""
        if self.version(name) is None:
            return None
        try:
            return self._place.host.files.read(f"{self._place.path}/{name}", limit, offset)
        except FileFailed:
            return None
