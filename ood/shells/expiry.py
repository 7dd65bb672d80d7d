"""How long a shell stays open, and the messages before and after it ends."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ood.auth.signins import SignIn
from ood.shells.shell import Shell

ALONE = 600.0
"""Seconds that a shell stays open without a page that shows it."""
NOTICE = 300.0  # seconds before the end, or half of a limit that is shorter than twice this


class End(StrEnum):
    """Why a shell ended, as the audit log and its page know it."""

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


class Expiry:
    """`idle` and `absolute` are in seconds. `sign_in_ends_at` returns a monotonic time."""

    def __init__(
        self, idle: float, absolute: float, sign_in_ends_at: Callable[[SignIn], float]
    ) -> None:
        self._idle = idle
        self._absolute = absolute
        self._sign_in_ends_at = sign_in_ends_at

    def due(self, shell: Shell) -> Due:
        """The first of the limits that a shell will reach."""
        ends = [
            Due(shell.typed_at + self._idle, End.IDLE, min(NOTICE, self._idle / 2)),
            Due(shell.opened_at + self._absolute, End.ABSOLUTE, min(NOTICE, self._absolute / 2)),
            Due(self._sign_in_ends_at(shell.sign_in), End.SIGNED_OUT, NOTICE),
        ]
        if shell.alone_since is not None:
            ends.append(Due(shell.alone_since + ALONE, End.LEFT, 0.0))
        return min(ends, key=lambda due: due.at)

    def notice(self, due: Due, now: float) -> str:
        """The notice about an end that is near; empty until then."""
        left = due.at - now
        if left > due.notice:
            return ""
        soon = f"This shell closes in {_duration(due.notice)}"
        if due.end is End.IDLE:
            return f"{soon} because nobody is typing in it. Press a key to keep it open."
        if due.end is End.ABSOLUTE:
            return (
                f"{soon}: a shell may stay open for {_duration(self._absolute)}. Save your work; "
                "you can open another one."
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
            End.LEFT: f"This shell was closed: no page showed it for {_duration(ALONE)}.",
            End.IDLE: f"This shell was closed: nobody typed in it for {_duration(self._idle)}.",
            End.ABSOLUTE: (
                f"This shell was closed: a shell may stay open for {_duration(self._absolute)}."
            ),
            End.SIGNED_OUT: "You are signed out, so this shell was closed.",
        }[end]


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            count = f"{seconds / size:.3g}"
            return f"{count} {unit}" if count == "1" else f"{count} {unit}s"
    return "a second"
