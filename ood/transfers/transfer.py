"""One copy or move of entries into another directory, on the same host or another.

Everything is copied to a hidden directory inside the target first, and renamed into place at the
end. A transfer that fails or is cancelled therefore leaves nothing under a final name. A move
deletes originals only if they have not changed since it began, and only when every name and byte is
the same on both hosts.
"""

import logging
import posixpath

from ood.errors import FileExists, FileFailed, HostError
from ood.hosts import trees
from ood.hosts.base import shown
from ood.transfers import copying, tools
from ood.transfers.copying import Order
from ood.transfers.names import STAGE, free_name
from ood.transfers.progress import Cancelled, Progress, State

MAX_PROBLEMS = 200  # kept to be shown

log = logging.getLogger(__name__)


class Transfer(Progress):
    """Carries out an order. `message` is the result, in a sentence."""

    def __init__(self, id: str, order: Order) -> None:
        super().__init__()
        self.id = id
        self.order = order
        self.message = ""
        self._names = list(order.names)  # those left to transfer
        self._stage = posixpath.join(order.target.directory, STAGE + id)
        self._tree = posixpath.join(self._stage, "tree")
        self._staged = False

    def run(self) -> None:
        """Carry out the order. Sets the state and the message, whatever happens."""
        state = State.FAILED
        message = "Something went wrong in the portal. Tell your administrator."
        try:
            state, message = self._run()
        except (Cancelled, HostError) as error:
            if isinstance(error, HostError) and not self.cancelled:
                message = error.message
            else:
                state, message = State.CANCELLED, self._done_so_far()
        finally:
            if self._staged:
                message += self._unstage()
            self.message = message
            self.end(state)

    def _run(self) -> tuple[State, str]:
        order, source, target = self.order, self.order.source, self.order.target
        self.check()
        if order.same_host and order.move:
            self._rename()
            if not self._names:
                return self._outcome("Moved")
        self.enter(State.COUNTING)
        counted = trees.count(source.host, source.directory, self._names, started=self.started)
        special = [] if order.same_host else counted.special
        self.files_in_all = self.files + counted.files + counted.directories - len(special)
        self.size_in_all = counted.size
        self.enter(State.COPYING)
        target.host.files.mkdir(self._stage, 0o700)
        self._staged = True
        target.host.files.mkdir(self._tree, 0o700)
        if order.same_host:
            copying.copy_within(order, self._names, self._stage, self)
        else:
            self.problems += [*counted.problems, *(f"{each}, not copied" for each in special)]
            copying.copy_between(order, self._names, self._tree, self)
        verified = order.move and not self.problems and self._is_verified()
        self.enter(State.FINISHING)
        placed = self._put_in_place()
        if not verified:
            if order.move:
                self.problems.append(
                    "The copy could not be verified, so nothing was deleted from "
                    f"{shown(source.directory)} on {source.host.name}."
                )
            return self._outcome("Copied")
        left = tools.delete(source.host, source.directory, placed, counted.began, self.started)
        if left:
            self.problems.append(f"Some originals could not be deleted: {left}")
        else:
            self._report_originals_left(placed)
        return self._outcome("Moved")

    def _done_so_far(self) -> str:
        in_all = len(self.order.names)
        moved = in_all - len(self._names)
        if not moved:
            return "Nothing was copied."
        return f"{moved} of {in_all} items had already been moved."

    def _outcome(self, verb: str) -> tuple[State, str]:
        del self.problems[MAX_PROBLEMS:]
        if self.problems:
            return State.INCOMPLETE, f"{verb}, but with problems:"
        self.files, self.size = self.files_in_all, self.size_in_all
        return State.DONE, f"{verb}."

    def _rename(self) -> None:
        """Move by renaming, which works within a file system. `_names` keeps the others."""
        source, target = self.order.source, self.order.target
        for name in list(self._names):
            old = posixpath.join(source.directory, name)
            new = posixpath.join(target.directory, self.order.names[name])
            try:
                source.host.files.move(old, new)
                self.files += 1
            except FileFailed as error:
                if type(error) is FileFailed:  # it may be on another file system
                    continue
                self.problems.append(error.message)
            self._names.remove(name)
        self.files_in_all = self.files

    def _is_verified(self) -> bool:
        """Whether the originals and the copies are the same."""
        self.enter(State.CHECKING)
        order, source, target = self.order, self.order.source, self.order.target
        changed = "Some files changed during the copy."
        checks = {
            tools.SHAPE: changed,
            tools.ACLS: "Some access control lists could not be kept.",
            tools.ATTRIBUTES: "Some extended attributes could not be kept.",
            tools.CONTENT: changed,
        }
        if not order.same_host:  # whose tools may differ, and tar complains of attributes
            del checks[tools.ATTRIBUTES]
        for script, problem in checks.items():
            fingerprints = {
                tools.tree_digest(host, script, directory, self._names, self.started)
                for host, directory in ((source.host, source.directory), (target.host, self._tree))
            }
            self.check()
            if len(fingerprints) > 1:
                self.problems.append(problem)
                return False
        return True

    def _put_in_place(self) -> list[str]:
        """Give all copies their final names; return the names of their originals."""
        files, target = self.order.target.host.files, self.order.target.directory
        placed = []
        for entry in files.list(self._tree):
            old = posixpath.join(self._tree, entry.name)
            taken: set[str] = set()
            read_only = entry.is_directory and not entry.mode & 0o200
            if read_only:  # moving a directory changes its `..`
                files.chmod(old, entry.mode & 0o7777 | 0o200)
            while True:
                name = free_name(self.order.names[entry.name], taken)
                new = posixpath.join(target, name)
                try:
                    files.move(old, new)
                    break
                except FileExists:  # created since the user was asked
                    taken.add(name)
            if read_only:
                files.chmod(new, entry.mode & 0o7777)
            placed.append(entry.name)
        return placed

    def _report_originals_left(self, names: list[str]) -> None:
        source = self.order.source
        left = {entry.name for entry in source.host.files.list(source.directory)} & {*names}
        self.problems += [
            f"{shown(name)} was not deleted, because something in it was added or changed during "
            "the move."
            for name in sorted(left)
        ]

    def _unstage(self) -> str:
        """Remove the staging directory; return a sentence if that fails, otherwise nothing."""
        host = self.order.target.host
        try:
            tools.remove(host, self._stage)
            return ""
        except HostError as error:
            log.warning("could not remove %s: %s %s", self._stage, error.message, error.detail)
            return (
                f" Partial copies are left in {shown(self._stage)}. Delete that directory when "
                f"{host.name} can be reached again."
            )
