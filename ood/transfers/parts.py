"""Uploads on the host. Data goes to a hidden file beside the target, the part. It is renamed when
it is complete. A file that it replaces stays unchanged until then.

Progress is read from the size of the part, so an upload can continue after a restart of the portal
or the browser.
"""

import posixpath
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum

from ood.errors import FileExists, FileFailed, FileMissing, FileRefused, UploadElsewhere
from ood.help_topics import HelpTopic
from ood.hosts import rights
from ood.hosts.base import Host, shown
from ood.transfers.names import free_name, part_name

MAX_TRIES = 100  # to find a free name


class IfThere(StrEnum):
    """What to do when a file of the same name exists."""

    REFUSE = "refuse"
    REPLACE = "replace"
    BOTH = "both"


@dataclass(frozen=True)
class Upload:
    """The upload of a file into a directory, given by its real path. Name, `size` in bytes and
    `modified` in ms since 1970 identify the file when an upload continues."""

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
        """How many bytes have arrived. Raises `FileFailed`."""
        try:
            found = self.host.files.lstat(self.part)
        except FileMissing:
            return 0
        # In a shared directory, somebody else may have created a link or a file of this name.
        if not found.is_file or not rights.is_own(self.host, self.part):
            raise FileRefused(
                f"Could not upload {shown(self.name)} because {shown(self.part)} is in the way. "
                "Delete that file and try again."
            )
        return found.size

    def write(self, offset: int, data: Iterable[bytes], if_there: IfThere) -> int:
        """Append `data` to the part, and return the part's new size. Raises `UploadElsewhere` if
        its size is not `offset`. Raises `FileFailed`, and removes the part, if the host refuses the
        data. If `data` raises an exception, what has arrived stays."""
        is_new = False
        if offset == 0:
            with self._errors(), suppress(FileExists):
                rights.create_file(self.host, self.part)
                is_new = True
                if if_there is IfThere.REPLACE:
                    self._take_rights()  # before others can read what they could not read there
        if not is_new and (received := self.received()) != offset:
            raise UploadElsewhere(received)
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
        raise FileFailed(f"{shown(self.name)} changed during the upload. Upload it again.")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Report errors with the file's final name. Remove the part if writing to it failed."""
        try:
            yield
        except FileExists:
            raise
        except FileRefused as error:
            raise FileRefused(
                f"You do not have permission to write to {shown(self.directory)}.", error.detail
            ) from error
        except FileFailed as error:
            self.cancel()
            raise FileFailed(
                f"Could not upload {shown(self.name)} to {shown(self.directory)} on "
                f"{self.host.name}. The disk may be full, or you may have used up your quota. "
                "The partial upload was deleted.",
                f"{error.message} {error.detail}",
                topic=HelpTopic.DISK_FULL,
            ) from error

    def finish(self, if_there: IfThere) -> str:
        """Rename the complete part, and return its final name. Raises `FileExists`, and keeps the
        part, if the name is taken by a directory or by a file that must not be replaced."""
        files, name = self.host.files, self.name
        if if_there is IfThere.REPLACE:
            self._take_rights()
            files.rename(self.part, self.target)
            return name
        taken: set[str] = set()
        for _ in range(MAX_TRIES if if_there is IfThere.BOTH else 1):
            try:
                files.move(self.part, posixpath.join(self.directory, name))
                return name
            except FileExists:
                taken.add(name)
                name = free_name(self.name, taken)
        raise FileExists(f"{shown(self.name)} already exists.")

    def _take_rights(self) -> None:
        """Give the part the rights of the file that it will replace, if there is one."""
        with suppress(FileMissing):
            old = self.host.files.lstat(self.target)
            if old.is_directory:
                raise FileExists(f"{shown(self.name)} is a directory, so it was not replaced.")
            if old.is_file:
                rights.copy_rights(self.host, self.target, self.part)

    def cancel(self) -> None:
        with suppress(FileFailed):
            self.host.files.remove(self.part)
