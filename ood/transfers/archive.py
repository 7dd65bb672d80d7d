"""Zip archives of directories and files, made while they are sent.

`tar` reads on the host, as the user. The portal turns its stream into zip, which every desktop can
open, and holds only one piece at a time. Links are not followed.
"""

import posixpath
import tarfile
import time
import zipfile
from collections.abc import Iterator
from typing import IO, Any, cast
from unicodedata import category

from ood.errors import FileFailed
from ood.hosts import trees
from ood.hosts.base import NOT_SEEN, Command, as_utf8, shown
from ood.transfers.names import free_name

PACK = ["tar", "--create", "--hard-dereference", "--null", "--files-from=-", "--file=-"]
PIECE = 256 * 1024
MAX_ENTRIES = 100_000  # the portal holds a list of all entries, which zip puts at the end
MAX_NOTES = 10_000
NOTES = "NOT IN THIS ARCHIVE.txt"
NOT_ON_WINDOWS = frozenset('<>:"\\|?*')
FIRST_SECOND, LAST_SECOND = 315_532_800, 4_354_819_199  # 1980 to 2107, as zip allows
KINDS = {tarfile.SYMTYPE: "link", tarfile.FIFOTYPE: "pipe"}


class _Sink:
    """A file for zipfile that keeps its data until `take`. It has no `seek`, so that zipfile writes
    sizes after the data."""

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


def zipped(command: Command) -> Iterator[bytes]:
    """Turn the output of `PACK` into a zip archive, piece by piece. If anything is missing from the
    archive, its last file says what and why. Raises `HostError`, with the archive cut short, if tar
    fails."""
    sink = _Sink()
    notes: list[str] = []
    with zipfile.ZipFile(cast(IO[bytes], sink), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        try:
            with tarfile.open(fileobj=cast(IO[bytes], command), mode="r|", bufsize=PIECE) as found:
                for number, entry in enumerate(found):
                    cast(Any, found).members = []  # tarfile would keep them all in memory
                    if number >= MAX_ENTRIES:
                        notes.append(
                            f"Everything after the first {MAX_ENTRIES:,} files and directories."
                        )
                        break
                    yield from _entry(found, entry, made, sink, notes)
                else:
                    _end(command, notes)
        except tarfile.TarError as error:
            reason = f"{error} {command.stderr}"
            raise FileFailed("Could not create the archive.", reason) from error
        if notes:
            del notes[MAX_NOTES:]
            text = "\r\n".join(["Missing from this archive, or incomplete:", "", *notes, ""])
            name = free_name(NOTES, made.NameToInfo)
            made.writestr(zipfile.ZipInfo(name, time.localtime()[:6]), text)
    yield sink.take()


def _end(command: Command, notes: list[str]) -> None:
    """Check that tar ended by itself. The output may look complete when tar was killed."""
    while command.read(PIECE):
        pass
    code, said = command.wait(), command.stderr
    if code not in (0, 1, 2):
        raise FileFailed("Could not create the archive.", f"tar: exit code {code} {said}")
    notes += trees.complaints(said)


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
    """A path that every desktop accepts and that is not in the archive yet. Windows does not allow
    some characters in names, and reads `\\` as the start of another directory."""
    parts = [
        "".join(
            "_" if each in NOT_ON_WINDOWS or category(each) in NOT_SEEN else each
            for each in as_utf8(part)
        )
        for part in path.split("/")
        if part not in ("", ".")
    ]
    parts = [part[:-1] + "_" if part.endswith((".", " ")) else part for part in parts]
    if "/".join(parts) in made.NameToInfo:
        taken = {each.rpartition("/")[2] for each in made.NameToInfo}
        parts[-1] = free_name(parts[-1], taken)
    return "/".join(parts)


def _date(mtime: float) -> tuple[int, int, int, int, int, int]:
    when = time.localtime(min(max(mtime, FIRST_SECOND + 86400), LAST_SECOND - 86400))
    return when[:6]
