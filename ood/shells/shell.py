"""One shell: a terminal on a host, its history, and the browser page that shows it.

Binary messages on the WebSocket carry input and output. Text messages are JSON objects. To the
browser: `shell` (at the start: its ID), with the `from` offset of the output that follows, `replay`
(output up to this offset was printed earlier) and a `prelude` to write first; `taken` (bytes of
input so far); `notice` (a sentence, or empty to remove it); `end` (a code) with a `message`. An
empty object shows that the portal is alive. From the browser: `columns` and `rows`; `shown` (the
offset up to which output is on the screen).
"""

import json
import time
from dataclasses import dataclass, field

from ood.auth.signins import SignIn
from ood.hosts.base import Terminal
from ood.shells.history import History
from ood.shells.websocket import WebSocket

READ = 128 * 1024
UNSHOWN = 128 * 1024
"""Bytes that a page has not shown yet, after which no more output is read. Together with `READ`,
this is at most what a history keeps."""
SEND = 32 * 1024
UNSENT = 64 * 1024  # bytes waiting for a slow connection, after which no more are added
UNTAKEN = 1024 * 1024  # bytes of input that may wait for the host; the portal's page sends fewer
ACKNOWLEDGE_EVERY = 16 * 1024  # bytes of input
MAX_SIZE = 1000  # columns or rows


@dataclass(frozen=True)
class Where:
    """Where a shell is: the `host` and `path` (with surrogate escapes; empty for home) in its
    address, the ID of the `job` whose node it is on, if any, and the host's `title`."""

    host: str
    path: str
    job: str
    title: str

    @property
    def directory(self) -> str:
        """The path for the audit log, with escapes for bytes that are not UTF-8."""
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
    acknowledged: int = 0  # bytes of input

    def send(self, **facts: object) -> None:
        """Send a JSON message. Raises OSError."""
        self.websocket.send(json.dumps(facts))


@dataclass(eq=False)
class Shell:
    """Times are monotonic seconds, except `since`. `history` and the fields below it belong to the
    pump's thread."""

    id: str
    sign_in: SignIn
    where: Where
    machine: str
    terminal: Terminal
    opened_at: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.time)
    history: History = field(default_factory=History)
    typed: bytearray = field(default_factory=bytearray)
    taken: int = 0  # bytes of input since this viewer connected
    typed_at: float = field(default_factory=time.monotonic)
    alone_since: float | None = field(default_factory=time.monotonic)
    viewer: Viewer | None = None

    @property
    def user(self) -> str:
        return self.sign_in.user

    @property
    def is_full(self) -> bool:
        """Whether the page must show output before the portal reads more."""
        viewer = self.viewer
        return viewer is not None and self.history.end - viewer.shown >= UNSHOWN

    def show_to(self, websocket: WebSocket, seen: int | None) -> None:
        """Show the shell on a page that has `seen` output up to an offset, if any. Raises
        OSError."""
        history = self.history
        is_kept = seen is not None and history.start <= seen <= history.end
        offset = seen if seen is not None and is_kept else history.start
        self.viewer = Viewer(websocket, offset, offset, time.monotonic())
        self.alone_since = None
        self.taken = 0
        self.viewer.send(
            shell=self.id,
            title=self.where.title,
            replay=offset if is_kept else history.end,
            prelude=history.prelude,
            redraw=not is_kept and history.is_on_alternate_screen(),
            **{"from": offset},
        )
        self.send()

    def send(self) -> None:
        """Send the viewer as much new output as possible. Raises OSError."""
        viewer = self.viewer
        if viewer is None:
            return
        viewer.websocket.flush()
        while viewer.websocket.waiting < UNSENT and viewer.sent < self.history.end:
            part = self.history.part(viewer.sent, SEND)
            viewer.sent += len(part)
            viewer.websocket.send(part)

    def type(self) -> None:
        """Type as much of the waiting input as the terminal accepts. Raises OSError."""
        if self.typed:
            count = self.terminal.write(bytes(self.typed))
            del self.typed[:count]
            self.taken += count
        viewer = self.viewer
        if viewer is not None and self.taken - viewer.acknowledged >= ACKNOWLEDGE_EVERY:
            viewer.acknowledged = self.taken
            viewer.send(taken=self.taken)

    def receive(self) -> bool:
        """Handle the viewer's messages; return whether there was input. Raises OSError when the
        viewer is gone or sends messages that are not valid."""
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
                self._handle(message, viewer)
        if len(self.typed) > UNTAKEN or viewer.websocket.waiting > UNTAKEN:
            raise ConnectionAbortedError("too much input")
        return typed

    def _handle(self, message: str, viewer: Viewer) -> None:
        try:
            facts = json.loads(message)
            if "shown" in facts:
                viewer.shown = min(max(int(facts["shown"]), viewer.shown), viewer.sent)
            if "columns" in facts:
                columns, rows = (int(facts[name]) for name in ("columns", "rows"))
                if 0 < columns <= MAX_SIZE and 0 < rows <= MAX_SIZE:
                    self.terminal.resize(columns, rows)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ConnectionAbortedError("not a valid message") from error
