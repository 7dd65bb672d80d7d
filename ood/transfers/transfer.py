"""One copy or move of some entries into another directory, on the same host or another one.

Everything is staged in a hidden directory beside its place and renamed into it at the end: what is
cancelled, or fails, leaves nothing under a final name. A move deletes at the source only what was
there when it began, and only after both ends have said the same of every name and every byte.
"""

from __future__ import annotations

import posixpath
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ood.errors import CommandFailed, FileExists, FileFailed, FileRefused, HostError
from ood.hosts.base import Command, Host, shown
from ood.transfers import tools
from ood.transfers.archive import complaints
from ood.transfers.names import STAGE, free_name

MOST_PROBLEMS = 200  # that are kept to be shown
NO_WRITE = (*tools.FULL, "error writing", "cannot create")  # what cp says of its target


class State(StrEnum):
    WAITING = "waiting"
    COUNTING = "counting"
    COPYING = "copying"
    CHECKING = "checking"
    FINISHING = "finishing"
    DONE = "done"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (State.DONE, State.INCOMPLETE, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class Place:
    """A directory, by its real path; `id` is its host in addresses."""

    id: str
    host: Host
    directory: str


@dataclass(frozen=True)
class Order:
    """Which entries of one place go to another one: their names here, and there."""

    move: bool
    source: Place
    target: Place
    names: Mapping[str, str]

    @property
    def same_host(self) -> bool:
        return self.source.id == self.target.id


class Cancelled(Exception):
    pass


class Transfer:
    """What becomes of an order. One thread carries it out; all may look at it, and cancel it."""

    def __init__(self, id: str, order: Order) -> None:
        self.id = id
        self.order = order
        self.state = State.WAITING
        self.files = self.files_in_all = 0
        self.size = self.size_in_all = 0  # bytes
        self.message = ""
        self.problems: list[str] = []
        self.ended_at: float | None = None  # seconds since the epoch
        self._names = list(order.names)
        self._stage = posixpath.join(order.target.directory, STAGE + id)
        self._tree = posixpath.join(self._stage, "tree")
        self._staged = False
        self._lock = threading.Lock()
        self.cancelled = False
        self._running: list[Command] = []

    def cancel(self) -> None:
        """Have it end soon, unless all has been copied already."""
        with self._lock:
            if self.state is State.FINISHING or self.state.ended:
                return
            self.cancelled = True
            running = list(self._running)
        for command in running:
            command.close()

    def run(self) -> None:
        """Carry it out. Whatever happens, it has ended then, and says how."""
        state, message = State.FAILED, "The portal made a mistake. Tell your administrator."
        try:
            state, message = self._run()
        except Cancelled:
            state, message = State.CANCELLED, self._how_far()
        except HostError as error:
            if self.cancelled:
                state, message = State.CANCELLED, self._how_far()
            else:
                message = error.message
        finally:
            if self._staged:
                message += self._unstage()
            self.message = message
            self.ended_at = time.time()
            self.state = state

    def _run(self) -> tuple[State, str]:
        source, target = self.order.source, self.order.target
        if self.order.same_host and self.order.move:
            self._rename()
            if not self._names:
                return self._outcome("Moved")
        self._go_on_to(State.COUNTING)
        counted = tools.count(source.host, source.directory, self._names, self._told)
        self.files_in_all = self.files + counted.files
        self.size_in_all = counted.size
        self.problems += counted.problems if not self.order.same_host else []
        self._go_on_to(State.COPYING)
        target.host.files.mkdir(self._stage, 0o700)
        self._staged = True
        target.host.files.mkdir(self._tree, 0o700)
        if self.order.same_host:
            self._copy_within()
        else:
            self.problems += counted.skipped
            self._copy_between()
        proven = self.order.move and not self.problems and self._is_proven()
        self._go_on_to(State.FINISHING)
        placed = self._put_in_place()
        if not self.order.move:
            return self._outcome("Copied")
        if not proven:
            self.problems.append(
                "Not all is proven to have arrived as it was, so nothing was deleted where it "
                f"came from, {shown(source.directory)} on {source.host.name}."
            )
            return self._outcome("Copied")
        left = tools.delete(source.host, source.directory, placed, counted.began, self._told)
        if left:
            self.problems.append(f"Copied, but not deleted where it came from: {left}")
        else:
            self._look_for_rest(placed)
        return self._outcome("Moved")

    def _how_far(self) -> str:
        moved = len(self.order.names) - len(self._names)
        if not moved:
            return "Nothing was copied."
        return f"{moved} of {len(self.order.names)} were moved already, and the rest was not."

    def _outcome(self, verb: str) -> tuple[State, str]:
        del self.problems[MOST_PROBLEMS:]
        if self.problems:
            return State.INCOMPLETE, f"{verb}, but not all of it:"
        self.files, self.size = self.files_in_all, self.size_in_all
        return State.DONE, f"{verb}."

    # ---- The ways

    def _rename(self) -> None:
        """Within a file system a move is a rename, done at once. What it cannot move is left in
        `_names`."""
        source, target = self.order.source, self.order.target
        files = source.host.files
        for name in list(self._names):
            old = posixpath.join(source.directory, name)
            new = posixpath.join(target.directory, self.order.names[name])
            try:
                files.move(old, new)
            except (FileExists, FileRefused) as error:
                self.problems.append(error.message)
            except FileFailed as error:
                if type(error) is FileFailed:  # another file system, for one
                    continue
                self.problems.append(error.message)
            else:
                self.files += 1
            self._names.remove(name)
        self.files_in_all = self.files

    def _copy_within(self) -> None:
        source, target = self.order.source, self.order.target
        names = b"".join(
            b"./" + name.encode("utf-8", "surrogateescape") + b"\0" for name in self._names
        )
        target.host.files.write(posixpath.join(self._stage, "names"), names, 0o600)
        argv = ["sh", "-c", tools.COPY, "sh", self._stage]
        with target.host.start(argv, env={"LC_ALL": "C"}, cwd=source.directory) as command:
            self._told(command)
            rest = b""
            while data := command.read(tools.PIECE):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line[:1].isdigit():
                        self.size = min(int(line.split(b"\t")[0]), self.size_in_all)
                    else:
                        self.files += 1
            code = command.wait()
        self._demand_not_cancelled()
        if any(word in command.stderr for word in NO_WRITE):
            raise tools.failure(target.host, target.directory, command.stderr)
        self.problems += complaints(command.stderr)
        if code and not self.problems:
            raise tools.failure(target.host, target.directory, f"exit code {code}")

    def _copy_between(self) -> None:
        """`tar` at both ends, and the portal in between, which holds one piece at a time."""
        source, target = self.order.source, self.order.target
        with (
            tools.shell(
                source.host, tools.PACK, source.directory, self._names, self._told
            ) as packing,
            target.host.start(tools.UNPACK, env={"LC_ALL": "C"}, cwd=self._tree) as unpacking,
        ):
            self._told(unpacking)
            counting = threading.Thread(target=self._count_lines, args=(unpacking,), daemon=True)
            counting.start()
            try:
                while data := packing.read(tools.PIECE):
                    unpacking.write(data)
                    self.size = min(self.size + len(data), self.size_in_all)
                packed = packing.wait()
                self._demand_not_cancelled()
                unpacking.end_input()
                counting.join()
                unpacked = unpacking.wait()
            except CommandFailed as error:
                self._demand_not_cancelled()
                raise tools.failure(
                    target.host, target.directory, unpacking.stderr, error.detail
                ) from error
        self._demand_not_cancelled()
        if unpacked != 0:
            raise tools.failure(target.host, target.directory, unpacking.stderr)
        self.problems += complaints(packing.stderr)
        if packed not in (0, 1, 2):
            raise FileFailed(
                f"{source.host.name} could not read the files. Nothing was copied.", packing.stderr
            )

    def _count_lines(self, command: Command) -> None:
        try:
            while data := command.read(tools.PIECE):
                self.files += data.count(b"\n")
        except HostError:  # whoever writes to it is told as well
            pass

    def _is_proven(self) -> bool:
        """Whether both ends say the same of everything."""
        self._go_on_to(State.CHECKING)
        source, target = self.order.source, self.order.target
        for script in (tools.SHAPE, tools.CONTENT):
            said = {
                tools.fingerprint(host, script, directory, self._names, self._told)
                for host, directory in (
                    (source.host, source.directory),
                    (target.host, self._tree),
                )
            }
            self._demand_not_cancelled()
            if len(said) > 1:
                self.problems.append("Some of it was changed while it was copied.")
                return False
        return True

    def _put_in_place(self) -> list[str]:
        """Give everything its final name; return the names it had."""
        files, target = self.order.target.host.files, self.order.target.directory
        placed = []
        for entry in files.list(self._tree):
            old = posixpath.join(self._tree, entry.name)
            wanted = self.order.names[entry.name]
            taken: set[str] = set()
            closed = entry.is_directory and not entry.mode & 0o200
            if closed:  # whose `..` cannot be changed
                files.chmod(old, entry.mode & 0o7777 | 0o200)
            while True:
                name = free_name(wanted, taken)
                new = posixpath.join(target, name)
                try:
                    files.move(old, new)
                    break
                except FileExists:  # it came meanwhile
                    taken.add(name)
            if closed:
                files.chmod(new, entry.mode & 0o7777)
            placed.append(entry.name)
        return placed

    def _look_for_rest(self, names: list[str]) -> None:
        source = self.order.source
        left = {entry.name for entry in source.host.files.list(source.directory)} & {*names}
        for name in sorted(left):
            self.problems.append(
                f"{shown(name)}: something in it came or changed meanwhile, and is still where it "
                "was."
            )

    # ---- Its course

    def _told(self, command: Command) -> None:
        with self._lock:
            self._running = [*self._running[-3:], command]
        self._demand_not_cancelled()

    def _go_on_to(self, state: State) -> None:
        with self._lock:
            if not self.cancelled:
                self.state = state
        self._demand_not_cancelled()

    def _demand_not_cancelled(self) -> None:
        if self.cancelled:
            with self._lock:
                running = list(self._running)
            for command in running:
                command.close()
            raise Cancelled

    def _unstage(self) -> str:
        try:
            tools.remove(self.order.target.host, self._stage)
            return ""
        except HostError:
            return (
                f" What was staged is still in {shown(self._stage)}: delete that when "
                f"{self.order.target.host.name} can be reached."
            )
