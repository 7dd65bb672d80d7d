"""The contract of a host: what may be done on a machine, as one user.

Nothing else in the code base opens a connection, starts a process or touches a user's file.
"""

from __future__ import annotations

import contextlib
import secrets
import stat as stat_bits
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol
from unicodedata import category

from ood.errors import FileExists, FileFailed, FileMissing

MAX_INPUT = 1024 * 1024
"""Bytes that `Host.run` takes as standard input. Anything larger is a file: use `Host.files`."""

MAX_OUTPUT = 64 * 1024 * 1024
"""Bytes that `Host.run` keeps of a command's output; a command that prints more has failed."""

MAX_SAID = 256 * 1024
"""Bytes of its standard error that a `Command` keeps: the first ones."""

LOGIN_SHELL_IN = """
[ -z "$1" ] || cd -- "$1" 2>/dev/null || {
  cd
  echo "There is no such directory here, or you may not enter it: this is your home directory."
}
[ -n "$LC_ALL$LC_CTYPE$LANG" ] || export LANG=C.UTF-8
exec "${SHELL:-/bin/sh}" -l
"""
"""`sh -c` text that `Host.terminal` runs: its `$1` is the directory to start in, or empty. Where
nothing says which characters there are, they are what terminals in browsers have."""


NOT_SEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Unicode categories of what cannot be seen: control and format characters, and ends of lines."""


def as_utf8(path: str) -> str:
    """A path with U+FFFD for the bytes that are not UTF-8, so that it can be written."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def shown(path: str) -> str:
    """A path as it can be shown: with marks for bytes that are not UTF-8, and for characters that
    cannot be seen, some of which make others seem to be elsewhere."""
    return "".join(
        f"⟨U+{ord(character):04X}⟩" if category(character) in NOT_SEEN else character
        for character in as_utf8(path)
    )


@dataclass(frozen=True)
class CommandResult:
    """What a command printed, as bytes, and its exit code (negative for a signal)."""

    stdout: bytes
    stderr: bytes
    exit_code: int

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace")


@dataclass(frozen=True)
class FileEntry:
    """One name in a directory. Names that are not UTF-8 carry surrogate escapes."""

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
    """What bytes come from, in order; none at its end. Raises as `Files` does."""

    def read(self, limit: int, /) -> bytes: ...
    def close(self) -> None: ...


class Files(ABC):
    """The files of a host. Paths are absolute. Every method raises `FileFailed` or a sub-class,
    and `HostUnreachable` when the host is gone."""

    @abstractmethod
    def list(self, path: str) -> list[FileEntry]:
        """Return the entries of a directory, without `.` and `..`, in no order."""

    @abstractmethod
    def stat(self, path: str) -> FileEntry:
        """Return what `path` is, following symbolic links."""

    @abstractmethod
    def lstat(self, path: str) -> FileEntry:
        """Return what `path` itself is, a symbolic link for one."""

    @abstractmethod
    def resolve(self, path: str) -> str:
        """Return the real path: no symbolic links, `.` or `..` in it. All but its last name has to
        be there; of a link that leads to nothing, it is what would be there."""

    @abstractmethod
    def open(self, path: str, mode: str) -> BinaryIO:
        """Open a file: `rb`, `wb`, `xb` (fails when it exists) or `r+b` (to write parts of it: seek
        first). The caller closes it. What is written is there, or has failed, when `write`
        returns."""

    def stream(self, path: str, offset: int = 0) -> Readable:
        """Read a regular file from a place on, in order, as fast as it goes. The caller closes what
        is returned."""
        file = self.open(path, "rb")
        try:
            file.seek(offset)
        except BaseException:
            file.close()
            raise
        return file

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Rename, replacing a file of the new name in one step."""

    @abstractmethod
    def move(self, old: str, new: str) -> None:
        """Rename; raises `FileExists` when there is anything of the new name."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file (not a directory)."""

    @abstractmethod
    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Make one directory, which must not exist."""

    @abstractmethod
    def chmod(self, path: str, mode: int) -> None:
        """Set the permission bits."""

    def make_directories(self, path: str, mode: int = 0o777) -> None:
        """Make a directory and the missing ones above it, each with `mode` (less the umask)."""
        try:
            self.mkdir(path, mode)
        except FileExists:
            return
        except FileMissing:
            self.make_directories(path.rsplit("/", 1)[0] or "/", mode)
            try:
                self.mkdir(path, mode)
            except FileExists:
                return

    def read(self, path: str, limit: int, offset: int = 0) -> bytes:
        """Return at most `limit` bytes of a file from `offset`."""
        with self.open(path, "rb") as file:
            if offset:
                file.seek(offset)
            return file.read(limit)

    def write(self, path: str, data: bytes, mode: int) -> None:
        """Write a new file with these permission bits. Fails when it exists.

        The bits are set while the file is still empty, so that nobody can read what follows.
        """
        with self.open(path, "xb") as file:
            self.chmod(path, mode)
            file.write(data)

    def replace(self, path: str, data: bytes, mode: int) -> None:
        """Write a file so that a reader sees the old one or the new one, never a part."""
        aside = f"{path}.{secrets.token_hex(4)}.bak"
        try:
            self.write(aside, data, mode)
            self.rename(aside, path)
        except FileFailed:
            with contextlib.suppress(FileFailed):
                self.remove(aside)
            raise


class Terminal(Protocol):
    """A shell in a pseudo-terminal. Nothing here waits, but for `close`; `fileno` is readable when
    there is something to read."""

    def fileno(self) -> int: ...

    def read(self, limit: int) -> bytes:
        """What it printed; empty once it has gone. Raises BlockingIOError when there is nothing."""

    def write(self, data: bytes) -> int:
        """Type what it takes right now; return how many bytes that is."""

    def resize(self, columns: int, rows: int) -> None: ...

    @property
    def lost(self) -> bool:
        """Of one that has gone: whether the way to it was lost, and not the shell ended."""

    def close(self) -> None: ...


class Command(Protocol):
    """A running command. One thread writes, one reads; any may close it, which wakes them."""

    def write(self, data: bytes) -> None:
        """Give it all of `data`. Raises `CommandFailed` when it has ended or does not listen, and
        `HostUnreachable`."""

    def end_input(self) -> None: ...

    def read(self, limit: int) -> bytes:
        """What it printed, as it comes; empty at the end. Raises `HostUnreachable`."""

    def wait(self) -> int:
        """Its exit code, once its output has ended. Negative when a signal ended it. Raises
        `CommandFailed` when it does not end, and `HostUnreachable`."""

    @property
    def said(self) -> str:
        """What it said on standard error. Only when its output has ended, or it is closed."""

    def close(self) -> None:
        """End it, if it still runs, by ending its input and its output. A command that uses neither
        has to watch its input."""

    def __enter__(self) -> Command: ...
    def __exit__(self, *exception: object) -> None: ...


class Stream(Protocol):
    """The part of a socket that a dialled connection has."""

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
    """How the host is called in sentences for the user."""
    user: str
    files: Files

    @property
    @abstractmethod
    def home(self) -> str:
        """The user's home directory on this host, absolute."""

    @abstractmethod
    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 30.0,
        check: bool = True,
    ) -> CommandResult:
        """Run a command to its end, without a terminal.

        Other users of the host can read `argv` and, over SSH, `env`: secrets go into `input`.
        `env` is added to the user's environment; `timeout` is in seconds. With `check`, an exit
        code other than 0 raises `CommandFailed`. Raises `CommandTimedOut`, `HostUnreachable` and
        `SignInExpired`.
        """

    @abstractmethod
    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> Command:
        """Start a command whose input and output are streams; the caller closes it.

        For trees of files on their way to another host or to a browser: `tar` takes thousands of
        small ones as fast as a few big ones, where `files` asks several questions about each; and
        `run` holds all that a command prints. Raises `CommandFailed` and `HostUnreachable`.
        """

    @abstractmethod
    def terminal(self, cwd: str, columns: int = 80, rows: int = 24) -> Terminal:
        """Start the user's login shell in `cwd`: at home when it is empty, and with a word when it
        cannot be entered. Raises `HostError`."""

    @abstractmethod
    def dial(self, host: str, port: int, timeout: float = 10.0) -> Stream:
        """Open a TCP connection as seen from this host. Raises `HostUnreachable`."""
