"""Uploads, on the host: a hidden part file beside the target, which gets its name when it is whole.

The size of the part on the host is the one truth about how far an upload got, so neither a killed
portal nor a closed browser loses any of it, and what was there before stays until the last moment.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from weakref import WeakKeyDictionary

from ood.errors import (
    CommandFailed,
    FileExists,
    FileFailed,
    FileMissing,
    FileRefused,
    HostError,
    UploadElsewhere,
)
from ood.help_topics import HelpTopic
from ood.hosts.base import Host, shown
from ood.transfers.names import free_name, part_name

PRIVATE = 0o600
TRIES = 100  # at a free name

_new_file_modes: WeakKeyDictionary[Host, int] = WeakKeyDictionary()


class IfThere(StrEnum):
    """What to do when there is something of the same name."""

    REFUSE = "refuse"
    REPLACE = "replace"
    BOTH = "both"


@dataclass(frozen=True)
class Upload:
    """A file of a browser's on its way into a directory: its real path, and the file's own name,
    size in bytes and time of change in ms, by which it is known again."""

    host: Host
    directory: str
    name: str
    size: int
    modified: int

    @property
    def target(self) -> str:
        return posixpath.join(self.directory, self.name)

    @property
    def part(self) -> str:
        return posixpath.join(self.directory, part_name(self.name, self.size, self.modified))

    def received(self) -> int:
        """How many bytes of it are there. Raises `FileFailed`."""
        try:
            found = self.host.files.lstat(self.part)
        except FileMissing:
            return 0
        # In a directory of many people, somebody else may have put a link or a file there.
        if not found.is_file or found.mode & 0o777 != PRIVATE:
            raise FileRefused(
                f"{shown(self.name)} cannot be uploaded: something else has the name of its part, "
                f"{shown(self.part)}. Delete that and try again."
            )
        return found.size

    def write(self, offset: int, data: Iterable[bytes]) -> int:
        """Write `data` from `offset` on, which is where it got to; return where it gets to.

        Raises `UploadElsewhere` when it got somewhere else. Raises `FileFailed`, and leaves nothing
        of it, when the host refuses the bytes. Whatever `data` raises, what came before is kept.
        """
        if offset == 0:
            with self._errors(), suppress(FileExists):
                self.host.files.write(self.part, b"", PRIVATE)
        if (there := self.received()) != offset:
            raise UploadElsewhere(there)
        with self._errors(), self.host.files.open(self.part, "r+b") as file:
            file.seek(offset)
            for chunk in data:
                if offset + len(chunk) > self.size:
                    break
                file.write(chunk)
                offset += len(chunk)
            else:
                return offset
        self.cancel()
        raise FileFailed(f"{shown(self.name)} changed while it was read. Upload it again.")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say what the host refuses by the file's own name, and leave nothing of it."""
        try:
            yield
        except FileExists:
            raise
        except FileRefused as error:
            raise FileRefused(
                f"You have no permission to write into {shown(self.directory)}.", error.detail
            ) from error
        except FileFailed as error:
            self.cancel()
            raise FileFailed(
                f"{shown(self.name)} could not be written to {shown(self.directory)} on "
                f"{self.host.name}. Is the disk full, or a quota used up? Nothing of it is left "
                "there.",
                f"{error.message} {error.detail}",
                topic=HelpTopic.DISK_FULL,
            ) from error

    def finish(self, if_there: IfThere) -> str:
        """Give the whole file its name, in one step; return the name.

        Raises `FileExists`, with the part still there, when something has the name already and may
        not be replaced, as directories never are.
        """
        files, name = self.host.files, self.name
        mode = _new_file_mode(self.host)
        if if_there is IfThere.REPLACE:
            with suppress(FileMissing):
                old = files.lstat(self.target)
                if old.is_directory:
                    raise FileExists(f"{shown(name)} is a directory here, and is not replaced.")
                mode = old.mode & 0o777 if old.is_file else mode
            files.chmod(self.part, mode)
            files.rename(self.part, self.target)
            return name
        taken: set[str] = set()
        for _ in range(TRIES if if_there is IfThere.BOTH else 1):
            try:
                files.chmod(self.part, mode)
                files.move(self.part, posixpath.join(self.directory, name))
                return name
            except FileExists:
                files.chmod(self.part, PRIVATE)
                taken.add(name)
                name = free_name(self.name, taken)
        raise FileExists(f"There is a {shown(self.name)} already.")

    def cancel(self) -> None:
        """Remove what is there of it."""
        with suppress(FileFailed):
            self.host.files.remove(self.part)


def _new_file_mode(host: Host) -> int:
    """What permission bits the user's new files have there."""
    if host not in _new_file_modes:
        try:
            umask = int(host.run(["sh", "-c", "umask"]).text, 8)
        except (CommandFailed, ValueError) as error:
            raise HostError(f"{host.name} does not say who may read new files.") from error
        _new_file_modes[host] = 0o666 & ~umask
    return _new_file_modes[host]
