"""The cost of a shell in the browser, compared with `ssh` in a terminal to the same host.

On the devcluster, alice has a shell on the log-in host through the portal's /shell/, and another
through `ssh -tt` in a pseudo-terminal on this machine. Each round measures for both how long a key
takes to be echoed, how fast the host prints, and how long Ctrl-C takes during output. At the end,
the portal's memory with many shells is measured. `make bench` runs it. The client uses plain
sockets, because a library would dominate the result.
"""

from __future__ import annotations

import os
import pty
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from proxy import Row, _memory, _portal, _stop  # noqa: E402

from tests.conftest import Devcluster, RunningPortal  # noqa: E402
from tests.webuser import WebUser  # noqa: E402

ROUNDS = 5
KEYS = 300
SIZE = 64 * 2**20  # bytes printed, as one line of x, in a round
ONE_SHELL = 2**30 + 2**26  # bytes through one shell at the end
MANY = 20
PATIENCE = 30.0  # seconds
LIMIT = 400  # seconds for the whole run
UNSHOWN = 32 * 1024


class Shell(Protocol):
    """A shell, through the portal or ssh."""

    def type(self, data: bytes) -> None: ...
    def read(self) -> bytes: ...


class PortalShell:
    """A shell through the portal, over a WebSocket with masks of zeros."""

    def __init__(self, alice: WebUser) -> None:
        portal = alice.portal
        self._connection = socket.create_connection(("127.0.0.1", portal.port), 60)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = (
            "GET /shell/desktop HTTP/1.1",
            f"Host: 127.0.0.1:{portal.port}",
            f"Origin: {portal.url}",
            f"Cookie: {alice._cookie}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        self._connection.sendall("\r\n".join([*head, "", ""]).encode())
        self._data = bytearray()
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            self._receive()
        assert b" 101 " in self._data[:end], self._data
        del self._data[: end + 4]
        self._received = self._told = 0
        self._connection.settimeout(PATIENCE)

    def _receive(self) -> None:
        part = self._connection.recv(256 * 1024)
        assert part, "the shell broke off"
        self._data += part

    def _send(self, kind: int, data: bytes) -> None:
        assert len(data) < 126
        self._connection.sendall(bytes((0x80 | kind, 0x80 | len(data), 0, 0, 0, 0)) + data)

    def type(self, data: bytes) -> None:
        self._send(2, data)

    def read(self) -> bytes:
        """Read the next message with output."""
        while True:
            kind, head, length = self._frame()
            while kind < 0 or len(self._data) < head + length:
                self._receive()
                kind, head, length = self._frame()
            data = bytes(self._data[head : head + length])
            del self._data[: head + length]
            if kind != 2:
                continue
            self._received += length
            if self._received - self._told >= UNSHOWN:
                self._told = self._received
                self._send(1, b'{"shown": %d}' % self._received)
            return data

    def _frame(self) -> tuple[int, int, int]:
        """The next frame: opcode, length of the head, length of the data. Opcode -1: incomplete."""
        data = self._data
        if len(data) < 10 and (len(data) < 2 or len(data) < (2, 4, 10)[max(0, data[1] - 125)]):
            return -1, 0, 0
        length = data[1]
        if length == 126:
            return data[0] & 15, 4, int.from_bytes(data[2:4], "big")
        if length == 127:
            return data[0] & 15, 10, int.from_bytes(data[2:10], "big")
        return data[0] & 15, 2, length

    def close(self) -> None:
        self._connection.close()


class SSHShell:
    """A shell through ssh, in a pseudo-terminal that ssh switches to raw mode."""

    def __init__(self) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execv(ROOT / "devcluster/as", ["as", "alice", "alpha-login", "-tt"])

    def type(self, data: bytes) -> None:
        os.write(self._fd, data)

    def read(self) -> bytes:
        return os.read(self._fd, 256 * 1024)

    def close(self) -> None:
        os.kill(self._pid, signal.SIGTERM)  # SIGHUP is ignored under nohup
        os.close(self._fd)
        os.waitpid(self._pid, 0)


def until(shell: Shell, wanted: bytes) -> int:
    """Read until `wanted` is printed. Returns the number of bytes read."""
    count, last = 0, b""
    while wanted not in last:
        data = shell.read()
        count += len(data)
        last = last[-len(wanted) :] + data
    return count


def ready(shell: Shell) -> None:
    shell.type(b"PS1=; stty -echo; echo rea''dy\n")
    until(shell, b"ready\r\n")


def keys(shell: Shell) -> tuple[float, float]:
    """The median and the 99th percentile of the time until a key is echoed, in milliseconds."""
    shell.type(b"stty echo; echo o''n; cat >/dev/null\n")
    until(shell, b"on\r\n")
    took = []
    for number in range(KEYS):
        key = b"%c" % (ord("a") + number % 26)
        start = time.perf_counter()
        shell.type(key)
        until(shell, key)
        took.append((time.perf_counter() - start) * 1000)
    shell.type(b"\n\x04")
    until(shell, b"\r\n")
    shell.type(b"stty -echo; echo of''f\n")
    until(shell, b"off\r\n")
    return statistics.median(took), statistics.quantiles(took, n=100)[-1]


def print_speed(shell: Shell, size: int = SIZE) -> float:
    """MB/s."""
    start = time.perf_counter()
    shell.type(b"head -c %d /dev/zero | tr '\\0' x; echo EN''D\n" % size)
    assert until(shell, b"END\r\n") >= size
    return size / 1e6 / (time.perf_counter() - start)


def ctrl_c(shell: Shell) -> float:
    """Milliseconds from Ctrl-C during output to the output of the next command."""
    shell.type(b"yes\n")
    count = 0
    while count < 4 * 2**20:
        count += len(shell.read())
    start = time.perf_counter()
    shell.type(b"\x03")
    shell.type(b"echo STO''PPED\n")
    until(shell, b"STOPPED\r\n")
    return (time.perf_counter() - start) * 1000


def measure(shells: dict[str, Shell]) -> None:
    rows = [
        Row(title, digits, "", {name: [] for name in shells})
        for title, digits in (
            ("key echoed, median ms", 2),
            ("key echoed, p99 ms", 2),
            (f"prints {SIZE / 1e6:.0f} MB, MB/s", 0),
            ("Ctrl-C during output, ms", 0),
        )
    ]
    jobs: list[Callable[[Shell], tuple[float, ...]]] = [
        keys,
        lambda shell: (print_speed(shell),),
        lambda shell: (ctrl_c(shell),),
    ]
    names = list(shells)
    for turn in range(ROUNDS):
        found: dict[str, tuple[float, ...]] = dict.fromkeys(names, ())
        for job in jobs:
            for name in names if turn % 2 else reversed(names):
                found[name] += job(shells[name])
        for name in names:
            for row, value in zip(rows, found[name], strict=True):
                row.values[name].append(value)
    heads = "".join(f"{name:>10}" for name in names)
    print(f"{f'median of {ROUNDS} rounds':34}{heads}{'portal/ssh':>12}")
    for row in rows:
        print(row.line(names, "ssh").rstrip())


def long_and_many(portal: RunningPortal, alice: WebUser, shell: Shell) -> None:
    """Print more than a GiB through one shell, open many shells, and report the portal's memory."""
    before = _memory(portal)
    speed = print_speed(shell, ONE_SHELL)
    print(
        f"{ONE_SHELL / 2**30:.2f} GiB through one shell at {speed:.0f} MB/s: the portal's resident "
        f"memory {before:.0f} MiB before, {_memory(portal):.0f} after"
    )
    with ExitStack() as held:
        start = time.perf_counter()
        shells = []
        for _ in range(MANY):
            shells.append(PortalShell(alice))
            held.callback(shells[-1].close)
            ready(shells[-1])
        opened = time.perf_counter() - start
        during = _memory(portal)
    print(f"{MANY} more shells: opened in {opened:.1f} s, {during:.0f} MiB with them")


@contextmanager
def the_shells(directory: Path) -> Iterator[tuple[RunningPortal, WebUser, dict[str, Shell]]]:
    site = Devcluster()
    site.up()
    with ExitStack() as held:
        portal = _portal(site, directory)
        held.callback(portal.stop)
        portal.start()
        alice = WebUser(portal, "alice")
        by_portal, by_ssh = PortalShell(alice), SSHShell()
        held.callback(by_portal.close)
        held.callback(by_ssh.close)
        shells: dict[str, Shell] = {"portal": by_portal, "ssh": by_ssh}
        for shell in shells.values():
            ready(shell)
        yield portal, alice, shells


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _stop)
    with tempfile.TemporaryDirectory() as directory, the_shells(Path(directory)) as found:
        portal, alice, shells = found
        signal.alarm(LIMIT)
        measure(shells)
        long_and_many(portal, alice, shells["portal"])
        signal.alarm(0)


if __name__ == "__main__":
    main()
