"""The progress of a transfer, and its cancellation."""

import threading
from enum import StrEnum

from ood.hosts.base import Command


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


class Cancelled(Exception):
    """The user cancelled the transfer."""


class Progress:
    """Only the transfer's own thread writes; any thread may read or cancel. Sizes are in bytes, and
    `files` counts directories too."""

    def __init__(self) -> None:
        self.state = State.WAITING
        self.files = self.files_in_all = 0
        self.size = self.size_in_all = 0
        self.problems: list[str] = []
        self.cancelled = False
        # Guards `state`, `cancelled` and `_commands`.
        self._lock = threading.Lock()
        self._commands: list[Command] = []

    def cancel(self) -> None:
        """Make the transfer end soon, unless it is finishing."""
        with self._lock:
            if self.state is State.FINISHING or self.state.ended:
                return
            self.cancelled = True
            commands = list(self._commands)
        for command in commands:
            command.close()

    def enter(self, state: State) -> None:
        """Begin the next step. Raises `Cancelled`."""
        with self._lock:
            if not self.cancelled:
                self.state = state
        self.check()

    def end(self, state: State) -> None:
        with self._lock:
            self.state = state

    def started(self, command: Command) -> None:
        """Have `cancel` close a command. Raises `Cancelled`."""
        with self._lock:
            self._commands = [*self._commands[-3:], command]
        self.check()

    def check(self) -> None:
        """Raise `Cancelled` once the transfer is cancelled."""
        if self.cancelled:
            with self._lock:
                commands = list(self._commands)
            for command in commands:  # some may have started since `cancel`
                command.close()
            raise Cancelled
