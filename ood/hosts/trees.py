"""Entries of a directory with all that is below them: counted, deleted and given permissions by the
host's own tools, which are quick at it and follow no links."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ood.errors import CommandFailed, CommandTimedOut, FileFailed
from ood.hosts.base import MAX_INPUT, CommandResult, Host, shown

COUNT_SECONDS = 8
PATIENCE = 40.0  # seconds for what is not only looked at: some wait for a page meanwhile

# Names come by standard input, as there may be more than a command line holds. In all of them `.`
# stands before a name, so that none is taken for an option.
COUNT = """
{ timeout "$1" xargs -0r sh -c 'exec find "$@" -printf "%y %s\\n"' sh 2>/dev/null || echo cut; } |
awk '$1 == "cut" { cut = 1; next } $1 == "d" { directories++; next } { files++ }
    $1 == "f" { size += $2 }
    END { printf "%d %d %.0f %d\\n", files, directories, size, cut }'
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
NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Count:
    """`files` are all that are no directories, and `size` is in bytes. When not
    `complete`, some could not be read or counting took too long."""

    files: int
    directories: int
    size: int
    complete: bool


def count(host: Host, directory: str, names: Sequence[str]) -> Count:
    """Count the entries of a directory with these names, and what is below them."""
    found = [0, 0, 0, 0]
    deadline = time.monotonic() + COUNT_SECONDS
    for batch in _batches(names):
        left = max(1, round(deadline - time.monotonic()))
        script = ["sh", "-c", COUNT, "sh", str(left)]
        said = _run(host, script, directory, batch, left + 10).text
        try:
            found = [sum(pair) for pair in zip(found, map(int, said.split()), strict=True)]
        except ValueError as error:
            raise FileFailed(f"{host.name} could not count what is there.", said) from error
    return Count(found[0], found[1], found[2], not found[3])


def delete(host: Host, directory: str, names: Sequence[str]) -> str:
    """Delete entries with all that is below them. Return why some are left, if any may be."""
    return _change(host, DELETE, directory, names)


def set_permissions(
    host: Host, directory: str, names: Sequence[str], mode: int, below: bool
) -> str:
    """Set the permission bits of entries that are no links. With `below`, also of all that is below
    them: whoever may read a directory may enter it then, and files get none of the bits above the
    last nine. Return why some are not set, if any."""
    files, directories, depth = mode, mode, 0
    if below:
        files, directories, depth = mode & 0o777, mode | (mode & 0o444) >> 2, NO_LIMIT
    script = ["sh", "-c", CHMOD, "sh", str(depth), f"{files:04o}", f"{directories:04o}"]
    return _change(host, script, directory, names)


def _change(host: Host, argv: Sequence[str], directory: str, names: Sequence[str]) -> str:
    reason = ""
    deadline = time.monotonic() + PATIENCE
    for batch in _batches(names):
        try:
            left = max(1.0, deadline - time.monotonic())
            result = _run(host, argv, directory, batch, left)
        except CommandTimedOut:
            return f"it takes more than {PATIENCE:.0f} seconds, so do it again to go on"
        if result.exit_code and not reason:
            line = result.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
            reason = shown(line.rpartition(": ")[2]) or "it failed"
    return reason


def _run(
    host: Host, argv: Sequence[str], directory: str, batch: bytes, timeout: float
) -> CommandResult:
    try:
        return host.run(
            argv, input=batch, env={"LC_ALL": "C"}, cwd=directory, timeout=timeout, check=False
        )
    except CommandFailed as error:
        raise FileFailed(f"{shown(directory)} cannot be worked in.", error.stderr) from error


def _batches(names: Iterable[str]) -> Iterator[bytes]:
    """The names as `xargs -0` reads them, as many at a time as a command's input holds."""
    batch = bytearray()
    for name in names:
        word = b"./" + name.encode("utf-8", "surrogateescape") + b"\0"
        if len(batch) + len(word) > MAX_INPUT:
            yield bytes(batch)
            batch.clear()
        batch += word
    if batch:
        yield bytes(batch)
