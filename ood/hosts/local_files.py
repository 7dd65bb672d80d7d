"""The files of this machine, as the user the portal runs as."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from ood.errors import FileExists, FileFailed, FileMissing, FileRefused
from ood.hosts.base import FileEntry, Files, shown


@contextmanager
def _as_file_error(path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileMissing(f"There is no {shown(path)}.", str(error)) from error
    except FileExistsError as error:
        raise FileExists(f"There is a {shown(path)} already.", str(error)) from error
    except PermissionError as error:
        raise FileRefused(f"You have no permission for {shown(path)}.", str(error)) from error
    except OSError as error:
        if error.errno == errno.ELOOP:  # links in a circle lead nowhere
            raise FileMissing(f"There is no {shown(path)}.", str(error)) from error
        reason = error.strerror or "input/output error"
        raise FileFailed(f"{shown(path)}: {reason}.", str(error)) from error


class _LocalFile:
    """A binary file whose failing writes (a full disk) are file errors of the portal."""

    def __init__(self, path: str, mode: str) -> None:
        self._path = path
        with _as_file_error(path):
            self._file = open(path, mode, buffering=0)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> _LocalFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        with _as_file_error(self._path):
            return cast(bytes, self._file.read(size))

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        with _as_file_error(self._path):
            while left:
                left = left[self._file.write(left) :]
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def close(self) -> None:
        with _as_file_error(self._path):
            self._file.close()


class LocalFiles(Files):
    """The local file system."""

    def list(self, path: str) -> list[FileEntry]:
        with _as_file_error(path), os.scandir(path) as found:
            entries = []
            for item in found:
                try:
                    entries.append(_entry(item.name, item.stat(follow_symlinks=False)))
                except FileNotFoundError:  # removed while we were listing
                    continue
            return entries

    def stat(self, path: str) -> FileEntry:
        with _as_file_error(path):
            return _entry(os.path.basename(path), os.stat(path))

    def lstat(self, path: str) -> FileEntry:
        with _as_file_error(path):
            return _entry(os.path.basename(path), os.lstat(path))

    def resolve(self, path: str) -> str:
        with _as_file_error(path):
            real = os.path.realpath(path)
            os.stat(os.path.dirname(real))
            return real

    def open(self, path: str, mode: str) -> BinaryIO:
        return cast(BinaryIO, _LocalFile(path, mode))

    def rename(self, old: str, new: str) -> None:
        with _as_file_error(old):
            os.replace(old, new)

    def move(self, old: str, new: str) -> None:
        with _as_file_error(old):
            is_directory = stat.S_ISDIR(os.lstat(old).st_mode)
        with _as_file_error(new):
            if is_directory or not _linked(old, new):
                # Linux would replace an empty directory. Between look and rename is no time for
                # anything but a race with oneself.
                if os.path.lexists(new):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
                os.rename(old, new)
                return
            try:
                os.unlink(old)
            except OSError:
                os.unlink(new)
                raise

    def remove(self, path: str) -> None:
        with _as_file_error(path):
            os.remove(path)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        with _as_file_error(path):
            os.mkdir(path, mode)

    def chmod(self, path: str, mode: int) -> None:
        with _as_file_error(path):
            os.chmod(path, mode)


def _linked(old: str, new: str) -> bool:
    """Give a file a second name, which replaces nothing. Not every file system can."""
    try:
        os.link(old, new, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            return False
        raise
    return True


def _entry(name: str, found: os.stat_result) -> FileEntry:
    return FileEntry(name, found.st_mode, found.st_size, found.st_mtime, found.st_uid, found.st_gid)
