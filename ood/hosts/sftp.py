"""The files of a host over SFTP.

Short operations share one SFTP client under a lock (a client used by two threads deadlocks); an
open file has a client of its own, so a long download holds nobody up.
"""

from __future__ import annotations

import errno
import stat as stat_bits
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

import paramiko
from paramiko.message import Message

from ood.errors import FileExists, FileFailed, FileMissing, FileRefused
from ood.hosts.base import FileEntry, Files, Readable, shown
from ood.hosts.readdir import entries_of

if TYPE_CHECKING:
    from ood.hosts.ssh import SSHHost

REQUEST_SIZE = 255 * 1024
"""Bytes moved by one request: the most that OpenSSH takes. With these, one request at a time is as
fast as paramiko's prefetch and pipelining are with 32 KiB, without the first's threads, which
outlive an abandoned download, and without the second's silence about a disk that was full."""

ANSWER_TIMEOUT = 30.0  # seconds, for each request


class SFTPFiles(Files):
    """The files of one SSH host."""

    def __init__(self, host: SSHHost) -> None:
        self._host = host
        self._lock = threading.RLock()
        self._shared: SFTPClient | None = None

    @property
    def shared_channel(self) -> paramiko.Channel | None:
        """The one long-lived channel of the short operations."""
        return self._shared.get_channel() if self._shared is not None else None

    def resolve(self, path: str) -> str:
        """OpenSSH does it as the contract says; a relative path begins at home."""
        with self._client(path) as client:
            return client.normalize(path)

    def list(self, path: str) -> list[FileEntry]:
        with self._client(path) as client:
            return entries_of(client, path.encode("utf-8", "surrogateescape"))

    def stat(self, path: str) -> FileEntry:
        with self._client(path) as client:
            return _entry(path.rsplit("/", 1)[-1], client.stat(path))

    def lstat(self, path: str) -> FileEntry:
        with self._client(path) as client:
            return _entry(path.rsplit("/", 1)[-1], client.lstat(path))

    def open(self, path: str, mode: str) -> BinaryIO:
        with ExitStack() as undo:
            undo.enter_context(self._host.place(lasting=True))
            with self._host.connected() as transport:
                client = SFTPClient.on(self._host.open_session(transport))
                undo.callback(client.close)
                with self._errors(path, client):
                    file = _open(client, path, mode)

            @contextmanager
            def errors() -> Iterator[None]:
                with self._host.errors(transport), self._errors(path, client):
                    yield

            return cast(BinaryIO, _RemoteFile(file, errors, undo.pop_all()))

    def read(self, path: str, limit: int, offset: int = 0) -> bytes:
        with self._client(path) as client, _open(client, path, "rb") as file:
            if offset:
                file.seek(offset)
            return file.read(limit)

    def write(self, path: str, data: bytes, mode: int) -> None:
        with self._client(path) as client, _open(client, path, "xb") as file:
            file.chmod(mode)
            file.write(data)

    def stream(self, path: str, offset: int = 0) -> Readable:
        """By a command: it takes half of the portal's time that SFTP takes, whose every answer has
        to be asked for and put together."""
        self.read(path, 1, offset)  # which says what is wrong, if anything is
        command = self._host.start(["tail", "-c", f"+{offset + 1}", "--", path])
        command.end_input()
        return command

    def rename(self, old: str, new: str) -> None:
        with self._client(old) as client:
            client.posix_rename(old, new)

    def move(self, old: str, new: str) -> None:
        with self._client(old) as client:
            client.lstat(old)
        with self._client(new) as client:
            _raise_if_there(client, new)  # OpenSSH would replace a link that leads to nothing
            try:
                client.rename(old, new)
            except OSError as error:
                _raise_if_there(client, new, error)
                raise

    def remove(self, path: str) -> None:
        with self._client(path) as client:
            client.remove(path)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        with self._client(path) as client:
            try:
                client.mkdir(path, mode)
            except OSError as error:
                _raise_if_there(client, path, error)
                raise

    def chmod(self, path: str, mode: int) -> None:
        with self._client(path) as client:
            client.chmod(path, mode)

    @contextmanager
    def _client(self, path: str) -> Iterator[SFTPClient]:
        """The shared client, for one operation on `path`, its errors turned into the portal's."""
        with self._lock, self._host.connected() as transport:
            channel = self.shared_channel
            if channel is None or channel.closed or channel.get_transport() is not transport:
                self._shared = SFTPClient.on(self._host.open_session(transport))
            assert self._shared is not None
            with self._errors(path, self._shared):
                yield self._shared

    @contextmanager
    def _errors(self, path: str, client: SFTPClient) -> Iterator[None]:
        """Turn what the server says about a file into the portal's errors."""
        try:
            yield
        except OSError as error:
            channel = client.get_channel()
            if isinstance(error, TimeoutError) or channel is None or channel.closed:
                raise  # about the connection, not about a file
            # SFTP version 3 has words for "no such file" and "permission denied" only.
            if error.errno == errno.ENOENT:
                raise FileMissing(f"There is no {shown(path)}.", str(error)) from error
            if error.errno == errno.EEXIST:
                raise FileExists(f"There is a {shown(path)} already.", str(error)) from error
            if error.errno == errno.EACCES:
                raise FileRefused(
                    f"You have no permission for {shown(path)}.", str(error)
                ) from error
            raise FileFailed(
                f"{self._host.name} could not do this to {shown(path)}. "
                "Is the disk full or read-only, or a quota used up?",
                str(error),
            ) from error


class SFTPClient(paramiko.SFTPClient):
    """Paramiko's client, for names of any bytes: what is not UTF-8 has surrogate escapes."""

    @classmethod
    def on(cls, channel: paramiko.Channel) -> SFTPClient:
        channel.invoke_subsystem("sftp")
        channel.settimeout(ANSWER_TIMEOUT)
        return cls(channel)

    def _adjust_cwd(self, path: str | bytes) -> bytes:
        return path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")

    def _request(self, t: int, *args: object) -> tuple[int, Message]:
        kind, message = super()._request(t, *args)  # type: ignore[misc]  # unknown to the stubs
        message.get_text = lambda: message.get_string().decode("utf-8", "surrogateescape")
        return kind, message


class _RemoteFile:
    """An open file with the SFTP client that serves it; its errors are the portal's."""

    def __init__(
        self,
        file: paramiko.SFTPFile,
        errors: Callable[[], AbstractContextManager[None]],
        resources: ExitStack,
    ) -> None:
        self._file = file
        self._errors = errors
        self._resources = resources

    def __enter__(self) -> _RemoteFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        with self._errors():
            return self._file.read(size if size >= 0 else None)

    def write(self, data: bytes) -> int:
        with self._errors():
            self._file.write(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._errors():
            self._file.seek(offset, whence)
            return self._file.tell()

    def close(self) -> None:
        with self._resources, self._errors():
            self._file.close()


def _open(client: SFTPClient, path: str, mode: str) -> paramiko.SFTPFile:
    try:
        # SFTP needs "w" beside "x" to write at all.
        file = client.open(path, "wx" if mode == "xb" else mode)
    except OSError as error:
        if mode == "xb":
            _raise_if_there(client, path, error)
        raise
    file.MAX_REQUEST_SIZE = REQUEST_SIZE
    return file


def _raise_if_there(client: SFTPClient, path: str, error: OSError | None = None) -> None:
    """Raise FileExistsError when `path` is there, which SFTP calls no more than a failure."""
    try:
        client.lstat(path)
    except OSError:
        return
    raise FileExistsError(errno.EEXIST, str(error or path)) from error


def _entry(name: str, found: paramiko.SFTPAttributes) -> FileEntry:
    return FileEntry(
        name,
        found.st_mode if found.st_mode is not None else stat_bits.S_IFREG,
        found.st_size or 0,
        float(found.st_mtime or 0),
        found.st_uid or 0,
        found.st_gid or 0,
    )
