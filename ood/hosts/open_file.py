"""What the files of all hosts share: entries, errors, and open files that raise them."""

import errno
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Self, cast

from ood.errors import FileExists, FileFailed, FileMissing, FileRefused
from ood.help_topics import Reason
from ood.hosts.base import FileEntry, shown


def file_entry(path: str, found: Any) -> FileEntry:
    """The entry for a path, from the attributes that `os` or paramiko returned."""
    return FileEntry(
        path.rpartition("/")[2],
        found.st_mode or stat.S_IFREG,  # a server may leave out any of them
        found.st_size or 0,
        float(found.st_mtime or 0),
        found.st_uid or 0,
        found.st_gid or 0,
    )


def file_error(error: OSError, action: str, path: str, host: str, reason: Reason) -> FileFailed:
    """The portal's error for an operating system's error about a file. `action` is a verb. `reason`
    may be empty, and is for errors without a class of their own."""
    name = shown(path)
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return FileMissing(f"File not found: {name}.", str(error))
    if error.errno == errno.EEXIST:
        return FileExists(f"{name} already exists.", str(error))
    if error.errno in (errno.EACCES, errno.EPERM):
        return FileRefused(f"You do not have permission to {action} {name}.", str(error))
    because = f": {reason.text}" if reason else ""
    text = f"Could not {action} {name} on {host}{because}."
    return FileFailed(text, str(error), topic=reason.topic)


@dataclass
class OpenFile:
    """A binary file whose errors are the portal's. `file` is the system's or paramiko's; `errors`
    translates what it raises, and `resources` are released when it is closed."""

    file: Any
    errors: Callable[[], AbstractContextManager[None]]
    resources: ExitStack

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        with self.errors():
            return cast(bytes, self.file.read(size if size >= 0 else None))

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        with self.errors():
            while left:
                left = left[self.file.write(left) or len(left) :]  # paramiko writes all of it
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self.errors():
            self.file.seek(offset, whence)
            return cast(int, self.file.tell())

    def close(self) -> None:
        with self.resources, self.errors():
            self.file.close()
