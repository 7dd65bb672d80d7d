"""Counts, deletes and sets permissions of entries of a directory, with everything below them.

The host's own tools (GNU find, xargs and coreutils) do it: they are fast and follow no links. They
read names from standard input, each ended by NUL, because there may be more than fit on a command
line. A `./` before each name keeps it from being read as an option.
"""

import logging
import posixpath
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ood.errors import CommandFailed, CommandTimedOut, FileFailed, HostError
from ood.hosts.base import MAX_INPUT, Command, Host, shown

PIECE = 1024 * 1024  # bytes read at a time
PATIENCE = 40.0  # seconds for a change that a page waits for
GRACE = 10.0  # seconds for a count to end after its time limit

# Prints the time on the host, a record for each entry, and `complete` if nothing was left out.
# Records of pipes, sockets and devices begin with `!`.
COUNT = r"""
printf '%s\0' "$(date +%s.%N)"
timeout -k 2 "$1" xargs -0r sh -c 'exec find "$@" "(" -type f -o -type d -o -type l ")" \
    -printf "%y%s\\0" -o -printf "!%y%p\\0"' sh && printf 'complete\0'
"""
DELETE = ["xargs", "-0r", "rm", "-rf", "--"]
CHMOD = """
exec xargs -0r sh -c '
below=$1 files=$2 directories=$3
shift 3
exec find "$@" -depth -maxdepth "$below" \\
    "(" -type d -exec chmod "$directories" {} + ")" -o ! -type l -exec chmod "$files" {} +
' sh "$@"
"""
TOOLS_ENV = {"LC_ALL": "C", "TMPDIR": "/tmp"}  # noqa: S108 - a start-up file may name a missing one
"""The variables for GNU's tools."""
NO_LIMIT = 2**31 - 1
SPECIAL = {"p": "pipe", "s": "socket", "b": "device", "c": "device"}

Started = Callable[[Command], None]
"""Called with each command that starts, so that another thread can close it."""

log = logging.getLogger(__name__)


@dataclass
class Count:
    """What was counted. `began` is the start, by the host's clock, in seconds since the epoch;
    `files` are all entries that are not directories; `size` is in bytes. `special` describes pipes,
    sockets and devices, and `problems` what find could not read. `complete` is False if there were
    such problems or the time limit was reached."""

    began: str = ""
    files: int = 0
    directories: int = 0
    size: int = 0
    complete: bool = False
    special: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, record: str) -> None:
        if not self.began:
            self.began = record
        elif record == "complete":
            self.complete = True
        elif record.startswith("d"):
            self.directories += 1
        else:
            self.files += 1
            if record.startswith("!"):
                kind = SPECIAL.get(record[1:2], "special file")
                self.special.append(f"{shown(posixpath.normpath(record[2:]))}: a {kind}")
            elif record.startswith("f"):
                self.size += int(record[1:] or 0)


def start(
    host: Host,
    argv: Sequence[str],
    directory: str,
    names: Iterable[str],
    started: Started | None = None,
) -> Command:
    """Start a command that reads names of entries of a directory. The caller closes it. Raises
    `FileFailed` and `HostUnreachable`."""
    try:
        command = host.start(argv, env=TOOLS_ENV, cwd=directory)
    except CommandFailed as error:
        raise _cannot_run(host, argv, directory, error) from error
    if started is not None:
        started(command)
    threading.Thread(target=_feed, args=(command, names), name="names", daemon=True).start()
    return command


def count(
    host: Host,
    directory: str,
    names: Iterable[str],
    *,
    seconds: int = 0,
    started: Started | None = None,
) -> Count:
    """Count entries of a directory with everything below them, for at most `seconds` (0: no limit).
    Raises `FileFailed` and `HostUnreachable`."""
    counted = Count()
    script = ["sh", "-c", COUNT, "sh", str(seconds)]
    with start(host, script, directory, names, started) as command:
        watchdog = threading.Timer(seconds + GRACE, command.close)  # for a file system that hangs
        watchdog.daemon = True
        if seconds:
            watchdog.start()
        try:
            rest = b""
            while data := command.read(PIECE):
                *records, rest = (rest + data).split(b"\0")
                for record in records:
                    counted.add(record.decode("utf-8", "surrogateescape"))
        finally:
            watchdog.cancel()
        if not counted.began:
            raise FileFailed(f"Could not count the files on {host.name}.", command.stderr)
        counted.problems = complaints(command.stderr)
    return counted


def delete(host: Host, directory: str, names: Iterable[str]) -> str:
    """Delete entries with everything below them. Return why some may be left, or an empty string if
    all are deleted."""
    return _change(host, DELETE, directory, names)


def set_permissions(
    host: Host, directory: str, names: Iterable[str], mode: int, below: bool
) -> str:
    """Set the permission bits of entries that are not links. With `below`, also set those of
    everything below them: then all who may read a directory may enter it, and bits above the last
    nine are set on directories only. Return why some are not set, or an empty string."""
    files, directories, depth = mode, mode, 0
    if below:
        files, directories, depth = mode & 0o777, mode | (mode & 0o444) >> 2, NO_LIMIT
    script = ["sh", "-c", CHMOD, "sh", str(depth), f"{files:04o}", f"{directories:04o}"]
    return _change(host, script, directory, names)


def as_input(names: Iterable[str]) -> Iterator[bytes]:
    """Names as `xargs -0` and tar read them, in batches that `Host.run` takes as input."""
    batch = bytearray()
    for name in names:
        word = b"./" + name.encode("utf-8", "surrogateescape") + b"\0"
        if len(batch) + len(word) > MAX_INPUT:
            yield bytes(batch)
            batch.clear()
        batch += word
    if batch:
        yield bytes(batch)


def complaints(said: str) -> list[str]:
    """The lines that find, tar and cp wrote about single files, ready to be shown."""
    lines = (re.sub(r"^(?:\S+/)?(tar|find|cp): ", "", line) for line in said.splitlines())
    return [
        shown(line)
        for line in lines
        if line and not line.startswith(("Exiting with failure", "Removing leading"))
    ]


def _change(host: Host, argv: Sequence[str], directory: str, names: Iterable[str]) -> str:
    """Run a command on all names, a batch at a time; return the first failure, if any."""
    reason = ""
    deadline = time.monotonic() + PATIENCE
    for batch in as_input(names):
        left = max(1.0, deadline - time.monotonic())
        try:
            result = host.run(
                argv, input=batch, env=TOOLS_ENV, cwd=directory, timeout=left, check=False
            )
        except CommandTimedOut:
            return f"it took more than {PATIENCE:.0f} seconds. Try again to continue"
        except CommandFailed as error:
            raise _cannot_run(host, argv, directory, error) from error
        if result.exit_code and not reason:
            line = result.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
            reason = shown(line.rpartition(": ")[2]) or "the command failed"
    return reason


def _cannot_run(
    host: Host, argv: Sequence[str], directory: str, error: CommandFailed
) -> FileFailed:
    return FileFailed(
        f"Could not run {argv[0]} in {shown(directory)} on {host.name}.", error.detail
    )


def _feed(command: Command, names: Iterable[str]) -> None:
    try:
        for batch in as_input(names):
            command.write(batch)
        command.end_input()
    except HostError:
        pass  # the command has ended; whoever reads from it finds out why
    except Exception:
        log.exception("could not write names to a command")
