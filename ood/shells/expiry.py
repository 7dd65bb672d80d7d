"""How long a shell stays open, and the messages before and after it ends."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ood.auth.signins import SignIn
from ood.shells.shell import Shell

ALONE = 600.0  # seconds that a shell stays open while no page shows it
NOTICE = 300.0  # seconds before the end, or half of a limit that is shorter than twice this


class End(StrEnum):
    """Why a shell ended. The audit log and the page get these codes."""

    EXITED = "exited"
    CLOSED = "closed"
    LOST = "lost"
    LEFT = "left"
    IDLE = "idle"
    ABSOLUTE = "absolute"
    SIGNED_OUT = "signed-out"


@dataclass(frozen=True)
class Due:
    """When a shell ends (monotonic) unless something changes, and why."""

    at: float
    end: End
    notice: float  # seconds before `at` when the page shows a notice


@dataclass(frozen=True)
class Expiry:
    """The limits of shells, in seconds. `sign_in_ends_at` returns a monotonic time."""

    idle: float
    absolute: float
    sign_in_ends_at: Callable[[SignIn], float]

    def due(self, shell: Shell) -> Due:
        """The limit that a shell will reach first."""
        ends = [
            Due(shell.typed_at + self.idle, End.IDLE, min(NOTICE, self.idle / 2)),
            Due(shell.opened_at + self.absolute, End.ABSOLUTE, min(NOTICE, self.absolute / 2)),
            Due(self.sign_in_ends_at(shell.sign_in), End.SIGNED_OUT, NOTICE),
        ]
        if shell.alone_since is not None:
            ends.append(Due(shell.alone_since + ALONE, End.LEFT, 0.0))
        return min(ends, key=lambda due: due.at)

    def notice(self, due: Due, now: float) -> str:
        """The notice that a shell is about to end; empty until the end is near."""
        left = due.at - now
        if left > due.notice:
            return ""
        soon = f"This shell closes in {_duration(due.notice)}"
        if due.end is End.IDLE:
            return f"{soon} because nobody is typing in it. Press a key to keep it open."
        if due.end is End.ABSOLUTE:
            return (
                f"{soon}: a shell can stay open for at most {_duration(self.absolute)}. Save your "
                "work, then open another one."
            )
        if due.end is End.SIGNED_OUT:
            return f"{soon}, when your sign-in expires. Save your work and sign in again."
        return ""

    def message(self, end: End, host: str) -> str:
        """The message about a shell that has ended."""
        return {
            End.EXITED: "This shell has ended.",
            End.CLOSED: "This shell was closed.",
            End.LOST: f"The connection to {host} dropped, so this shell ended.",
            End.LEFT: (
                f"This shell was closed because its page was not open for {_duration(ALONE)}."
            ),
            End.IDLE: f"This shell was closed because nobody typed for {_duration(self.idle)}.",
            End.ABSOLUTE: (
                "This shell was closed: a shell can stay open for at most "
                f"{_duration(self.absolute)}."
            ),
            End.SIGNED_OUT: "You are signed out, so this shell was closed.",
        }[end]


def _duration(seconds: float) -> str:
    sizes = ((3600, "hour"), (60, "minute"), (1, "second"))
    size, unit = next((found for found in sizes if seconds >= found[0]), sizes[-1])
    count = f"{seconds / size:.3g}"
    return f"{count} {unit}" if count == "1" else f"{count} {unit}s"
