"""What moves the bytes between terminals and pages: one thread for all shells of a user.

What holds up one user's SSH connection holds up nobody else, and no request waits for a shell.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ood.shells.expiry import End, Expiry
from ood.shells.shell import READ, UNSENT, Shell, Viewer
from ood.shells.websocket import WebSocket

RETRY = 0.01  # seconds: SSH channels do not tell when they can take more
CHECK_EVERY = 0.5  # seconds
PING_EVERY = 20.0
SILENT = 50.0  # seconds after which a page that says nothing is gone
LINGER = 5.0  # seconds to deliver the last word

NORMAL, GOING_AWAY = 1000, 1001

log = logging.getLogger(__name__)

Work = Callable[["Pump"], None]


class Pump:
    """`alive` is asked now and then whether a shell may go on, `typed` is told that somebody types,
    `on_end` that a shell has ended."""

    def __init__(
        self,
        user: str,
        first: Work,
        limits: Expiry,
        alive: Callable[[Shell], bool],
        typed: Callable[[Shell], None],
        on_end: Callable[[Shell, End], None],
    ) -> None:
        self._limits = limits
        self._alive = alive
        self._typed = typed
        self._on_end = on_end
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._work: list[Work] | None = [first]  # None: the thread has ended
        self._shells: set[Shell] = set()
        self._watched: dict[Viewer, tuple[int, object]] = {}  # as the selector has them
        self._leaving: dict[Viewer, float] = {}  # until when their last word may take
        self._check_at = self._ping_at = 0.0  # monotonic
        threading.Thread(target=self._run, name=f"shells-{user}", daemon=True).start()

    def do(self, work: Work) -> bool:
        """Have the thread do it; False when there is none any more."""
        with self._lock:
            if self._work is None:
                return False
            self._work.append(work)
            os.write(self._woken, b".")
            return True

    # From here on: the pump's own thread, and the work it does.

    def add(self, shell: Shell) -> None:
        self._shells.add(shell)

    def show(self, shell: Shell, websocket: WebSocket, seen: int | None) -> None:
        """Have a page show a shell, in place of the one that does."""
        if shell not in self._shells:
            websocket.close()  # it asks again, and is told
            return
        self._let_go(shell, end="elsewhere", message="Another page shows this shell now.")
        self._guarded(shell, lambda: shell.show_to(websocket, seen))

    def end(self, shell: Shell, end: End) -> None:
        if shell not in self._shells:
            return
        self._shells.discard(shell)
        if shell.reading:
            self._selector.unregister(shell.terminal)
        message = self._limits.message(end, shell.where.title)
        self._let_go(shell, end=end.value, message=message)
        # It can wait for the shell's process.
        threading.Thread(target=shell.terminal.close, name="shell-close", daemon=True).start()
        self._on_end(shell, end)

    def _run(self) -> None:
        try:
            while self._do_work():
                self._turn()
        except Exception:
            log.exception("the shells of a user")
            with self._lock:
                self._work = None
            for shell in list(self._shells):
                with suppress(Exception):
                    self.end(shell, End.LOST)
        self._selector.close()
        os.close(self._wake)
        os.close(self._woken)

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + CHECK_EVERY
            for shell in list(self._shells):
                self._check(shell, now)
            for viewer in [one for one, until in self._leaving.items() if now >= until]:
                self._gone(viewer)
        if now >= self._ping_at:
            self._ping_at = now + PING_EVERY
            for shell in list(self._shells):
                self._ping(shell)
        for shell in list(self._shells):
            self._watch(shell)
        blocked = any(shell.typed for shell in self._shells)
        until = min(self._check_at, self._ping_at)
        wait = RETRY if blocked else max(0.0, until - time.monotonic())
        for key, events in self._selector.select(wait):
            if key.fd == self._wake:
                os.read(self._wake, 4096)
            elif isinstance(key.data, Viewer):
                self._see_off(key.data)
            else:
                shell, viewer = key.data
                self._move(shell, viewer, events)
        for shell in list(self._shells):
            if shell.typed:
                self._guarded(shell, shell.type)

    def _do_work(self) -> bool:
        """Do what was asked for; False, for good, when there is nothing left to do."""
        with self._lock:
            assert self._work is not None
            work, self._work = self._work, []
            if not work and not self._shells and not self._leaving:
                self._work = None
                return False
        for each in work:
            try:
                each(self)
            except Exception:
                log.exception("shells")
        return True

    def _move(self, shell: Shell, viewer: Viewer | None, events: int) -> None:
        """Something is to be read, or can be sent."""
        if shell not in self._shells:  # it ended by an event before this one
            return
        if viewer is None:
            self._read(shell)
        elif viewer is shell.viewer:
            if events & selectors.EVENT_READ:
                self._guarded(shell, lambda: self._hear(shell))
            self._guarded(shell, shell.send)

    def _read(self, shell: Shell) -> None:
        try:
            printed = shell.terminal.read(READ)
        except BlockingIOError:
            return
        except OSError as error:
            log.info("shell of %s: %s", shell.user, error)
            printed = b""
        if printed:
            shell.history.add(printed)
            self._guarded(shell, shell.send)
        else:
            end = End.LOST if shell.terminal.lost else End.EXITED
            self.end(shell, end if self._alive(shell) else End.SIGNED_OUT)

    def _hear(self, shell: Shell) -> None:
        if shell.hear():
            shell.typed_at = time.monotonic()
            self._typed(shell)
            shell.type()
        assert shell.viewer is not None
        if not shell.viewer.websocket.is_open:  # it says goodbye
            raise ConnectionResetError

    def _watch(self, shell: Shell) -> None:
        """Have the selector watch what can go on."""
        if shell.reading == shell.is_full:
            shell.reading = not shell.reading
            if shell.reading:
                try:
                    data = (shell, None)
                    self._selector.register(shell.terminal, selectors.EVENT_READ, data)
                except (OSError, ValueError):  # closed meanwhile
                    shell.reading = False
                    self.end(shell, End.LOST)
                    return
            else:
                self._selector.unregister(shell.terminal)
        if shell.viewer is not None:
            self._watch_viewer(shell.viewer, (shell, shell.viewer), selectors.EVENT_READ)

    def _watch_viewer(self, viewer: Viewer, data: object, events: int) -> None:
        if viewer.websocket.waiting:
            events |= selectors.EVENT_WRITE
        if self._watched.get(viewer) != (events, data):
            self._unwatch(viewer)
            self._selector.register(viewer.websocket, events, data)
            self._watched[viewer] = (events, data)

    def _unwatch(self, viewer: Viewer) -> None:
        if self._watched.pop(viewer, None) is not None:
            self._selector.unregister(viewer.websocket)

    def _check(self, shell: Shell, now: float) -> None:
        due = self._limits.due(shell)
        if not self._alive(shell):
            self.end(shell, End.SIGNED_OUT)
        elif now >= due.at:
            self.end(shell, due.end)
        elif shell.viewer is not None:
            if now - shell.viewer.heard_at > SILENT:
                self._lose(shell)
                return
            notice = self._limits.notice(due, now)
            if notice != shell.viewer.notice:
                shell.viewer.notice = notice
                self._guarded(shell, partial(shell.viewer.say, notice=notice))

    def _ping(self, shell: Shell) -> None:
        viewer = shell.viewer
        if viewer is not None:
            self._guarded(shell, viewer.websocket.ping)  # which the browser answers
            self._guarded(shell, viewer.say)  # which the page hears

    def _guarded(self, shell: Shell, work: Callable[[], None]) -> None:
        """Do something with the page of a shell. If that has gone, the shell waits for another."""
        try:
            work()
        except OSError as error:
            log.debug("a page of %s: %s", shell.user, error)
            self._lose(shell)

    def _lose(self, shell: Shell) -> None:
        viewer, shell.viewer = shell.viewer, None
        shell.alone_since = time.monotonic()
        if viewer is not None:
            viewer.websocket.end(GOING_AWAY)
            self._gone(viewer)

    def _let_go(self, shell: Shell, **word: str) -> None:
        """Say a last word to the page of a shell, after all that was printed."""
        viewer, shell.viewer = shell.viewer, None
        if viewer is None:
            return
        self._unwatch(viewer)
        try:
            while viewer.sent < shell.history.end and viewer.websocket.is_open:
                part = shell.history.part(viewer.sent, UNSENT)
                viewer.sent += len(part)
                viewer.websocket.send(part)
            viewer.say(**word)
            viewer.websocket.end(NORMAL)
        except OSError:
            viewer.websocket.close()
            return
        self._leaving[viewer] = time.monotonic() + LINGER
        self._watch_viewer(viewer, viewer, selectors.EVENT_READ)

    def _see_off(self, viewer: Viewer) -> None:
        """Wait for the page to close as well: closed at once, it might lose the last word."""
        try:
            viewer.websocket.receive()
            if not viewer.websocket.said_goodbye:
                self._watch_viewer(viewer, viewer, selectors.EVENT_READ)
                return
        except OSError:
            pass
        self._gone(viewer)

    def _gone(self, viewer: Viewer) -> None:
        self._leaving.pop(viewer, None)
        self._unwatch(viewer)
        viewer.websocket.close()
