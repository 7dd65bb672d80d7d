"""The files of a host over SFTP.

Short operations share one SFTP client under a lock (a client used by two threads deadlocks); an
open file has a client of its own, so a long download holds nobody up.
"""

from __future__ import annotations

import errno
import stat as stat_bits
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

import paramiko

from ood.errors import FileExists, FileFailed, FileMissing, FileRefused
from ood.hosts.base import FileEntry, Files

if TYPE_CHECKING:
    from ood.hosts.ssh import SSHHost

PREFETCHED_REQUESTS = 64  # of 32 KiB each: bounds what a slow reader keeps in memory


class SFTPFiles(Files):
    """The files of one SSH host."""

    def __init__(self, host: SSHHost) -> None:
        self._host = host
        self._lock = threading.RLock()
        self._shared: paramiko.SFTPClient | None = None

    def forget(self) -> None:
        """Drop the shared client, after its connection closed."""
        self._shared = None

    def resolve(self, path: str) -> str:
        """Return the absolute path the server makes of `path`."""
        with self._client(path) as client:
            return client.normalize(path)

    def list(self, path: str) -> list[FileEntry]:
        with self._client(path) as client:
            return [_entry(found.filename, found) for found in client.listdir_attr(path)]

    def stat(self, path: str) -> FileEntry:
        with self._client(path) as client:
            return _entry(path.rsplit("/", 1)[-1], client.stat(path))

    def open(self, path: str, mode: str) -> BinaryIO:
        with self._errors(path), self._host.errors():
            client = self._host.open_sftp()
            try:
                # SFTP needs "w" beside "x" to write at all.
                file = client.open(path, "wx" if mode == "xb" else mode)
                if mode == "rb":
                    file.prefetch(file.stat().st_size, PREFETCHED_REQUESTS)
                else:
                    file.set_pipelined(True)
            except BaseException as error:
                client.close()
                if mode == "xb" and isinstance(error, OSError):
                    self._raise_if_there(path, error)
                raise
        return cast(BinaryIO, _RemoteFile(self, path, client, file))

    def read(self, path: str, limit: int, offset: int = 0) -> bytes:
        with self._client(path) as client, client.open(path, "rb") as file:
            if offset:
                file.seek(offset)
            return file.read(limit)

    def write(self, path: str, data: bytes, mode: int) -> None:
        with self._client(path) as client:
            try:
                file = client.open(path, "wx")
            except OSError as error:
                self._raise_if_there(path, error)
                raise
            with file:
                file.chmod(mode)
                file.write(data)

    def rename(self, old: str, new: str) -> None:
        with self._client(old) as client:
            client.posix_rename(old, new)

    def remove(self, path: str) -> None:
        with self._client(path) as client:
            client.remove(path)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        with self._client(path) as client:
            try:
                client.mkdir(path, mode)
            except OSError as error:
                self._raise_if_there(path, error)
                raise

    def chmod(self, path: str, mode: int) -> None:
        with self._client(path) as client:
            client.chmod(path, mode)

    @contextmanager
    def _client(self, path: str) -> Iterator[paramiko.SFTPClient]:
        """The shared client, for one operation on `path`, its errors turned into the portal's."""
        with self._lock, self._errors(path), self._host.errors():
            if self._shared is None or self._shared.sock.closed:
                self._shared = self._host.open_sftp()
            yield self._shared

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # SFTP version 3 has words for "no such file" and "permission denied" only.
            if error.errno == errno.ENOENT:
                raise FileMissing(f"There is no {path}.", str(error)) from error
            if error.errno == errno.EACCES:
                raise FileRefused(f"You have no permission for {path}.", str(error)) from error
            raise FileFailed(
                f"{self._host.name} could not do this to {path}. "
                "Is the disk full, or a quota used up?",
                str(error),
            ) from error

    def _raise_if_there(self, path: str, error: OSError) -> None:
        """Raise `FileExists` when `path` is there, which SFTP calls no more than a failure."""
        try:
            self.stat(path)
        except FileFailed:
            return
        raise FileExists(f"There is a {path} already.", str(error)) from error


class _RemoteFile:
    """An open file with the SFTP client that serves it; its errors are the portal's."""

    def __init__(
        self, files: SFTPFiles, path: str, client: paramiko.SFTPClient, file: paramiko.SFTPFile
    ) -> None:
        self._files = files
        self._path = path
        self._client = client
        self._file = file

    def __enter__(self) -> _RemoteFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        with self._files._errors(self._path), self._files._host.errors():
            return self._file.read(size if size >= 0 else None)

    def write(self, data: bytes) -> int:
        with self._files._errors(self._path), self._files._host.errors():
            self._file.write(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()

    def close(self) -> None:
        with self._files._errors(self._path), self._files._host.errors():
            try:
                self._file.close()
            finally:
                self._client.close()


def _entry(name: str, found: paramiko.SFTPAttributes) -> FileEntry:
    return FileEntry(
        name,
        found.st_mode if found.st_mode is not None else stat_bits.S_IFREG,
        found.st_size or 0,
        float(found.st_mtime or 0),
        found.st_uid or 0,
        found.st_gid or 0,
    )
