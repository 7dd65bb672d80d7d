"""The contract of a host: what the portal can do on a machine as one user.

Nothing outside `ood/hosts` opens a connection, starts a process or touches a user's file.
"""

import contextlib
import secrets
import stat as stat_bits
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol, Self
from unicodedata import category

from ood.errors import (
    CommandFailed,
    FileExists,
    FileFailed,
    FileMissing,
    FileRefused,
    HomeMissing,
)

MAX_INPUT = 1024 * 1024  # bytes of standard input of `Host.run`; use `Host.files` for more
MAX_OUTPUT = 1024 * 1024  # bytes of output after which `Host.run` fails, by default
TOO_MUCH_OUTPUT = "The command printed too much output."
NOT_SEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Unicode categories of invisible characters: control, format, line and paragraph separator."""
Env = Mapping[str, str] | None
"""Variables that are added to the user's environment."""


def as_utf8(path: str) -> str:
    """A path with U+FFFD for bytes that are not UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def shown(path: str) -> str:
    """A path for people to read. U+FFFD replaces bytes that are not UTF-8. ⟨U+202E⟩ and the like
    replace invisible characters, some of which would reorder the others on the screen, and all
    characters of a path of blanks."""
    text = as_utf8(path)
    return "".join(
        f"⟨U+{ord(character):04X}⟩"
        if category(character) in NOT_SEEN or text.isspace()
        else character
        for character in text
    )


@dataclass(frozen=True)
class CommandResult:
    """What a command printed, as bytes, and its exit code. For a signal the exit code is negative,
    or over SSH 128 plus the signal."""

    stdout: bytes
    stderr: bytes
    exit_code: int

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace")


@dataclass(frozen=True)
class FileEntry:
    """One name in a directory. Names that are not UTF-8 carry surrogate escapes. `mode` is 0, and
    nothing but the name is known, if the entry is on a disk that hangs."""

    name: str
    mode: int
    size: int
    modified: float  # seconds since the epoch
    uid: int
    gid: int

    @property
    def is_directory(self) -> bool:
        return stat_bits.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat_bits.S_ISREG(self.mode)


class Readable(Protocol):
    """A source of bytes. `read` returns b"" at the end, and raises as `Files` does."""

    def read(self, limit: int, /) -> bytes: ...
    def close(self) -> None: ...


class Files(ABC):
    """The files of a host. Paths are absolute. Every method raises `FileFailed` or a subclass, and
    `HostUnreachable`."""

    @abstractmethod
    def list(self, path: str) -> list[FileEntry]:
        """Return the entries of a directory, without `.` and `..`, unsorted."""

    @abstractmethod
    def stat(self, path: str, timeout: float | None = None) -> FileEntry:
        """Return the entry for `path`, following symbolic links. Over SSH, raises `FileTimedOut`
        after `timeout` seconds, and for some time after that at once."""

    @abstractmethod
    def lstat(self, path: str) -> FileEntry:
        """Return the entry for `path` without following a symbolic link."""

    @abstractmethod
    def resolve(self, path: str, timeout: float | None = None) -> str:
        """Return the path without symbolic links, `.` and `..`. The last name need not exist, even
        as the target of a symbolic link. `timeout` is as for `stat`."""

    @abstractmethod
    def open(self, path: str, mode: str) -> BinaryIO:
        """Open a file: `rb`, `wb`, `xb` (fails when it exists) or `r+b` (to write parts of it: seek
        first). The caller closes it. `write` raises if not all bytes reached the file."""

    def stream(self, path: str, offset: int = 0) -> Readable:
        """Read a regular file from `offset` to its end. The caller closes the stream."""
        file = self.open(path, "rb")
        try:
            file.seek(offset)
        except BaseException:
            file.close()
            raise
        return file

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Rename, atomically replacing a file with the new name."""

    @abstractmethod
    def move(self, old: str, new: str) -> None:
        """Rename. Raises `FileExists` when the new name exists."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file (not a directory)."""

    @abstractmethod
    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Create one directory. Raises `FileExists`."""

    @abstractmethod
    def chmod(self, path: str, mode: int) -> None:
        """Set the permission bits."""

    def make_directories(self, path: str, mode: int = 0o777) -> None:
        """Create a directory and its missing parents, each with `mode` (less the umask)."""
        with contextlib.suppress(FileExists):
            try:
                self.mkdir(path, mode)
            except FileMissing:
                self.make_directories(path.rsplit("/", 1)[0] or "/", mode)
                self.mkdir(path, mode)

    def read(self, path: str, limit: int, offset: int = 0) -> bytes:
        """Return at most `limit` bytes of a file from `offset`."""
        with self.open(path, "rb") as file:
            if offset:
                file.seek(offset)
            return file.read(limit)

    def write(self, path: str, data: bytes, mode: int) -> None:
        """Write a new file with these permission bits, which are set while it is still empty.
        Raises `FileExists`."""
        with self.open(path, "xb") as file:
            self.chmod(path, mode)
            file.write(data)

    def replace(self, path: str, data: bytes, mode: int) -> None:
        """Write a file so that a reader sees the old or the new content, never a part."""
        aside = f"{path}.{secrets.token_hex(4)}.bak"
        try:
            self.write(aside, data, mode)
            self.rename(aside, path)
        except FileFailed:
            with contextlib.suppress(FileFailed):
                self.remove(aside)
            raise


class Terminal(Protocol):
    """A shell in a pseudo-terminal. Only `close` waits. `fileno` is readable when there is output
    or the shell has ended."""

    def fileno(self) -> int: ...

    def read(self, limit: int) -> bytes:
        """Return output; b"" once the shell has ended. Raises BlockingIOError when there is none
        yet."""

    def write(self, data: bytes) -> int:
        """Type as many bytes as the terminal accepts now; return how many."""

    def resize(self, columns: int, rows: int) -> None: ...

    @property
    def lost(self) -> bool:
        """True if the connection dropped; False if the shell exited."""

    def close(self) -> None: ...


class Command(Protocol):
    """A running command. One thread writes and one reads; any thread may close it, which wakes
    them."""

    def write(self, data: bytes) -> None:
        """Write all of `data` to its input. Raises `CommandFailed` when it has ended or closed its
        input, and `HostUnreachable`."""

    def end_input(self) -> None: ...

    def read(self, limit: int) -> bytes:
        """Return output as it arrives; b"" at the end. Raises `HostUnreachable`."""

    def wait(self) -> int:
        """Return the exit code, as in `CommandResult`. Call it after the output has ended. Raises
        `CommandFailed` when the command does not end, and `HostUnreachable`."""

    @property
    def stderr(self) -> str:
        """Its standard error. Use it after the output has ended or the command was closed."""

    def close(self) -> None:
        """End it if it still runs. Over SSH this only closes its input and output, so a command
        that does not write must watch its input."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Stream(Protocol):
    """A connection, with the methods of a socket that the portal uses."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes, /) -> int: ...
    def sendall(self, data: bytes, /) -> None: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def fileno(self) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class Host(ABC):
    """A machine seen as one user."""

    name: str
    """The host's name in messages."""
    user: str
    files: Files

    @property
    @abstractmethod
    def home(self) -> str:
        """The user's home directory on this host, absolute."""

    @contextlib.contextmanager
    def home_is_used(self, path: str) -> Iterator[None]:
        """Raise `HomeMissing` instead of errors about `path` if it is in the home directory, and
        that is missing."""
        try:
            yield
        except (FileMissing, FileRefused) as error:
            if not f"{path}/".startswith(f"{self.home}/"):
                raise
            try:
                self.files.stat(self.home)
            except FileMissing:
                raise HomeMissing(
                    f"Your home directory {shown(self.home)} does not exist on {self.name}. Sign "
                    "in there once with ssh, or ask your administrator to create it. Then try "
                    "again.",
                    error.message,
                ) from error
            raise

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        env: Env = None,
        cwd: str | None = None,
        timeout: float = 30.0,
        max_output: int = MAX_OUTPUT,
        check: bool = True,
    ) -> CommandResult:
        """Run a command to its end, without a terminal.

        Other users of the host can read `argv` and, over SSH, `env`: put secrets in `input`.
        `timeout` is in seconds. With `check`, an exit code other than 0 raises `CommandFailed`, as
        does more than `max_output` bytes of output in any case. Raises `CommandTimedOut`,
        `AccountFault`, `HostUnreachable` and `SignInExpired`.
        """
        assert len(input) <= MAX_INPUT, "larger input goes through files"
        result = self._run(argv, input, env, cwd, timeout, max_output)
        if check and result.exit_code != 0:
            message = f"{argv[0]} on {self.name} failed with exit code {result.exit_code}."
            stderr = result.stderr.decode("utf-8", "replace").strip()
            raise CommandFailed(message, result.exit_code, stderr)
        return result

    @abstractmethod
    def _run(
        self,
        argv: Sequence[str],
        input: bytes,
        env: Env,
        cwd: str | None,
        timeout: float,
        max_output: int,
    ) -> CommandResult: ...

    @abstractmethod
    def start(self, argv: Sequence[str], *, env: Env = None, cwd: str | None = None) -> Command:
        """Start a command whose input and output are streams. The caller closes it. Raises
        `CommandFailed` and `HostUnreachable`."""

    @abstractmethod
    def terminal(self, cwd: str, columns: int = 80, rows: int = 24) -> Terminal:
        """Start the user's login shell in `cwd`, or at home when `cwd` is empty. If `cwd` cannot
        be entered, the shell says so and starts at home. Raises `HostError`."""

    @abstractmethod
    def dial(self, host: str, port: int, timeout: float = 10.0) -> Stream:
        """Open a TCP connection as seen from this host. Raises `HostUnreachable`."""
