"""The files of a host over SFTP.

Short operations take turns with one SFTP client, because a client that two threads use at once
deadlocks. An open file, and an operation that waits too long for its turn, get their own client.
"""

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, cast

import paramiko
from paramiko.message import Message
from paramiko.sftp import CMD_CLOSE

from ood.errors import FileTimedOut, HostUnreachable
from ood.help_topics import NO_REASON, HelpTopic, Reason
from ood.hosts.base import Command, FileEntry, Files, Readable, shown
from ood.hosts.connection import SharedConnection, did_not_answer
from ood.hosts.login_shell import MarkedCommand
from ood.hosts.open_file import OpenFile, file_entry, file_error
from ood.hosts.readdir import entries_of
from ood.hosts.slow_listing import slow_entries_of

REQUEST_SIZE = 255 * 1024
"""Bytes in one request: the most that OpenSSH accepts. One such request at a time is as fast as
paramiko's prefetch and pipelining with 32 KiB. Prefetch starts threads that outlive an abandoned
download, and pipelining does not report a full disk."""
ANSWER_TIMEOUT = 10.0  # seconds, for each request
DATA_TIMEOUT = 30.0  # seconds, for each request of a file that stays open
HUNG_SECONDS = 60.0  # after a time-out, in which other looks at the same path do not wait
MAX_HUNG = 1000  # paths that are remembered
TURN_TIMEOUT = 1.0  # seconds to wait for the shared client
DISK_HINT = Reason(
    "the disk may be full or read-only, or you may have used up your quota", HelpTopic.DISK_FULL
)
DISK_MAY_HANG = "Its disk may not be available. Try again later, or tell your administrator."
WRITING = ("write", "create", "rename", "move")
START_TIMEOUT = 15.0  # seconds for an SFTP server to start
SFTP_SERVER = [
    "sh",
    "-c",
    "for directory in /usr/lib/openssh /usr/libexec/openssh /usr/lib/ssh /usr/libexec; do "
    'test -x "$directory/sftp-server" && exec "$directory/sftp-server"; done; exit 127',
]
"""Starts OpenSSH's SFTP server, where Debian, Red Hat, SUSE and others install it."""

log = logging.getLogger(__name__)


class SFTPClient(paramiko.SFTPClient):
    """Paramiko's client, with surrogate escapes for bytes of names that are not UTF-8."""

    def _adjust_cwd(self, path: str | bytes) -> bytes:
        return path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")

    def _request(self, t: int, *args: object) -> tuple[int, Message]:
        kind, message = super()._request(t, *args)  # type: ignore[misc]  # unknown to the stubs
        message.get_text = lambda: message.get_string().decode("utf-8", "surrogateescape")
        return kind, message


class SFTPFile(paramiko.SFTPFile):
    """Paramiko's file, but closing it raises OSError unless all that was written has reached it.
    Paramiko ignores errors then, and NFS reports only then that a quota is used up."""

    MAX_REQUEST_SIZE = REQUEST_SIZE
    path: str
    _written = 0  # the size of the file, at least

    def write(self, data: bytes) -> None:
        super().write(data)
        self._written = max(self._written, self.tell())

    def close(self) -> None:
        if self.closed or not self._written:
            super().close()
            return
        self._closed = True
        client = cast(Any, self.sftp)
        client._request(CMD_CLOSE, self.handle)
        size = client.stat(self.path).st_size or 0
        if size < self._written:
            raise OSError(errno.EIO, f"{size} bytes reached the file, of {self._written}")


class SFTPFiles(Files):
    """The files of one SSH host. `start` is the host's own."""

    def __init__(
        self, connection: SharedConnection, start: Callable[[Sequence[str]], Command]
    ) -> None:
        self._connection = connection
        self._start = start
        self._turn = threading.BoundedSemaphore()  # who has it may use `_shared`
        self._shared: SFTPClient | None = None
        self.as_command = False  # whether the SFTP server is started as a command
        self._hung: dict[str, float] = {}  # when an operation on a path timed out

    @property
    def shared_channel(self) -> paramiko.Channel | None:
        """The channel of the shared client, which stays open."""
        shared = self._shared
        return shared.get_channel() if shared is not None else None

    def resolve(self, path: str, timeout: float | None = None) -> str:
        if timeout:
            self._raise_if_hung(path)
        with self._client("find", path, timeout) as client:
            return client.normalize(path)

    def list(self, path: str) -> list[FileEntry]:
        try:
            self._raise_if_hung(path)
            with self._client("list", path) as client:
                return entries_of(client, path.encode("utf-8", "surrogateescape"))
        except FileTimedOut:
            if (found := slow_entries_of(self._start, path)) is None:
                raise
            return found

    def stat(self, path: str, timeout: float | None = None) -> FileEntry:
        if timeout:
            self._raise_if_hung(path)
        with self._client("read", path, timeout) as client:
            return file_entry(path, client.stat(path))

    def lstat(self, path: str) -> FileEntry:
        with self._client("read", path) as client:
            return file_entry(path, client.lstat(path))

    def open(self, path: str, mode: str) -> BinaryIO:
        action = "read" if mode == "rb" else "write"
        with ExitStack() as undo:
            undo.enter_context(self._connection.slot(lasting=True))
            with self._connection.connected() as transport:
                client = self._new_client(transport)
                undo.callback(client.close)
                with self._errors(action, path, client, DATA_TIMEOUT):
                    file = _open(client, path, mode)

            @contextmanager
            def errors() -> Iterator[None]:
                with (
                    self._connection.errors(transport),
                    self._errors(action, path, client, DATA_TIMEOUT),
                ):
                    yield

            return cast(BinaryIO, OpenFile(file, errors, undo.pop_all()))

    def read(self, path: str, limit: int, offset: int = 0) -> bytes:
        with self._client("read", path) as client, _open(client, path, "rb") as file:
            if offset:
                file.seek(offset)
            return file.read(limit)

    def write(self, path: str, data: bytes, mode: int) -> None:
        with self._client("create", path) as client, _open(client, path, "xb") as file:
            file.chmod(mode)
            file.write(data)

    def stream(self, path: str, offset: int = 0) -> Readable:
        """Run `tail`, which costs the portal half the time of SFTP requests."""
        self.read(path, 1, offset)  # raises what is wrong, if anything is
        command = self._start(["tail", "-c", f"+{offset + 1}", "--", path])
        command.end_input()
        return command

    def rename(self, old: str, new: str) -> None:
        with self._client("rename", old) as client:
            client.posix_rename(old, new)

    def move(self, old: str, new: str) -> None:
        with self._client("move", old) as client:
            client.lstat(old)
        with self._client("create", new) as client:
            _raise_if_there(client, new)  # OpenSSH would replace a dangling link
            try:
                client.rename(old, new)
            except OSError as error:
                _raise_if_there(client, new, error)
                raise

    def remove(self, path: str) -> None:
        with self._client("delete", path) as client:
            client.remove(path)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        with self._client("create", path) as client:
            try:
                client.mkdir(path, mode)
            except OSError as error:
                _raise_if_there(client, path, error)
                raise

    def chmod(self, path: str, mode: int) -> None:
        with self._client("set the permissions of", path) as client:
            client.chmod(path, mode)

    @contextmanager
    def _client(self, action: str, path: str, timeout: float | None = None) -> Iterator[SFTPClient]:
        """A client for one operation on `path`, whose errors are the portal's: the shared one, or
        a new one while a slow operation uses that."""
        with ExitStack() as held:
            has_turn = self._turn.acquire(timeout=TURN_TIMEOUT)
            if has_turn:
                held.callback(self._turn.release)
            else:
                held.enter_context(self._connection.slot())
            transport = held.enter_context(self._connection.connected())
            client = self._shared if has_turn else None
            channel = client.get_channel() if client is not None else None
            if channel is None or channel.closed or channel.get_transport() is not transport:
                client = self._new_client(transport)
                if has_turn:
                    self._shared = client
                else:
                    held.callback(client.close)
            assert client is not None
            with self._errors(action, path, client, timeout or ANSWER_TIMEOUT):
                yield client

    def _new_client(self, transport: paramiko.Transport) -> SFTPClient:
        """Start an SFTP server, for one client. If it is a program, sshd starts it through the
        login shell, and start-up files can print before it. Then, start it as a command."""
        if not self.as_command:
            try:
                return self._client_of(transport, lambda channel: channel.invoke_subsystem("sftp"))
            except (paramiko.SFTPError, paramiko.SSHException, EOFError) as error:
                if not transport.is_active():
                    raise
                log.info("no SFTP on %s by itself: %s", self._connection.name, error)
        client = self._client_of(transport, self._start_server)
        self.as_command = True
        return client

    def _client_of(
        self, transport: paramiko.Transport, start: Callable[[paramiko.Channel], object]
    ) -> SFTPClient:
        channel = self._connection.open_session(transport)
        channel.settimeout(START_TIMEOUT)
        try:
            start(channel)
            return SFTPClient(channel)
        except BaseException as error:
            channel.close()
            if isinstance(error, TimeoutError):
                self._connection.suspect(transport)
                raise HostUnreachable(did_not_answer(self._connection.name)) from error
            raise

    def _start_server(self, channel: paramiko.Channel) -> None:
        command = MarkedCommand(channel, self._connection.name)
        command.begin(SFTP_SERVER, None, None, time.monotonic() + START_TIMEOUT)

    @contextmanager
    def _errors(self, action: str, path: str, client: SFTPClient, timeout: float) -> Iterator[None]:
        """Turn the server's errors about a file into the portal's. Wait for each of its answers for
        `timeout` seconds. After that, only this client is closed."""
        channel = client.get_channel()
        assert channel is not None
        channel.settimeout(timeout)
        try:
            yield
        except OSError as error:
            if channel.closed:
                raise  # about the connection, not about a file
            if isinstance(error, TimeoutError):
                client.close()
                self._connection.suspect(channel.get_transport())
                if len(self._hung) >= MAX_HUNG:
                    self._hung.clear()
                self._hung[path] = time.monotonic()
                raise self._timed_out(path) from error
            # SFTP version 3 has codes for "no such file" and "permission denied" only.
            hint = DISK_HINT if action in WRITING else NO_REASON
            raise file_error(error, action, path, self._connection.name, hint) from error

    def _raise_if_hung(self, path: str) -> None:
        """Raise `FileTimedOut` if `path` has timed out lately: a server that hangs stays on the
        host until the disk answers."""
        if time.monotonic() - self._hung.get(path, -HUNG_SECONDS) < HUNG_SECONDS:
            raise self._timed_out(path)

    def _timed_out(self, path: str) -> FileTimedOut:
        message = f"{shown(path)} on {self._connection.name} did not answer in time."
        return FileTimedOut(f"{message} {DISK_MAY_HANG}")


def _open(client: SFTPClient, path: str, mode: str) -> SFTPFile:
    try:
        # SFTP needs "w" as well as "x" to write.
        file = client.open(path, "wx" if mode == "xb" else mode)
    except OSError as error:
        if mode == "xb":
            _raise_if_there(client, path, error)
        raise
    file.__class__ = SFTPFile
    assert isinstance(file, SFTPFile)
    file.path = path
    return file


def _raise_if_there(client: SFTPClient, path: str, error: OSError | None = None) -> None:
    """Raise FileExistsError when `path` exists. SFTP has no code for that."""
    try:
        client.lstat(path)
    except OSError:
        return
    raise FileExistsError(errno.EEXIST, str(error or path)) from error
