"""File transfers with the File Manager, compared with `scp` on the same path, and its largest page.

Measured alternately, in one run on the devcluster:
- 1 GiB to and from the portal host, as a browser transfers it, and with scp and the user's key;
- 10,000 small files, and 1 GiB, from the portal host to beta with the portal, and with `scp -r` on
  the portal host itself, which has a shorter path.
Also measured: the page of a directory with 65,000 files.
`make bench` runs it, and asserts no goals.
"""

from __future__ import annotations

import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.conftest import Devcluster, RunningPortal  # noqa: E402
from tests.webuser import WebUser  # noqa: E402

ROUNDS = 3
SIZE = 1 << 30
PART = 64 << 20
MANY, SMALL = 65_000, 10_000
HOME = "/home/alice/bench"
KEY = f"{HOME}/key"
PORTAL_HOST, BETA = "10.78.0.10", "10.78.0.21"


def main() -> None:
    site = Devcluster()
    site.up()
    with tempfile.TemporaryDirectory() as directory:
        config = {"OOD_PORTAL_CONFIG": str(site.state / "portal.yml")}
        portal = RunningPortal(Path(directory), config)
        portal.start()
        try:
            prepare(site)
            alice = WebUser(portal, "alice")
            screen(alice)
            up_and_down(site, alice, Path(directory))
            between(site, alice, "small", f"{SMALL} small files to beta")
            between(site, alice, "big", "1 GiB to beta")
            peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{portal.worker}/status").read_text())
            assert peak
            print(f"peak memory of the worker: {int(peak[1]) / 1000:.0f} MB")
        finally:
            portal.stop()
            for host in ("portal-host", "beta-login"):
                site.host(host, "rm", "-rf", HOME)


def prepare(site: Devcluster) -> None:
    key = (site.state / "keys/alice").read_text()
    site.as_user("alice", "beta-login", "mkdir -p bench")
    site.as_user(
        "alice",
        "portal-host",
        f"mkdir -p {HOME}/many {HOME}/small {HOME}/big && cd {HOME} && umask 077 &&"
        f" printf %s '{key}' > key && head -c {SIZE} /dev/urandom > big/file &&"
        f" (cd many && seq -f file-%06g.txt {MANY} | xargs touch) &&"
        f" cd small && seq {SMALL} | split -l 1 -a 4 - s",
    )


def screen(alice: WebUser) -> None:
    alice.request("GET", "/files/portal/home/alice")  # opens the connection
    took = [timed(lambda: page(alice)) for _ in range(ROUNDS + 2)]
    print(f"{MANY} files, first screen   {spread(took, 's')}")


def page(alice: WebUser) -> None:
    answer, text = alice.request("GET", f"/files/portal{HOME}/many")
    assert answer.status == 200
    assert text.count("data-name=") == 500


def up_and_down(site: Devcluster, alice: WebUser, directory: Path) -> None:
    own = directory / "file"
    scp = [
        *("scp", "-q", "-F", "none", "-i", str(site.state / "keys/alice")),
        *("-o", f"UserKnownHostsFile={site.state / 'known_hosts'}"),
    ]
    there = f"alice@{PORTAL_HOST}:{HOME}"
    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "1 GiB down": (
            lambda: download(alice, own),
            lambda: subprocess.run([*scp, f"{there}/big/file", own], check=True),
        ),
        "1 GiB up": (
            lambda: upload(alice, own),
            lambda: subprocess.run([*scp, own, f"{there}/by-scp"], check=True),
        ),
    }
    for name, (portals, scps) in ways.items():
        pairs = [(timed(portals), timed(scps)) for _ in range(ROUNDS)]
        report(name, pairs)
    sums = site.as_user("alice", "portal-host", f"cd {HOME}; sha256sum < big/file; sha256sum < up")
    assert len({*sums.split()}) == 2, sums


def download(alice: WebUser, path: Path) -> None:
    with path.open("wb") as file:
        for piece in alice.downloads(f"/files/portal{HOME}/big/file?download"):
            file.write(piece)


def upload(alice: WebUser, path: Path) -> None:
    """Upload a file in parts, like static/js/uploads.js."""
    size = path.stat().st_size
    token = alice.csrf_token("/apps/container_app")
    with path.open("rb") as file:
        for offset in range(0, size, PART):
            query = {"name": "up", "size": size, "modified": 0, "offset": offset}
            address = f"/uploads/portal{HOME}?{urlencode({**query, 'if_there': 'replace'})}"
            length = min(PART, size - offset)
            connection = http.client.HTTPConnection("127.0.0.1", alice.portal.port, timeout=60)
            connection.request(
                "PUT",
                address,
                pieces(file.read, length),
                {
                    "Cookie": alice.cookie,
                    "X-CSRFToken": token,
                    "Content-Length": str(length),
                    "Content-Type": "application/octet-stream",
                },
            )
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            connection.close()


def pieces(read: Callable[[int], bytes], left: int) -> Iterator[bytes]:
    while left and (data := read(min(left, 1 << 20))):
        left -= len(data)
        yield data


def between(site: Devcluster, alice: WebUser, name: str, title: str) -> None:
    scp = (
        f"scp -q -r -F none -i {KEY} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        f" -o LogLevel=ERROR {HOME}/{name} {BETA}:bench/by-scp"
    )
    pairs = []
    for _ in range(ROUNDS):
        portals = timed(lambda: copy(alice, name))
        scps = timed(lambda: site.as_user("alice", "portal-host", scp))
        pairs.append((portals, scps))
        counted = site.as_user("alice", "beta-login", f"cd bench; find {name} | wc -l")
        assert int(counted) == (SMALL + 1 if name == "small" else 2)
        site.as_user("alice", "beta-login", f"cd bench && rm -rf {name} by-scp")
    report(title, pairs)


def copy(alice: WebUser, name: str) -> None:
    """Copy a directory from the portal host to beta, and wait until the copy is complete."""
    fields = {"name": name, "action": "copy", "to_host": "beta", "at_host": "portal"}
    fields |= {"at": "", "to": HOME, "go": "1"}
    status, text = alice.post(f"/copies/portal{HOME}", fields, "/apps/container_app")
    assert status == 303, text
    while True:
        _, text = alice.request("GET", "/transfers")
        found = re.search(r'data-transfer-id="(\w+)" data-state="(\w+)"', text)
        assert found, text
        if found[2] in ("done", "failed", "incomplete"):
            break
        time.sleep(0.1)
    assert found[2] == "done", text
    alice.post(f"/transfers/{found[1]}/dismiss", {}, "/apps/container_app")


def timed(work: Callable[[], object]) -> float:
    os.sync()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(name: str, pairs: list[tuple[float, float]]) -> None:
    """Print the times of the portal and of scp, and the ratio of their speeds."""
    ratios = [theirs / ours for ours, theirs in pairs]
    print(f"{name}: portal {spread([ours for ours, _ in pairs], 's')}")
    print(f"{name}: scp    {spread([theirs for _, theirs in pairs], 's')}")
    print(f"{name}: speed relative to scp, per pair {spread(ratios, '')}", flush=True)


def spread(values: list[float], unit: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"min {low:.2f}{unit}, median {middle:.2f}{unit}, max {high:.2f}{unit}"


if __name__ == "__main__":
    main()
