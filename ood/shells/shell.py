"""One shell: a terminal on a host, what it printed, and the browser's page that shows it now.

What the two ends say to each other beside what is typed and printed, which goes as binary messages:
JSON texts. To the browser: `shell` (at the start: its id, `from` which offset on output follows,
how far that is `replay`, and the `prelude` to it), `taken` (bytes of input so far), `notice` (a
sentence, or none any more), `end` (why) with a `message`; an empty one says that the portal is
alive. From it: `columns` and `rows`, and `shown` (up to which offset).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

from ood.auth.signins import SignIn
from ood.hosts.base import Terminal
from ood.shells.history import History
from ood.shells.websocket import WebSocket

READ = 128 * 1024
UNSHOWN = 128 * 1024
"""Bytes sent to a browser that it has not shown yet, after which the terminal is read no further.
With what may be read at once, no more than a history keeps."""
SEND = 32 * 1024
UNSENT = 64 * 1024  # bytes waiting for a slow connection, after which nothing is added to them
UNTAKEN = 1024 * 1024
"""Bytes of input that a browser may send before the host takes them. Ours sends far fewer."""
TELL_TAKEN = 16 * 1024
LARGEST = 1000  # columns or rows


@dataclass(frozen=True)
class Where:
    """Where a shell is: the `host` and `path` (surrogate escapes; empty: home) of its address, the
    id of the `job` whose host it is on, if any, and what to call that host."""

    host: str
    path: str
    job: str
    title: str

    @property
    def directory(self) -> str:
        """Where a shell starts, for the audit log: without losing a byte."""
        path = self.path.encode("utf-8", "surrogateescape")
        return path.decode("utf-8", "backslashreplace") or "~"


@dataclass(eq=False)
class Viewer:
    """A page that shows a shell. `sent` and `shown` are offsets."""

    websocket: WebSocket
    sent: int
    shown: int
    heard_at: float
    notice: str = ""
    told_taken: int = 0

    def say(self, **facts: object) -> None:
        """Raises OSError."""
        self.websocket.send(json.dumps(facts))


@dataclass(eq=False)
class Shell:
    """Times are monotonic, but for `since`. All but the first few facts is the pump's."""

    id: str
    sign_in: SignIn
    where: Where
    machine: str
    terminal: Terminal
    opened_at: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.time)
    history: History = field(default_factory=History)
    typed: bytearray = field(default_factory=bytearray)
    taken: int = 0  # bytes of input, since the viewer came
    typed_at: float = field(default_factory=time.monotonic)
    alone_since: float | None = field(default_factory=time.monotonic)
    viewer: Viewer | None = None
    reading: bool = False  # the terminal is in the selector

    @property
    def user(self) -> str:
        return self.sign_in.user

    @property
    def is_full(self) -> bool:
        """Whether to wait for the page to show more of what there is."""
        viewer = self.viewer
        return viewer is not None and self.history.end - viewer.shown >= UNSHOWN

    def show_to(self, websocket: WebSocket, seen: int | None) -> None:
        """Show it to a page which has seen it up to an offset, or to a new one. Raises OSError."""
        history = self.history
        goes_on = seen is not None and history.start <= seen <= history.end
        offset = seen if goes_on and seen is not None else history.start
        self.viewer = Viewer(websocket, offset, offset, time.monotonic())
        self.alone_since = None
        self.taken = 0
        self.viewer.say(
            shell=self.id,
            title=self.where.title,
            replay=history.end if not goes_on else offset,
            prelude=history.prelude,
            redraw=not goes_on and history.is_on_alternate_screen(),
            **{"from": offset},
        )
        self.send()

    def send(self) -> None:
        """Send the viewer what it has not been sent yet, as far as that goes. Raises OSError."""
        viewer = self.viewer
        if viewer is None:
            return
        viewer.websocket.flush()
        while viewer.websocket.waiting < UNSENT and viewer.sent < self.history.end:
            part = self.history.part(viewer.sent, SEND)
            viewer.sent += len(part)
            viewer.websocket.send(part)

    def type(self) -> None:
        """Type what waits for the terminal, as far as it goes. Raises OSError."""
        if self.typed:
            count = self.terminal.write(bytes(self.typed))
            del self.typed[:count]
            self.taken += count
        viewer = self.viewer
        if viewer is not None and self.taken - viewer.told_taken >= TELL_TAKEN:
            viewer.told_taken = self.taken
            viewer.say(taken=self.taken)

    def hear(self) -> bool:
        """Take what the viewer says; return whether anything was typed. Raises OSError when it has
        gone, or says what no page of ours does."""
        viewer = self.viewer
        assert viewer is not None
        messages = viewer.websocket.receive()
        viewer.heard_at = time.monotonic()
        typed = False
        for message in messages:
            if isinstance(message, bytes):
                typed = True
                self.typed += message
            else:
                self._obey(message, viewer)
        if len(self.typed) > UNTAKEN or viewer.websocket.waiting > UNTAKEN:
            raise ConnectionAbortedError("too much")
        return typed

    def _obey(self, message: str, viewer: Viewer) -> None:
        try:
            said = json.loads(message)
            if "shown" in said:
                viewer.shown = min(max(int(said["shown"]), viewer.shown), viewer.sent)
            if "columns" in said:
                columns, rows = (int(said[name]) for name in ("columns", "rows"))
                if 0 < columns <= LARGEST and 0 < rows <= LARGEST:
                    self.terminal.resize(columns, rows)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ConnectionAbortedError("this is no word of ours") from error
