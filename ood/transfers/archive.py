"""A directory, or some entries of one, as a zip archive that is made while it is sent.

`tar` reads on the host, as the user; here its stream is turned into zip, which every desktop opens,
and never more than one piece of it is held. Links are not followed.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Any, cast
from unicodedata import category

from ood.errors import FileFailed, HostError
from ood.hosts.base import NOT_SEEN, Command, Host, as_utf8, shown
from ood.transfers.names import free_name

PACK = ["tar", "--create", "--hard-dereference", "--null", "--files-from=-", "--file=-"]
PIECE = 256 * 1024
MOST = 100_000  # entries: the list of all of them is written at the end, and held until then
MOST_NOTES = 10_000
NOTES = "NOT IN THIS ARCHIVE.txt"
NOT_ON_WINDOWS = frozenset('<>:"\\|?*')
UTC_BEGINS, UTC_ENDS = 315_532_800, 4_354_819_199  # 1980 to 2107: what zip can say
KINDS = {tarfile.SYMTYPE: "link", tarfile.FIFOTYPE: "pipe"}


def start_packing(host: Host, directory: str, names: Sequence[str]) -> Command:
    """Have `tar` read these entries of a directory. The caller closes what is returned."""
    command = host.start(PACK, env={"LC_ALL": "C"}, cwd=directory)
    feed(command, names)
    return command


def feed(command: Command, names: Sequence[str]) -> None:
    """Give a command names to read while what it prints is read. (`./` before each: none is taken
    for an option.)"""
    data = b"".join(b"./" + name.encode("utf-8", "surrogateescape") + b"\0" for name in names)

    def write() -> None:
        with suppress(HostError):  # it has ended, and says why
            command.write(data)
            command.end_input()

    threading.Thread(target=write, name="names", daemon=True).start()


def zipped(command: Command) -> Iterator[bytes]:
    """The archive of what `tar` prints, piece by piece; at its end, what is not in it, and why.
    Raises `HostError` when there is no end: what was sent is no archive then."""
    sink = _Sink()
    notes: list[str] = []
    with zipfile.ZipFile(cast(IO[bytes], sink), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        try:
            with tarfile.open(
                fileobj=cast(IO[bytes], _Source(command)), mode="r|", bufsize=PIECE
            ) as found:
                for number, entry in enumerate(found):
                    cast(Any, found).members = []  # it would keep all of them
                    if number >= MOST:
                        notes.append(f"All after the first {MOST:,} files and directories.")
                        break
                    yield from _entry(found, entry, made, sink, notes)
                else:
                    _end(command, notes)
        except tarfile.TarError as error:
            reason = f"{error} {command.stderr}"
            raise FileFailed("The archive could not be made.", reason) from error
        if notes:
            del notes[MOST_NOTES:]
            text = "These are not in this archive, or not whole:\r\n\r\n" + "\r\n".join(notes)
            name = free_name(NOTES, made.NameToInfo)
            made.writestr(zipfile.ZipInfo(name, time.localtime()[:6]), text + "\r\n")
    yield sink.take()


def _end(command: Command, notes: list[str]) -> None:
    """Whether that was all: a `tar` that was killed prints no less tidily."""
    while command.read(PIECE):
        pass
    code, said = command.wait(), command.stderr
    if code not in (0, 1, 2):
        raise FileFailed("The archive could not be made.", f"tar: exit code {code} {said}")
    notes += complaints(said)


def complaints(said: str) -> list[str]:
    """What find, tar and cp said of single files, as it can be shown."""
    lines = (re.sub(r"^(?:\S+/)?(tar|find|cp): ", "", line) for line in said.splitlines())
    return [
        shown(line)
        for line in lines
        if line and not line.startswith(("Exiting with failure", "Removing leading"))
    ]


def _entry(
    found: tarfile.TarFile,
    entry: tarfile.TarInfo,
    made: zipfile.ZipFile,
    sink: _Sink,
    notes: list[str],
) -> Iterator[bytes]:
    name = posixpath.normpath(entry.name)
    if not (entry.isreg() or entry.isdir()):
        kind = KINDS.get(entry.type, "device")
        notes.append(f"{shown(name)}: a {kind}{f' to {shown(entry.linkname)}' * entry.issym()}")
        return
    if name == ".":
        return
    info = zipfile.ZipInfo(_portable(name, made), _date(entry.mtime))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.file_size = entry.size
    info.external_attr = ((0o040000 if entry.isdir() else 0o100000) | entry.mode & 0o777) << 16
    if entry.isdir():
        info.filename += "/"
        info.external_attr |= 0x10
        made.writestr(info, b"")
    else:
        source = found.extractfile(entry)
        assert source is not None
        with made.open(info, "w") as target:
            while data := source.read(PIECE):
                target.write(data)
                if len(sink) >= PIECE:
                    yield sink.take()
    if len(sink) >= PIECE:
        yield sink.take()


def _portable(path: str, made: zipfile.ZipFile) -> str:
    """A path as any desktop can write it, and no other entry has it. On Windows some characters
    cannot be in names, and one of them would begin another directory."""
    parts = [
        "".join(
            "_" if each in NOT_ON_WINDOWS or category(each) in NOT_SEEN else each
            for each in as_utf8(part)
        )
        for part in path.split("/")
        if part not in ("", ".")
    ]
    parts = [part[:-1] + "_" if part.endswith((".", " ")) else part for part in parts]
    name = "/".join(parts)
    if name in made.NameToInfo:
        *above, last = parts
        taken = {each.rpartition("/")[2] for each in made.NameToInfo}
        name = "/".join([*above, free_name(last, taken)])
    return name


def _date(mtime: float) -> tuple[int, int, int, int, int, int]:
    when = time.localtime(min(max(mtime, UTC_BEGINS + 86400), UTC_ENDS - 86400))
    return when[:6]


class _Source:
    """What a command prints, as a file to read."""

    def __init__(self, command: Command) -> None:
        self._read = command.read

    def read(self, size: int) -> bytes:
        return self._read(size)


class _Sink:
    """A file to write, which gives up what was written. It has no `seek`: zipfile then writes sizes
    after the data."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def flush(self) -> None: ...

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data
