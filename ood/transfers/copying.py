"""Copies the files of a transfer into its staging directory, within one host or between two."""

import logging
import posixpath
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ood.errors import CommandFailed, FileFailed, HostError
from ood.hosts.base import Command, Host, shown
from ood.hosts.trees import PIECE, TOOLS_ENV, as_input, complaints, start
from ood.transfers import tools
from ood.transfers.progress import Progress

DISK_FULL = ("No space left", "quota exceeded", "Wrote only")
CANNOT_WRITE = (*DISK_FULL, "error writing", "cannot create")  # in the errors of cp
MAX_REASON = 200  # characters of what a tool wrote

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """The directory that a transfer reads or writes, by its real path. `host_id` is the host's ID
    in addresses."""

    host_id: str
    host: Host
    directory: str


@dataclass(frozen=True)
class Order:
    """What to transfer. `names` maps the entries of the source directory to their new names."""

    move: bool
    source: Endpoint
    target: Endpoint
    names: Mapping[str, str]

    @property
    def same_host(self) -> bool:
        return self.source.host_id == self.target.host_id

    @property
    def kind(self) -> str:
        return "move" if self.move else "copy"


def copy_within(order: Order, names: Sequence[str], stage: str, progress: Progress) -> None:
    """Copy entries with `cp`, into `tree` below the directory `stage`."""
    host, directory = order.target.host, order.target.directory
    host.files.write(posixpath.join(stage, "names"), b"".join(as_input(names)), 0o600)
    argv = ["sh", "-c", tools.COPY, "sh", stage, order.kind]
    with host.start(argv, env=TOOLS_ENV, cwd=order.source.directory) as command:
        progress.started(command)
        rest = b""
        while data := command.read(PIECE):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line[:1].isdigit():
                    progress.size = min(int(line.split(b"\t")[0]), progress.size_in_all)
                else:
                    progress.files += 1
        code = command.wait()
    progress.check()
    said = command.stderr.replace(f"{stage}/tree/", "")
    if any(word in said for word in CANNOT_WRITE):
        raise _failure(host, directory, said)
    about = complaints(said)
    # As with `cp -a`, a copy may lose attributes: those of Lustre cannot be set elsewhere.
    progress.problems += [
        line for line in about if order.move or not line.startswith("setting attribute")
    ]
    if code and not about:
        raise _failure(host, directory, f"exit code {code}")


def copy_between(order: Order, names: Sequence[str], tree: str, progress: Progress) -> None:
    """Copy entries into the directory `tree` with `tar` on both hosts. The portal passes the data
    on piece by piece."""
    source, target = order.source, order.target
    unpack = ["sh", "-c", tools.UNPACK, "sh", order.kind]
    with (
        start(
            source.host, ["sh", "-c", tools.PACK_TREE], source.directory, names, progress.started
        ) as packing,
        target.host.start(unpack, env=TOOLS_ENV, cwd=tree) as unpacking,
    ):
        progress.started(unpacking)
        counting = threading.Thread(target=_count_lines, args=(unpacking, progress), daemon=True)
        counting.start()
        try:
            while data := packing.read(PIECE):
                unpacking.write(data)
                progress.size = min(progress.size + len(data), progress.size_in_all)
            packed = packing.wait()
            progress.check()
            unpacking.end_input()
            counting.join()
            unpacked = unpacking.wait()
        except CommandFailed as error:
            progress.check()
            raise _failure(target.host, target.directory, unpacking.stderr, error.detail) from error
    progress.check()
    if unpacked != 0:
        raise _failure(target.host, target.directory, unpacking.stderr)
    progress.problems += [*complaints(packing.stderr), *_complaints(unpacking.stderr)]
    if packed not in (0, 1, 2):
        raise FileFailed(
            f"Could not read the files on {source.host.name}. Nothing was copied.", packing.stderr
        )


def _count_lines(command: Command, progress: Progress) -> None:
    try:
        while data := command.read(PIECE):
            progress.files += data.count(b"\n")
    except HostError:
        pass  # the thread that writes to the command reports the error
    except Exception:
        log.exception("could not count the files of a transfer")


def _complaints(said: str) -> list[str]:
    """The complaints, without those of access control lists: where the file system has none, tar
    also complains of files that had none. (A move compares both sides.)"""
    return [line for line in complaints(said) if "POSIX ACLs" not in line]


def _failure(host: Host, directory: str, said: str, detail: str = "") -> FileFailed:
    """The error for files that could not be written."""
    lines = _complaints(said)
    if any(word in line for line in lines for word in DISK_FULL):
        sentence = f"The disk on {host.name} is full, or your quota is used up."
    else:
        why = (lines or ["no reason given"])[0][:MAX_REASON]
        sentence = f"Could not write to {shown(directory)} on {host.name}: {why}."
    return FileFailed(f"{sentence} Nothing was copied.", detail or said[:1000])
