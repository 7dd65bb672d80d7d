"""Active Jobs with many jobs, and with many users, in one run on the devcluster.

Many jobs: `squeue` alone (on the cluster's log-in host, as the user), alternately with the portal's
page of the same 10,000 jobs while the portal has cached nothing. Many users: fifty users have the
page open for a minute; slurmctld counts the calls.
`make bench` runs it, and asserts no goals. Do not run it twice within ten minutes: slurmctld
remembers ended jobs for five minutes, and holds at most 20,000 jobs.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.conftest import Devcluster, RunningPortal  # noqa: E402
from tests.webuser import WebUser  # noqa: E402

JOBS, OWNER = 10_000, "user1"
ARRAYS, TASKS = 10, 1001
ROUNDS = 5
USERS, SECONDS, POLL = 50, 60, 10.0
SQUEUE = "squeue --states=all --user $USER"


def main() -> None:
    site = Devcluster()
    site.up()
    with tempfile.TemporaryDirectory() as directory:
        config = {"OOD_PORTAL_CONFIG": str(site.state / "portal.yml")}
        portal = RunningPortal(Path(directory), config)
        portal.start()
        try:
            many_users(site, portal)
            many_jobs(site, portal)
        finally:
            portal.stop()
            site.host("beta-login", "scancel", "--user", OWNER)


def many_jobs(site: Devcluster, portal: RunningPortal) -> None:
    submit(site)
    user = WebUser(portal, OWNER)
    user.request("GET", "/jobs?cluster=beta")  # opens the connections
    alone, first, again = [], [], []
    for _ in range(ROUNDS):
        time.sleep(20)  # until the cache has expired
        start = time.perf_counter()
        listed = site.host("beta-login", "setpriv", *AS_OWNER, "sh", "-c", SQUEUE)
        alone.append(time.perf_counter() - start)
        assert listed.count("\n") > JOBS
        first.append(page(user, "/jobs?cluster=beta"))
        again.append(page(user, "/jobs?cluster=beta&page=100"))
    ratios = [ours / theirs for ours, theirs in zip(first, alone, strict=True)]
    print(f"{JOBS} jobs, squeue alone    {spread(alone)}")
    print(f"{JOBS} jobs, first page      {spread(first)}")
    print(f"{JOBS} jobs, another page    {spread(again)}")
    print(f"ratio, per pair              median {statistics.median(ratios):.2f}")


AS_OWNER = ("--reuid", OWNER, "--regid", OWNER, "--clear-groups", "env", f"USER={OWNER}")


def submit(site: Devcluster) -> None:
    """Submit 10,000 held jobs: tasks of arrays, changed one by one, so that squeue lists each."""
    array = f"sbatch --parsable -H --mem=8M -o /dev/null --array=0-{TASKS - 1} --wrap true"
    for _ in range(ARRAYS):
        number = site.as_user(OWNER, "beta-login", array).strip()
        tasks = f"JobId={number}_[0-{TASKS - 2}]"
        site.host("beta-login", "scontrol", "update", tasks, "Comment=bench")


def page(user: WebUser, path: str) -> float:
    start = time.perf_counter()
    answer, text = user.request("GET", path)
    took = time.perf_counter() - start
    assert answer.status == 200
    assert text.count("data-job-id=") == 50
    return took


def many_users(site: Devcluster, portal: RunningPortal) -> None:
    names = [f"user{number}" for number in range(1, USERS + 1)]
    users = [WebUser(portal, name) for name in names]
    times: list[float] = []

    def polls(user: WebUser, delay: float) -> None:
        time.sleep(delay)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            began = time.perf_counter()
            answer, _ = user.request("GET", "/jobs/changes")
            times.append(time.perf_counter() - began)
            assert answer.status in (200, 204)
            time.sleep(max(0.0, POLL - times[-1]))

    for user in users:
        user.request("GET", "/jobs")
    before = {host: calls(site, host) for host in ("alpha-login", "beta-login")}
    threads = [
        threading.Thread(target=polls, args=(user, number * POLL / USERS))
        for number, user in enumerate(users)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    minutes = (SECONDS + POLL) / 60
    for host, count in before.items():
        print(f"{USERS} users: {(calls(site, host) - count) / minutes:.0f} calls/min to {host}")
    print(f"{USERS} users: page {spread(times)}, p95 {percentile(times, 95) * 1000:.0f} ms")


def calls(site: Devcluster, host: str) -> int:
    """The number of queries about jobs since slurmctld started."""
    told = site.host(host, "sdiag")
    found = re.findall(r"REQUEST_JOB_(?:USER_)?INFO\w* +\( *\d+\) +count: *(\d+)", told)
    return sum(map(int, found))


def percentile(values: list[float], percent: int) -> float:
    return sorted(values)[len(values) * percent // 100]


def spread(values: list[float]) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"min {low * 1000:.0f} ms, median {middle * 1000:.0f} ms, max {high * 1000:.0f} ms"


if __name__ == "__main__":
    main()
