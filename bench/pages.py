"""Home, form and sessions pages with 20 cards each, while 50 users' pages poll; and the cold start.

In one run on the devcluster. The times are the server's own times for a request, which gunicorn and
JupyterHub write to their logs. Fifty users have My Interactive Sessions open, with 18 completed and
2 queued sessions, and the page polls every three seconds. Meanwhile, the three pages are requested
in turn. After that, JupyterHub's home page is measured on an otherwise idle server
(`bench/hub.py`). `make bench` runs it, and asserts no goals.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hub import hub_times  # noqa: E402

from tests.conftest import Devcluster, RunningPortal  # noqa: E402
from tests.webuser import WebUser  # noqa: E402

USERS, SECONDS, POLL = 50, 60, 3.0
PAGES = ("/", "/apps/container_app", "/sessions")
STARTS = 5
LOG = "--access-logfile - --access-logformat 'asked %(m)s %(U)s %(D)s'"
CARDS = ROOT / "bench" / "cards.py"


def main() -> None:
    site = Devcluster()
    site.up()
    names = [f"user{number}" for number in range(1, USERS + 1)]
    with tempfile.TemporaryDirectory() as directory:
        config = {"OOD_PORTAL_CONFIG": str(site.state / "portal.yml"), "GUNICORN_CMD_ARGS": LOG}
        starts = [cold_start(RunningPortal(Path(directory), config)) for _ in range(STARTS)]
        print(f"cold start to first page     {spread(starts)}")
        site.host("alpha-login", "python3", "-c", CARDS.read_text(), *names)
        portal = RunningPortal(Path(directory), config)
        portal.start()
        try:
            many_users(portal, names)
        finally:
            portal.stop()
            clean(site, names)
        found = hub_times(Path(directory), SECONDS)
        if isinstance(found, str):
            print(f"JupyterHub's home page: not measured: {found}")
        else:
            print(f"JupyterHub's home page       {spread(found)}")


def cold_start(portal: RunningPortal) -> float:
    """Seconds from the start of the portal to the sign-in page."""
    answered = threading.Event()
    began = time.perf_counter()
    took = 0.0

    def ask() -> None:
        nonlocal took
        while not answered.is_set():
            try:
                with urlopen(f"{portal.url}/login", timeout=5) as page:
                    page.read()
                took = time.perf_counter() - began
                answered.set()
            except OSError:
                time.sleep(0.005)

    asking = threading.Thread(target=ask)
    asking.start()
    portal.start()
    asking.join()
    portal.stop()
    return took


def many_users(portal: RunningPortal, names: list[str]) -> None:
    users = [WebUser(portal, name) for name in names]
    for user in users:
        for page in PAGES:
            answer, text = user.request("GET", page)
            assert answer.status == 200, text
        assert text.count("<article") == 20, text.count("<article")
    portal.log.write_text("")  # the first requests open connections
    end = time.monotonic() + SECONDS
    threads = [
        threading.Thread(target=polls, args=(user, number * POLL / USERS, end))
        for number, user in enumerate(users)
    ]
    for thread in threads:
        thread.start()
    turn = 0
    while time.monotonic() < end:
        users[turn % USERS].request("GET", PAGES[turn % len(PAGES)])
        turn += 1
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    log = portal.log.read_text()
    for page in PAGES:
        print(f"{USERS} users, {page:20}  {spread(served(log, 'GET', page))}")
    print(f"{USERS} users, one poll             {spread(served(log, 'POST', '/sessions'))}")


def polls(user: WebUser, delay: float, end: float) -> None:
    """Request what an open sessions page requests."""
    time.sleep(delay)
    _, page = user.request("GET", "/sessions")
    while time.monotonic() < end:
        token = re.findall(r'name="csrf_token" value="([^"]+)"', page)[0]
        have = [("have", part) for part in re.findall(r'name="have" value="([^"]+)"', page)]
        headers = {"Content-Type": "application/x-www-form-urlencoded", "HX-Request": "true"}
        body = urlencode([("csrf_token", token), *have])
        answer, _ = user.request("POST", "/sessions", body, **headers)
        if answer.status == 200:
            _, page = user.request("GET", "/sessions")
        time.sleep(POLL)


def served(log: str, method: str, page: str) -> list[float]:
    """Seconds that the server took for each request."""
    found = re.findall(rf"(?m)^asked {method} {re.escape(page)} (\d+)$", log)
    return [int(microseconds) / 1e6 for microseconds in found]


def clean(site: Devcluster, names: Iterable[str]) -> None:
    for name in names:
        site.host("alpha-login", "scancel", "--user", name)
        site.host("alpha-login", "rm", "-rf", f"/home/{name}/ondemand")


def spread(values: list[float]) -> str:
    middle, high = statistics.median(values), max(values)
    p95 = sorted(values)[len(values) * 95 // 100]
    return (
        f"median {middle * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms, max {high * 1000:.0f} ms "
        f"({len(values)} times)"
    )


if __name__ == "__main__":
    main()
