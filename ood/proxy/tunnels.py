"""WebSockets: two connections joined byte by byte, without a thread each.

After the upgrade the portal interprets nothing, so sub-protocols, compression, pings and close
codes pass unchanged. One thread serves all tunnels of a user: a slow SSH connection of one user
delays nobody else.
"""

import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ood.hosts.base import Stream

RECEIVE = 256 * 1024
SEND = 64 * 1024
MAX_WAITING = 1024 * 1024  # bytes for a slow reader, after which the other side is not read
RETRY = 0.005  # seconds: SSH channels do not report when they accept more
CHECK_EVERY = 0.5  # seconds, for sign-ins that have ended
LINGER = 5.0  # seconds to deliver what one side sent before it closed

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _End:
    """One connection of a tunnel, and the bytes that wait to be sent on it."""

    stream: Stream
    waiting: bytearray = field(default_factory=bytearray)
    reading: bool = False  # whether it is in the selector


@dataclass(eq=False)
class _Tunnel:
    browser: _End
    service: _End
    allowed: Callable[[], bool]
    closing_at: float | None = None  # monotonic: one side has closed

    def other(self, end: _End) -> _End:
        return self.service if end is self.browser else self.browser


class Tunnels:
    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _pumps
        self._pumps: dict[str, _Pump] = {}  # by user

    def join(
        self, user: str, browser: socket.socket, service: Stream, allowed: Callable[[], bool]
    ) -> None:
        """Join two connections. The tunnel ends, and closes both, when either side closes or
        `allowed` returns False."""
        browser.setblocking(False)
        service.settimeout(0.0)
        tunnel = _Tunnel(_End(browser), _End(service), allowed)
        with self._lock:
            pump = self._pumps.get(user)
            if pump is None or not pump.add(tunnel):
                self._pumps[user] = _Pump(user, tunnel)


class _Pump:
    """One user's tunnels, and the thread that moves their bytes until the last of them ends."""

    def __init__(self, user: str, first: _Tunnel) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = os.pipe()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._lock = threading.Lock()  # guards _new; the rest belongs to the thread
        self._new: list[_Tunnel] | None = [first]  # None: the thread has ended
        self._tunnels: set[_Tunnel] = set()
        self._blocked: set[_Tunnel] = set()
        threading.Thread(target=self._run, name=f"tunnels-{user}", daemon=True).start()

    def add(self, tunnel: _Tunnel) -> bool:
        """Add a tunnel; return False if this pump has ended."""
        with self._lock:
            if self._new is None:
                return False
            self._new.append(tunnel)
            os.write(self._woken, b".")
            return True

    # Everything below runs in the pump's own thread.

    def _run(self) -> None:
        while True:
            try:
                self._move()
                break
            except Exception:
                log.exception("could not move the data of WebSockets")
                time.sleep(1.0)
        self._selector.close()
        os.close(self._wake)
        os.close(self._woken)

    def _move(self) -> None:
        """Move data until no tunnel is left."""
        check_at = time.monotonic() + CHECK_EVERY
        while self._start_new():
            wait = RETRY if self._blocked else max(0.0, check_at - time.monotonic())
            for key, _ in self._selector.select(wait):
                if key.fd == self._wake:
                    os.read(self._wake, 4096)
                else:
                    tunnel, end = key.data
                    if tunnel in self._tunnels:  # an earlier event may have closed it
                        self._attempt(tunnel, self._read, tunnel, end)
            for tunnel in list(self._blocked):
                self._attempt(tunnel, self._send, tunnel)
            if time.monotonic() >= check_at:
                check_at = time.monotonic() + CHECK_EVERY
                for tunnel in list(self._tunnels):
                    self._attempt(tunnel, self._check, tunnel)

    def _start_new(self) -> bool:
        """Start the tunnels that were added. Return False, and end this pump, when none is left."""
        with self._lock:
            assert self._new is not None
            new, self._new = self._new, []
            if not new and not self._tunnels:
                self._new = None
                return False
        for tunnel in new:
            self._tunnels.add(tunnel)
            self._attempt(tunnel, self._send, tunnel)
        return True

    def _attempt(self, tunnel: _Tunnel, work: Callable[..., None], *arguments: object) -> None:
        """Do some work for a tunnel. If that fails, this tunnel ends and the others go on."""
        try:
            work(*arguments)
        except (OSError, ValueError) as error:  # closed meanwhile
            log.debug("a tunnel was closed: %s", error)
            self._close(tunnel)
        except Exception:
            log.exception("a tunnel failed")
            self._close(tunnel)

    def _check(self, tunnel: _Tunnel) -> None:
        if not tunnel.allowed():
            self._close(tunnel)

    def _read(self, tunnel: _Tunnel, end: _End) -> None:
        other = tunnel.other(end)
        try:
            data = end.stream.recv(RECEIVE)
        except (BlockingIOError, TimeoutError):
            return
        except OSError:
            data = b""
        if data:
            other.waiting += data
        else:
            tunnel.closing_at = time.monotonic() + LINGER
            self._listen(tunnel, end, False)
        self._send(tunnel)

    def _send(self, tunnel: _Tunnel) -> None:
        """Send what waits, in both directions, as far as the connections accept it. Then listen to
        each side, unless too much waits for the other."""
        for end in (tunnel.browser, tunnel.service):
            try:
                while end.waiting:
                    sent = end.stream.send(bytes(end.waiting[:SEND]))
                    if not sent:  # paramiko returns 0 if the channel is closed
                        raise ConnectionResetError
                    del end.waiting[:sent]
            except (BlockingIOError, TimeoutError):
                pass
        waiting = tunnel.browser.waiting or tunnel.service.waiting
        if tunnel.closing_at is not None and (not waiting or time.monotonic() >= tunnel.closing_at):
            self._close(tunnel)
            return
        if tunnel.closing_at is None:
            for end in (tunnel.browser, tunnel.service):
                self._listen(tunnel, end, len(tunnel.other(end).waiting) < MAX_WAITING)
        if waiting:
            self._blocked.add(tunnel)
        else:
            self._blocked.discard(tunnel)

    def _listen(self, tunnel: _Tunnel, end: _End, reading: bool) -> None:
        if reading == end.reading:
            return
        end.reading = reading
        if reading:
            self._selector.register(end.stream, selectors.EVENT_READ, (tunnel, end))
        else:
            with suppress(KeyError, ValueError):  # its connection has been closed
                self._selector.unregister(end.stream)

    def _close(self, tunnel: _Tunnel) -> None:
        self._tunnels.discard(tunnel)
        self._blocked.discard(tunnel)
        for end in (tunnel.browser, tunnel.service):
            self._listen(tunnel, end, False)
            try:
                end.stream.close()
            except Exception as error:  # the connection may be broken
                log.debug("could not close a tunnel: %s", error)
