"""The cost of the portal's proxy, compared with other connections to the same service.

In one run on the devcluster, one echo service (tests/app_defs/echo_app) on a node is used through
the portal's /node/<id>/; through `ssh -L` as the same user; through npm's configurable-http-proxy
in front of that tunnel; and directly, to see the limits of the service itself. Each round measures
all of them. At the end, many WebSockets are held open through the portal. `make bench` runs it;
goals are printed, not asserted. The client uses plain sockets, because a Python library would
dominate the result.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.conftest import Devcluster, RunningPortal, wait_until  # noqa: E402
from tests.webuser import WebUser  # noqa: E402

ROUNDS = 5
SIZE = 100_000_000  # bytes of a download and of an upload
GET_SECONDS = 1.0
MESSAGES = 500
HELD = 500  # WebSockets at once
HOLD_SECONDS = 5.0
LIMIT = 170  # seconds for the whole run

# The oldest version that still gets releases. It runs on Debian 12's node.
CHP = "configurable-http-proxy@4.6.3"
CHP_DIRECTORY = ROOT / "var/bench"

BLOCK = memoryview(os.urandom(1 << 20))
BUFFER = memoryview(bytearray(1 << 20))


# ---- Connections to the service


@dataclass(frozen=True)
class Way:
    """One connection to the service: the address to connect to, and the headers of a request."""

    name: str
    address: tuple[str, int]
    prefix: str
    headers: str

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.address, timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def head(self, method: str, path: str, *more: str) -> bytes:
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", self.headers, *more, "", ""]
        return "\r\n".join(lines).encode()


@contextmanager
def the_ways(directory: Path) -> Iterator[tuple[RunningPortal, list[Way]]]:
    """Start a portal and a service, and yield all connections to the service: the portal's first,
    ssh's second."""
    site = Devcluster()
    site.up()
    with ExitStack() as held:
        portal = _portal(site, directory)
        held.callback(portal.stop)
        portal.start()
        alice = WebUser(portal, "alice")
        session = held.enter_context(_service(alice))
        connection = yaml.safe_load(
            site.as_user(
                "alice",
                "alpha-login",
                f"cat ondemand/data/sys/dashboard/batch_connect/sys/echo_app/output/{session}/"
                "connection.yml",
            )
        )
        node, port = connection["host"], connection["port"]
        prefix = f"/node/{session}/"
        token = f"Host: localhost\r\nAuthorization: token {connection['password']}"
        through_portal = f"Host: {_host(prefix, portal.port)}\r\nCookie: {alice.enters(prefix)}"
        tunnel = held.enter_context(_ssh_tunnel(node, port))
        ways = [
            Way("portal", ("127.0.0.1", portal.port), prefix, through_portal),
            Way("ssh -L", tunnel, prefix, token),
        ]
        if chp := held.enter_context(_chp(tunnel, directory)):
            ways.append(Way("c-h-p", chp, prefix, token))
        address = site.host("alpha-login", "getent", "ahostsv4", node).split()[0]
        ways.append(Way("direct", (address, port), prefix, token))
        yield portal, ways


def _host(prefix: str, port: int) -> str:
    """The host name and port where the portal serves the service with this prefix."""
    return f"{prefix.split('/')[2]}.localhost:{port}"


def _portal(site: Devcluster, directory: Path) -> RunningPortal:
    config = yaml.safe_load((site.state / "portal.yml").read_text())
    for key in ("known_hosts", "clusters"):
        config[key] = str(site.state / config[key])
    config["app_defs"] = str(ROOT / "tests/app_defs")
    (directory / "portal.yml").write_text(yaml.safe_dump(config))
    return RunningPortal(directory, {"OOD_PORTAL_CONFIG": str(directory / "portal.yml")})


@contextmanager
def _service(alice: WebUser) -> Iterator[str]:
    """Launch an echo service as alice, and yield its session ID."""
    before = {card["id"] for card in alice.sessions()}
    status, text = alice.post(
        "/apps/echo_app", {"cluster": "desktop", "delay": "0"}, "/apps/echo_app"
    )
    assert status == 303, text
    (session,) = [
        card["id"]
        for card in alice.sessions()
        if card["id"] not in before and card["app"] == "echo_app"
    ]

    def card() -> dict[str, str]:
        _, text = alice.request("GET", f"/sessions/{session}", Accept="application/json")
        return dict(json.loads(text))

    try:
        wait_until(lambda: card()["connect_url"], 30, "the service does not start")
        yield session
    finally:
        alice.post(f"/sessions/{session}/cancel", {})
        wait_until(lambda: card()["status"] == "completed", 20, "the service does not end")
        alice.post(f"/sessions/{session}/delete", {})


@contextmanager
def _running(argv: list[str | Path], address: tuple[str, int], **env: str) -> Iterator[None]:
    """Run a program until it listens on an address; stop it at the end."""
    process = subprocess.Popen(
        argv,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: _listens(address), 15, f"{argv[0]} does not listen")
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 1).close()
        return True
    except OSError:
        return False


def _free() -> tuple[str, int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return "127.0.0.1", int(free.getsockname()[1])


@contextmanager
def _ssh_tunnel(node: str, port: int) -> Iterator[tuple[str, int]]:
    here = _free()
    forward = f"127.0.0.1:{here[1]}:{node}:{port}"
    ssh: list[str | Path] = [ROOT / "devcluster/as", "alice", "alpha-login", "-N", "-L", forward]
    with _running(ssh, here):
        yield here


@contextmanager
def _chp(target: tuple[str, int], directory: Path) -> Iterator[tuple[str, int] | None]:
    """Run configurable-http-proxy in front of an address. Yields None if it cannot be installed."""
    script = _install_chp(directory)
    if script is None:
        yield None
        return
    here, api = _free(), _free()
    argv: list[str | Path] = ["node", script, "--ip", here[0], "--port", str(here[1])]
    argv += ["--api-ip", api[0], "--api-port", str(api[1]), "--log-level", "error"]
    argv += ["--default-target", f"http://{target[0]}:{target[1]}"]
    with _running(argv, here, CONFIGPROXY_AUTH_TOKEN="nobody's"):
        yield here


def _install_chp(directory: Path) -> Path | None:
    script = CHP_DIRECTORY / "node_modules/configurable-http-proxy/bin/configurable-http-proxy"
    commands = [["npm", "install", "--no-audit", "--no-fund", "--prefix", str(CHP_DIRECTORY), CHP]]
    if not (shutil.which("node") and shutil.which("npm")):
        apt = ["apt-get", "install", "-q", "-y", "--no-install-recommends", "nodejs", "npm"]
        commands = [["apt-get", "update", "-q"], apt, *commands]
    elif script.exists():
        return script
    CHP_DIRECTORY.mkdir(parents=True, exist_ok=True)
    log = directory / "install.log"
    for argv in commands:
        try:
            with log.open("ab") as said:
                subprocess.run(argv, check=True, stdout=said, stderr=said, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"configurable-http-proxy: not measured: {error}")
            return None
    return script


# ---- Measurements


def download(way: Way) -> float:
    """MB/s."""
    with way.connect() as connection:
        start = time.perf_counter()
        connection.sendall(way.head("GET", f"bytes/{SIZE}"))
        length, got = _answer(connection)
        assert length == SIZE
        while got < SIZE:
            got += _receive(connection)
        return SIZE / 1e6 / (time.perf_counter() - start)


def upload(way: Way) -> float:
    """MB/s."""
    with way.connect() as connection:
        start = time.perf_counter()
        connection.sendall(way.head("POST", "upload", f"Content-Length: {SIZE}"))
        left = SIZE
        while left:
            connection.sendall(BLOCK[:left])
            left -= min(left, len(BLOCK))
        length, got = _answer(connection)
        while got < length:
            got += _receive(connection)
        return SIZE / 1e6 / (time.perf_counter() - start)


def _receive(connection: socket.socket) -> int:
    got = connection.recv_into(BUFFER)
    assert got, "the answer broke off"
    return got


def _answer(connection: socket.socket) -> tuple[int, int]:
    """Read the head of a response. Returns the length of the body, and how much of it was read."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += bytes(BUFFER[: _receive(connection)])
    return _length(data[:end]), len(data) - end - 4


def _length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    assert b" 200 " in lines[0], head
    (length,) = [line[15:] for line in lines if line.startswith(b"content-length:")]
    return int(length)


def gets(way: Way, connections: int) -> float:
    """Small GETs per second over this number of keep-alive connections."""
    ask = way.head("GET", "bytes/100")
    answered = 0
    with ExitStack() as held, selectors.DefaultSelector() as selector:
        for _ in range(connections):
            connection = held.enter_context(way.connect())
            connection.sendall(ask)
            selector.register(connection, selectors.EVENT_READ, (connection, bytearray()))
        start = time.perf_counter()
        while (now := time.perf_counter()) < start + GET_SECONDS:
            ready = selector.select(30)
            assert ready, "no answer"
            for key, _ in ready:
                connection, data = key.data
                data += BUFFER[: _receive(connection)]
                end = data.find(b"\r\n\r\n")
                if end < 0 or len(data) < end + 4 + _length(bytes(data[:end])):
                    continue
                data.clear()
                answered += 1
                connection.sendall(ask)
        return answered / (now - start)


class WebSocket:
    """A minimal WebSocket: small text messages in one frame, with a mask of zeros."""

    def __init__(self, way: Way) -> None:
        self._connection = way.connect()
        host, port = way.address
        origin = f"http://{_host(way.prefix, port) if way.name == 'portal' else f'{host}:{port}'}"
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", f"Origin: {origin}")
        key = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
        self._connection.sendall(way.head("GET", "ws", *upgrade, *key))
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # the service sends nothing unasked
            part = self._connection.recv(65536)
            assert part, head
            head += part
        assert b" 101 " in head.split(b"\r\n", 1)[0], head

    def echo(self, message: bytes) -> None:
        assert len(message) < 126
        self._connection.sendall(bytes((0x81, 0x80 | len(message), 0, 0, 0, 0)) + message)
        expected = bytes((0x81, len(message))) + message
        got = b""
        while len(got) < len(expected):
            part = self._connection.recv(65536)
            assert part, "the WebSocket was closed"
            got += part
        assert got == expected, got

    def close(self) -> None:
        self._connection.close()


def round_trips(way: Way) -> tuple[float, float]:
    """The median and the 99th percentile of a WebSocket's round trip, in milliseconds."""
    websocket = WebSocket(way)
    websocket.echo(b"first")
    took = []
    for number in range(MESSAGES):
        start = time.perf_counter()
        websocket.echo(b"message %d" % number)
        took.append((time.perf_counter() - start) * 1000)
    websocket.close()
    return statistics.median(took), statistics.quantiles(took, n=100)[-1]


@dataclass(frozen=True)
class Row:
    """One line of the table: values by connection and round."""

    title: str
    digits: int
    goal: str
    values: dict[str, list[float]]

    def line(self, names: list[str], peer: str = "ssh -L") -> str:
        shown = [f"{statistics.median(self.values[name]):10.{self.digits}f}" for name in names]
        pairs = zip(self.values["portal"], self.values[peer], strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        return f"{self.title:34}{''.join(shown)}{ratio:12.2f}   {self.goal}"


def measure(ways: list[Way]) -> None:
    names = [way.name for way in ways]
    throughput, delay = "0.8 or more", "2 or less"
    rows = [
        Row(title, digits, goal, {name: [] for name in names})
        for title, digits, goal in (
            ("download 100 MB, MB/s", 0, throughput),
            ("upload 100 MB, MB/s", 0, throughput),
            ("small GETs/s, 1 connection", 0, ""),
            ("small GETs/s, 8 connections", 0, ""),
            ("WebSocket round trip, median ms", 2, delay),
            ("WebSocket round trip, p99 ms", 2, ""),
        )
    ]
    jobs: list[Callable[[Way], tuple[float, ...]]] = [
        lambda way: (download(way),),
        lambda way: (upload(way),),
        lambda way: (gets(way, 1),),
        lambda way: (gets(way, 8),),
        round_trips,
    ]
    for way in ways:
        gets(way, 1)  # not measured: work that is done only once
    for turn in range(ROUNDS):
        at = turn % len(ways)
        found: dict[str, tuple[float, ...]] = dict.fromkeys(names, ())
        for job in jobs:
            for way in ways[at:] + ways[:at]:
                found[way.name] += job(way)
        for name in names:
            for row, value in zip(rows, found[name], strict=True):
                row.values[name].append(value)
    heads = "".join(f"{name:>10}" for name in names)
    print(f"{f'median of {ROUNDS} rounds':34}{heads}{'portal/ssh':>12}   goal")
    for row in rows:
        print(row.line(names))


def hold_many(portal: RunningPortal, way: Way) -> None:
    """Print times for many WebSockets at once, and the portal's memory."""
    before = _memory(portal)
    start = time.perf_counter()
    with ExitStack() as held:
        websockets = []
        for number in range(HELD):
            websockets.append(WebSocket(way))
            held.callback(websockets[-1].close)
            websockets[-1].echo(b"first of %d" % number)
        opened = time.perf_counter() - start
        time.sleep(HOLD_SECONDS)
        idle = _memory(portal)
        start = time.perf_counter()
        for number, websocket in enumerate(websockets):
            websocket.echo(b"last of %d" % number)
        echoed = time.perf_counter() - start
        during = max(idle, _memory(portal))
    time.sleep(HOLD_SECONDS)
    after = _memory(portal)
    print(
        f"{HELD} WebSockets through the portal: opened in {opened:.1f} s, all echoed again in "
        f"{echoed:.2f} s"
    )
    print(
        f"the portal's resident memory: {before:.0f} MiB before, {during:.0f} with them, "
        f"{after:.0f} after; goal: under 150 MB"
    )


def _memory(portal: RunningPortal) -> float:
    """Resident memory of all the portal's processes, in MiB."""
    total = 0
    for pid in (portal.arbiter, portal.worker):
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(row.split()[1]) for row in rows if row.startswith("Rss:"))
    return total / 1024


def _stop(number: int, _: object) -> NoReturn:
    sys.exit(f"stopped by {signal.Signals(number).name}")  # the context managers stop all programs


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _stop)
    with tempfile.TemporaryDirectory() as directory, the_ways(Path(directory)) as (portal, ways):
        signal.alarm(LIMIT)
        measure(ways)
        hold_many(portal, ways[0])
        signal.alarm(0)


if __name__ == "__main__":
    main()
