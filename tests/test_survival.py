"""What the portal, its connections, Slurm and disks may do to a researcher's work: nothing."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import Devcluster, RunningPortal, wait_until
from tests.researcher import Researcher
from tests.webuser import WebUser


@pytest.fixture
def own_site(site_config: Path, tmp_path: Path) -> Iterator[RunningPortal]:
    """A portal for the devcluster that a test may kill and reconfigure."""
    shutil.copytree(site_config, tmp_path / "site")
    portal = RunningPortal(tmp_path, {"OOD_PORTAL_CONFIG": str(tmp_path / "site/portal.yml")})
    portal.start()
    yield portal
    portal.stop()


@pytest.fixture(autouse=True)
def nothing_left(devcluster: Devcluster) -> Iterator[None]:
    yield
    devcluster.as_user("alice", "alpha-login", "scancel -u alice")


def test_portal_killed_while_a_job_runs(page: Page, own_site: RunningPortal) -> None:
    alice = Researcher(page, own_site)
    alice.signs_in("alice")
    card = alice.launches(cluster="desktop", container_arguments="-d 25 -n Survivor")
    alice.watches(card, "running")
    own_site.kill()
    expect(page.locator("#stale")).to_be_visible()
    own_site.start()
    alice.signs_in("alice")
    page.goto(f"{own_site.url}/sessions")
    alice.watches(card, "completed")
    assert card.get_attribute("data-outcome") == "succeeded"
    assert "Goodbye Survivor!" in alice.reads_the_log(card)


def test_portal_killed_at_any_moment_of_a_launch(
    own_site: RunningPortal, devcluster: Devcluster
) -> None:
    before = _jobs(devcluster)
    for delay in (0.01, 0.03, 0.05, 0.06, 0.07, 0.08, 0.1, 0.13, 0.2):
        alice = WebUser(own_site, "alice")
        alice.sessions()  # connections are open, as in use
        token = alice.csrf_token("/apps/container_app")
        launching = threading.Thread(target=_launch_into_the_void, args=(alice, token))
        launching.start()
        time.sleep(delay)
        own_site.kill()
        launching.join()
        own_site.start()
    time.sleep(6)  # an sbatch that was on its way has arrived, and the monitor looks again
    alice = WebUser(own_site, "alice")
    launched = {job: id for job, id in _jobs(devcluster).items() if job not in before}
    assert launched

    def all_are_known() -> bool:
        known = {session["id"]: session["job_id"] for session in alice.sessions()}
        return all(known.get(session_id) == job_id for job_id, session_id in launched.items())

    wait_until(all_are_known)


def _jobs(devcluster: Devcluster) -> dict[str, str]:
    """Session ids by job id, of all jobs that Slurm remembers."""
    listed = devcluster.as_user("alice", "alpha-login", "squeue -h -u alice -t all -o '%i %k'")
    return dict(re.findall(r"(\d+) ood-session:(\S+)", listed))


def _launch_into_the_void(alice: WebUser, token: str) -> None:
    try:
        alice.launch(token, container_arguments="-d 60")
    except (OSError, HTTPException):  # the portal died under it: that is the test
        pass


def test_scheduler_is_asked_once_in_five_seconds(
    browser: Browser, own_site: RunningPortal, tmp_path: Path, devcluster: Devcluster
) -> None:
    """Twenty cards in five tabs, with a squeue that writes down when it is called."""
    counter = "/home/alice/squeue-calls"
    script = f'#!/bin/sh\necho "$(date +%s.%N) $*" >> {counter}\nexec /usr/bin/squeue "$@"\n'
    devcluster.as_user("alice", "alpha-login", f"rm -f {counter}; cat > squeue <<'X'\n{script}X\n")
    devcluster.as_user("alice", "alpha-login", "chmod +x squeue")
    cluster = tmp_path / "site/clusters.d/desktop.yml"
    override = "adapter: slurm\n    bin_overrides: {squeue: /home/alice/squeue}"
    cluster.write_text(cluster.read_text().replace("adapter: slurm", override))
    own_site.stop()
    own_site.start()
    user = WebUser(own_site, "alice")
    token = user.csrf_token("/apps/container_app")
    for _ in range(20):
        assert user.launch(token, container_arguments="-d 90") == 303
    # About her jobs; and, as some of them wait, about their place in the queue.
    questions = (("--user", 3, 5), ("--states=PENDING", 1, 15))

    def times(asked: str) -> list[float]:
        calls = devcluster.as_user("alice", "alpha-login", f"cat -v {counter}").splitlines()
        return [float(call.split()[0]) for call in calls if asked in call]

    def is_asked_enough() -> bool:
        """What takes long is asked more seldom."""
        return all(
            sum(moment >= start for moment in times(asked)) >= least
            for asked, least, _ in questions
        )

    with browser.new_context() as context:
        tabs = [Researcher(context.new_page(), own_site) for _ in range(5)]
        tabs[0].signs_in("alice")
        for tab in tabs:
            assert tab.counts_the_cards() >= 20
        start = time.time()
        tabs[0].page.wait_for_timeout(20_000)
        tabs[0].sees(is_asked_enough)
        end = time.time()
        for tab in tabs:  # all five have followed
            expect(tab.page.locator("article[data-status=running]")).not_to_have_count(0)
    for asked, least, seconds in questions:
        found = times(asked)
        while_open = [moment for moment in found if start <= moment <= end]
        assert least <= len(while_open) <= (end - start) / seconds + 1, found
        # The command itself may start a moment late.
        assert min(b - a for a, b in pairwise(found)) > 0.7 * seconds, found


def test_a_page_of_very_many_cards_still_polls(
    page: Page, own_site: RunningPortal, devcluster: Devcluster
) -> None:
    """What it shows no longer fits into an address."""
    db = "ondemand/data/sys/dashboard/batch_connect/db"
    devcluster.as_user("carol", "portal-host", f"mkdir -p {db}")
    record = (
        '{"id": "%s", "cluster_id": "desktop", "job_id": "1", "created_at": 1900000000, '
        '"token": "sys/container_app", "title": "Run Container", "script_type": "basic", '
        '"cache_completed": true, "completed_at": 1900000001}'
    )
    ids = "seq -f 00000000-0000-4000-8000-%012g 300"
    make = f"cd {db}; for id in $({ids}); do printf '{record}' $id > $id; done"
    devcluster.as_user("carol", "portal-host", make)
    try:
        carol = Researcher(page, own_site)
        carol.signs_in("carol")
        assert carol.counts_the_cards() >= 300
        with page.expect_response(lambda answer: answer.request.method == "POST") as poll:
            pass
        assert poll.value.status in (200, 204)
    finally:
        devcluster.as_user("carol", "portal-host", f"cd {db}; rm $({ids})")


def test_dropped_connections_are_opened_again(
    page: Page, own_site: RunningPortal, devcluster: Devcluster
) -> None:
    alice = Researcher(page, own_site)
    alice.signs_in("alice")
    card = alice.launches(cluster="desktop", container_arguments="-d 25")
    for host in ("portal-host", "alpha-login"):
        devcluster.host(host, "pkill", "-u", "alice", "sshd")
    alice.watches(card, "completed")
    assert card.get_attribute("data-outcome") == "succeeded"


def test_silent_slurm_is_undetermined_and_recovers(
    page: Page, own_site: RunningPortal, devcluster: Devcluster
) -> None:
    alice = Researcher(page, own_site)
    alice.signs_in("alice")
    card = alice.launches(cluster="desktop", container_arguments="-d 900")
    alice.watches(card, "running")
    devcluster.host("alpha-login", "pkill", "slurmctld")
    try:
        alice.watches(card, "undetermined", 40)
        expect(card.locator(".message")).to_contain_text("is not responding right now")
    finally:
        wait_until(
            lambda: devcluster.host("alpha-login", "pgrep", "slurmctld", check=False) == "", 20
        )
        devcluster.up()
    alice.watches(card, "running", 60)
    card.get_by_role("button", name="Cancel").click()
    alice.watches(card, "completed")
    assert card.get_attribute("data-outcome") == "cancelled"


def test_full_disk_is_said_and_nothing_typed_is_lost(
    page: Page, own_site: RunningPortal, devcluster: Devcluster
) -> None:
    carol = Researcher(page, own_site)
    carol.signs_in("carol")
    before = carol.counts_the_cards()
    carol.opens_run_container()
    devcluster.as_user("carol", "portal-host", "mkdir -p ondemand")
    mount = "mount -t tmpfs -o size=16k,mode=700,uid=$(id -u carol) none /home/carol/ondemand"
    devcluster.host("portal-host", "sh", "-c", mount)
    try:
        carol.fills_in(cluster="desktop", environment="X=kept")
        carol.presses_launch()
        notice = page.get_by_role("alert").filter(has_text="Could not write the job files")
        expect(notice).to_contain_text("or you may have used up your quota")
        expect(page.locator("[name=environment]")).to_have_value("X=kept")
    finally:
        devcluster.host("portal-host", "umount", "-l", "/home/carol/ondemand")
    assert carol.counts_the_cards() == before
