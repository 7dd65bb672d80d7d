"""Moves bytes between terminals and pages, in one thread for all shells of a user.

A slow connection of one user delays no other user, and no request waits for a shell.
"""

import logging
import os
import selectors
import threading
import time
from collections.abc import Callable
from functools import partial

from ood.auth.signins import SignIns
from ood.hosts.base import Terminal
from ood.shells.expiry import End, Expiry
from ood.shells.shell import READ, UNSENT, Shell, Viewer
from ood.shells.websocket import LINGER, WebSocket

RETRY = 0.01  # seconds: SSH channels do not report when they accept more
CHECK_EVERY = 0.5  # seconds
PING_EVERY = 20.0  # seconds
PAGE_TIMEOUT = 50.0  # seconds without a message, after which a page is gone

NORMAL, GOING_AWAY = 1000, 1001

log = logging.getLogger(__name__)

Work = Callable[["Pump"], None]


class Pump:
    """One user's shells, and the thread that moves their bytes until the last of them ends.
    `on_end` is called when a shell has ended."""

    def __init__(
        self,
        user: str,
        first: Work,
        expiry: Expiry,
        sign_ins: SignIns,
        on_end: Callable[[Shell, End], None],
    ) -> None:
        self._expiry = expiry
        self._sign_ins = sign_ins
        self._on_end = on_end
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._lock = threading.Lock()  # guards `_work`; the other fields are the thread's own
        self._work: list[Work] | None = [first]  # None: the thread has ended
        self._shells: set[Shell] = set()
        self._watched: dict[object, tuple[int, object]] = {}  # events and data in the selector
        self._leaving: dict[Viewer, float] = {}  # when to stop waiting for their close
        self._check_at = self._ping_at = 0.0  # monotonic
        threading.Thread(target=self._run, name=f"shells-{user}", daemon=True).start()

    def do(self, work: Work) -> bool:
        """Run `work` in the thread; return False when the thread has ended."""
        with self._lock:
            if self._work is None:
                return False
            self._work.append(work)
            os.write(self._woken, b".")
            return True

    # Everything below runs in the pump's own thread.

    def add(self, shell: Shell) -> None:
        self._shells.add(shell)

    def show(self, shell: Shell, websocket: WebSocket, seen: int | None) -> None:
        """Show a shell to a page, instead of the page that shows it now."""
        if shell not in self._shells:
            websocket.close()  # the page connects again and learns that the shell has ended
            return
        self._dismiss(shell, end="elsewhere", message="This shell is now open on another page.")
        self._guarded(shell, lambda: shell.show_to(websocket, seen))

    def end(self, shell: Shell, end: End) -> None:
        if shell not in self._shells:
            return
        self._shells.discard(shell)
        self._watch(shell.terminal, 0)
        message = self._expiry.message(end, shell.where.title)
        self._dismiss(shell, end=end.value, message=message)
        # Closing may wait for the process.
        threading.Thread(target=shell.terminal.close, name="shell-close", daemon=True).start()
        self._on_end(shell, end)

    def _run(self) -> None:
        try:
            while self._do_work():
                self._turn()
        except Exception:
            log.exception("%s failed, so its shells end", threading.current_thread().name)
            with self._lock:
                self._work = None
            for shell in list(self._shells):
                try:
                    self.end(shell, End.LOST)
                except Exception:
                    log.exception("could not end a shell of %s", shell.user)
        self._selector.close()
        os.close(self._wake)
        os.close(self._woken)

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + CHECK_EVERY
            for shell in list(self._shells):
                self._guarded(shell, partial(self._check, shell, now))
            for viewer in [each for each, until in self._leaving.items() if now >= until]:
                self._forget(viewer)
        if now >= self._ping_at:
            self._ping_at = now + PING_EVERY
            for shell in list(self._shells):
                self._guarded(shell, partial(self._ping, shell))
        for shell in list(self._shells):
            self._guarded(shell, partial(self._watch_shell, shell))
        blocked = any(shell.typed for shell in self._shells)
        until = min(self._check_at, self._ping_at)
        wait = RETRY if blocked else max(0.0, until - time.monotonic())
        for key, events in self._selector.select(wait):
            if key.fd == self._wake:
                os.read(self._wake, 4096)
            elif isinstance(key.data, Viewer):
                self._finish_closing(key.data)
            else:
                shell, viewer = key.data
                self._guarded(shell, partial(self._move, shell, viewer, events))
        for shell in list(self._shells):
            if shell.typed:
                self._guarded(shell, shell.type)

    def _do_work(self) -> bool:
        """Run the waiting work. Return False, which ends the thread, when nothing is left to do."""
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
                log.exception("%s failed to add or change a shell", threading.current_thread().name)
        return True

    def _move(self, shell: Shell, viewer: Viewer | None, events: int) -> None:
        """Handle events of a terminal, or of the page that shows it."""
        if shell not in self._shells:  # an earlier event ended it
            return
        if viewer is None:
            self._read(shell)
        elif viewer is shell.viewer:
            if events & selectors.EVENT_READ:
                self._receive(shell)
            shell.send()

    def _read(self, shell: Shell) -> None:
        try:
            printed = shell.terminal.read(READ)
        except BlockingIOError:
            return
        except OSError as error:
            log.info("could not read from a shell of %s: %s", shell.user, error)
            printed = b""
        if printed:
            shell.history.add(printed)
            self._guarded(shell, shell.send)
        else:
            end = End.LOST if shell.terminal.lost else End.EXITED
            self.end(shell, end if self._is_signed_in(shell) else End.SIGNED_OUT)

    def _receive(self, shell: Shell) -> None:
        if shell.receive():
            shell.typed_at = time.monotonic()
            self._sign_ins.find(shell.sign_in.id)  # a sign of life
            shell.type()
        assert shell.viewer is not None
        if not shell.viewer.websocket.is_open:  # the page is closing it
            raise ConnectionResetError

    def _watch_shell(self, shell: Shell) -> None:
        """Make the selector watch the terminal, unless the page is behind, and the page."""
        try:
            events = 0 if shell.is_full else selectors.EVENT_READ
            self._watch(shell.terminal, events, (shell, None))
        except (OSError, ValueError) as error:  # closed meanwhile
            log.info("could not watch a shell of %s: %s", shell.user, error)
            self.end(shell, End.LOST)
            return
        if shell.viewer is not None:
            self._watch_page(shell.viewer, (shell, shell.viewer))

    def _watch_page(self, viewer: Viewer, data: object) -> None:
        events = selectors.EVENT_WRITE if viewer.websocket.waiting else 0
        self._watch(viewer.websocket, events | selectors.EVENT_READ, data)

    def _watch(self, source: Terminal | WebSocket, events: int, data: object = None) -> None:
        """Make the selector watch a terminal or a page for these events, if any."""
        if self._watched.get(source) == (events, data):
            return
        if self._watched.pop(source, None) is not None:
            self._selector.unregister(source)
        if events:
            self._selector.register(source, events, data)
            self._watched[source] = events, data

    def _is_signed_in(self, shell: Shell) -> bool:
        return self._sign_ins.find(shell.sign_in.id, sign_of_life=False) is not None

    def _check(self, shell: Shell, now: float) -> None:
        due = self._expiry.due(shell)
        if not self._is_signed_in(shell):
            self.end(shell, End.SIGNED_OUT)
        elif now >= due.at:
            self.end(shell, due.end)
        elif shell.viewer is not None:
            if now - shell.viewer.heard_at > PAGE_TIMEOUT:
                self._lose_page(shell)
                return
            notice = self._expiry.notice(due, now)
            if notice != shell.viewer.notice:
                shell.viewer.notice = notice
                shell.viewer.send(notice=notice)

    def _ping(self, shell: Shell) -> None:
        viewer = shell.viewer
        if viewer is not None:
            viewer.websocket.ping()  # the browser answers, which shows that the page is there
            viewer.send()  # shows the page that the portal is there

    def _guarded(self, shell: Shell, work: Callable[[], None]) -> None:
        """Do something for a shell. After an OSError its page is gone, and the shell waits for
        another one. Any other exception ends this shell and no other."""
        try:
            work()
        except OSError as error:
            log.debug("the connection to a page of %s dropped: %s", shell.user, error)
            self._lose_page(shell)
        except Exception:
            log.exception("a shell of %s failed", shell.user)
            self.end(shell, End.LOST)

    def _lose_page(self, shell: Shell) -> None:
        viewer, shell.viewer = shell.viewer, None
        shell.alone_since = time.monotonic()
        if viewer is not None:
            viewer.websocket.end(GOING_AWAY)
            self._forget(viewer)

    def _dismiss(self, shell: Shell, **facts: str) -> None:
        """Send the page of a shell the rest of the output and a last message, then close the
        WebSocket."""
        viewer, shell.viewer = shell.viewer, None
        if viewer is None:
            return
        self._watch(viewer.websocket, 0)
        try:
            while viewer.sent < shell.history.end and viewer.websocket.is_open:
                part = shell.history.part(viewer.sent, UNSENT)
                viewer.sent += len(part)
                viewer.websocket.send(part)
            viewer.send(**facts)
            viewer.websocket.end(NORMAL)
        except OSError as error:
            log.debug("the connection to a page of %s dropped: %s", shell.user, error)
            viewer.websocket.close()
            return
        self._leaving[viewer] = time.monotonic() + LINGER
        self._watch_page(viewer, viewer)

    def _finish_closing(self, viewer: Viewer) -> None:
        """Close the connection when the page has confirmed it, so that the last message arrives."""
        try:
            viewer.websocket.receive()
            if not viewer.websocket.close_received:
                self._watch_page(viewer, viewer)
                return
        except OSError as error:
            log.debug("the connection to a closing page dropped: %s", error)
        self._forget(viewer)

    def _forget(self, viewer: Viewer) -> None:
        self._leaving.pop(viewer, None)
        self._watch(viewer.websocket, 0)
        viewer.websocket.close()
