"""What the hosts' own tools do for a transfer, and how their answers are read.

GNU find, tar and coreutils, as any Linux has them. Names come by standard input, each ended by NUL,
as there may be more than a command line holds; `./` stands before each. Links are not followed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ood.errors import FileFailed
from ood.hosts.base import Command, Host, shown
from ood.transfers.archive import complaints, feed

PIECE = 1024 * 1024
KINDS = {"p": "pipe", "s": "socket", "b": "device", "c": "device"}
FULL = ("No space left", "quota exceeded", "Wrote only")
SENTENCE = 200  # characters of what a tool said

# What there is; another kind of line for what is neither file, directory nor link.
COUNT = r"""
date +%s.%N
xargs -0r sh -c 'exec find "$@" "(" -type f -o -type d -o -type l ")" -printf "%y%s\\0" \
    -o -printf "!%y%p\\0"' sh
"""
PACK = """
xargs -0r sh -c 'exec find "$@" "(" -type f -o -type d -o -type l ")" -print0' sh |
tar --create --sparse --no-recursion --null --files-from=- --file=-
"""
UNPACK = ["tar", "--extract", "--preserve-permissions", "--no-same-owner", "--verbose", "--file=-"]

# Within one host. Its standard input is the portal's hand on it: when that lets go, all of it ends.
COPY = """
stage=$1
exec 3<&0
( cat <&3; kill -TERM 0 ) >/dev/null 2>&1 &
hand=$!
( while sleep 1 >/dev/null 2>&1; do du -sb "$stage/tree"; done ) 2>/dev/null &
look=$!
xargs -0r -a "$stage/names" cp -a -v -t "$stage/tree" --
code=$?
kill $hand $look 2>/dev/null
exit $code
"""
# The same at both ends when all has arrived as it was: every name, kind, mode and link; then every
# byte of every file.
SHAPE = r"""
xargs -0r sh -c 'exec find "$@" -type f -printf "f %m %s %p\\0" -o -printf "%y %m %l %p\\0"' sh |
LC_ALL=C sort -z | sha256sum
"""
CONTENT = """
xargs -0r sh -c 'exec find "$@" -type f -print0' sh | LC_ALL=C sort -z |
xargs -0r sha256sum -b -- | sha256sum
"""
# Only what was there when the transfer began: what came or changed since was not transferred. (All
# are looked at before the first is deleted, which would change its other names, if it has any.)
DELETE = r"""
names=$(mktemp) && trap 'rm -f "$names"' EXIT && cat >"$names" || exit
xargs -0r -a "$names" sh -c 'began=$0; exec find "$@" ! -type d ! -newerct "@$began" -print0' "$1" |
LC_ALL=C sort -z | xargs -0r rm -f --
xargs -0r -a "$names" sh -c 'for each; do
    [ -L "$each" ] || [ ! -d "$each" ] || find "$each" -depth -type d -empty -delete
done' sh
"""
REMOVE = 'chmod -R u+rwX -- "$1"; rm -rf -- "$1"'

Started = Callable[[Command], None]
"""Is told of each command that runs, so that it can be closed when the transfer is cancelled."""


@dataclass
class Counted:
    """`began` is by the host's own clock. `skipped` says what is neither file, directory nor
    link."""

    began: str
    files: int = 0
    size: int = 0
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def shell(
    host: Host, script: str, directory: str, names: Sequence[str], told: Started, *arguments: str
) -> Command:
    """Start a script that reads names. The caller closes what is returned."""
    argv = ["sh", "-c", script, "sh", *arguments]
    command = host.start(argv, env={"LC_ALL": "C"}, cwd=directory)
    told(command)
    feed(command, names)
    return command


def count(host: Host, directory: str, names: Sequence[str], told: Started) -> Counted:
    """What these entries are with all that is below them."""
    with shell(host, COUNT, directory, names, told) as command:
        head, _, rest = command.read(PIECE).partition(b"\n")
        counted = Counted(head.decode("ascii", "replace"))
        while True:
            *lines, rest = rest.split(b"\0")
            for line in lines:
                _count(counted, line.decode("utf-8", "surrogateescape"))
            if not (data := command.read(PIECE)):
                break
            rest += data
        counted.problems = complaints(command.stderr)
        return counted


def _count(counted: Counted, line: str) -> None:
    if line.startswith("!"):
        kind = KINDS.get(line[1:2], "special file")
        counted.skipped.append(f"{shown(posixpath.normpath(line[2:]))}: a {kind}, left out")
    else:
        counted.files += 1
        counted.size += int(line[1:]) if line.startswith("f") else 0


def fingerprint(
    host: Host, script: str, directory: str, names: Sequence[str], told: Started
) -> str:
    """What `SHAPE` or `CONTENT` says of these entries. Raises `FileFailed`."""
    with shell(host, script, directory, names, told) as command:
        found = bytearray()
        while data := command.read(PIECE):
            found += data
        if command.wait() != 0 or command.stderr:
            raise FileFailed(f"{host.name} could not check the files.", command.stderr)
        return found.decode("ascii", "replace")


def delete(host: Host, directory: str, names: Sequence[str], began: str, told: Started) -> str:
    """Delete what was transferred. Return why some of it is left, if any may be."""
    with shell(host, DELETE, directory, names, told, began) as command:
        while command.read(PIECE):
            pass
        return next(iter(complaints(command.stderr)), "")


def remove(host: Host, path: str) -> None:
    """Remove a directory of ours with all that is in it. Raises `CommandFailed`."""
    host.run(["sh", "-c", REMOVE, "sh", path], timeout=600)


def failure(host: Host, directory: str, said: str, detail: str = "") -> FileFailed:
    """Why files could not be written, in one sentence."""
    lines = complaints(said)
    if any(word in line for line in lines for word in FULL):
        sentence = f"The disk of {host.name} is full, or your quota is used up."
    else:
        why = (lines or ["it does not say why"])[0][:SENTENCE]
        sentence = f"{host.name} could not write to {shown(directory)}: {why}."
    return FileFailed(f"{sentence} Nothing was copied.", detail or said[:1000])
