"""Jobs that tell the truth, on the devcluster: every status and every outcome produced for real, on
a cluster with accounting and on one without, and shown right in the table, its details and JSON."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from ood.sessions.job_table import parent_id
from tests.busy import busy
from tests.conftest import Devcluster, RunningPortal, wait_until
from tests.researcher import Researcher, accessible, looks
from tests.webuser import WebUser

SLEEP = "sleep 300"
ALPHA, BETA = "alpha-login", "beta-login"
PARTITIONS = {"desktop": ALPHA, "gpu": ALPHA, "beta": BETA}  # cluster -> where it is submitted


class Slurm:
    """Slurm itself, as alice and as its administrator."""

    def __init__(self, devcluster: Devcluster) -> None:
        self.devcluster = devcluster

    def submits(self, cluster: str, *options: str, script: str = SLEEP, user: str = "alice") -> str:
        """Submit a job that no session owns; return its id."""
        partition = "work" if cluster == "beta" else cluster
        argv = ["sbatch", "--parsable", "-o", "/dev/null", "-p", partition, "--mem=64M", *options]
        command = f"{shlex.join(argv)} --wrap {shlex.quote(script)}"
        return self.devcluster.as_user(user, PARTITIONS[cluster], command).strip()

    def admin(self, cluster: str, *argv: str) -> str:
        return self.devcluster.host(PARTITIONS[cluster], *argv)

    def state(self, cluster: str, job: str) -> str:
        return self.admin(cluster, "squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()

    def waits_for(self, cluster: str, job: str, state: str, seconds: float = 30) -> None:
        wait_until(lambda: self.state(cluster, job) == state, seconds, f"{job} is not {state}")

    def fills(self, cluster: str) -> str:
        """Take all cores of a cluster but two."""
        job = self.submits(cluster, "-c", "2" if cluster == "beta" else "6")
        self.waits_for(cluster, job, "RUNNING")
        return job


@pytest.fixture
def slurm(devcluster: Devcluster) -> Iterator[Slurm]:
    def cancel_all() -> None:
        for host in (ALPHA, BETA):
            for user in ("alice", "bob"):
                devcluster.host(host, "scancel", "--user", user)

    cancel_all()  # what other tests left
    yield Slurm(devcluster)
    cancel_all()


class Viewer(WebUser):
    """Alice, looking at Active Jobs."""

    def jobs(self, query: str = "") -> dict[str, Any]:
        _, text = self.request("GET", f"/jobs{query}", Accept="application/json")
        return dict(json.loads(text))

    def row(self, cluster: str, job: str) -> dict[str, Any]:
        found = [
            row
            for row in self.jobs(f"?cluster={cluster}&text={parent_id(job)}")["jobs"]
            if row["id"] == job
        ]
        return found[0] if found else {"status": None, "outcome": None}

    def details(self, cluster: str, job: str) -> dict[str, Any]:
        _, text = self.request("GET", f"/jobs/{cluster}/{job}", Accept="application/json")
        return dict(json.loads(text))

    def sees(self, cluster: str, job: str, status: str, outcome: str | None = None) -> Any:
        """Wait until the table has it so; then the page and the details have to agree."""

        seen: dict[str, Any] = {}

        def so() -> bool:
            seen.update(self.row(cluster, job))
            return bool((seen["status"], seen["outcome"]) == (status, outcome))

        try:
            wait_until(so, 25)
        except AssertionError:
            pytest.fail(f"{job} on {cluster} is {seen} and not {status} {outcome}")
        _, page = self.request("GET", f"/jobs?cluster={cluster}")
        tag = re.search(rf'<tr [^>]*data-job-id="{re.escape(job)}"[^>]*>', page)
        assert tag is not None
        assert f'data-status="{status}"' in tag[0]
        assert (f'data-outcome="{outcome}"' in tag[0]) == bool(outcome)
        _, page = self.request("GET", f"/jobs/{cluster}/{job}")
        assert f'data-status="{status}"' in page
        found = self.details(cluster, job)
        assert (found["status"], found["outcome"]) == (status, outcome)
        return found

    def is_told(self, cluster: str, job: str, reason: str, seconds: float = 45) -> None:
        wait_until(lambda: self.details(cluster, job)["reason"] == reason, seconds, reason)

    def seconds_for(self, path: str) -> float:
        """How long a page takes."""
        began = time.monotonic()
        assert self.request("GET", path)[0].status == 200
        return time.monotonic() - began


@pytest.fixture(scope="module")
def alice(site: RunningPortal) -> Viewer:
    return Viewer(site, "alice")


@pytest.fixture(scope="module")
def at_their_limit(devcluster: Devcluster) -> dict[str, str]:
    """Jobs of carol’s that reach their time limit, a minute, while the tests of others run."""
    slurm = Slurm(devcluster)
    return {each: slurm.submits(each, "--time=1", user="carol") for each in ("desktop", "beta")}


CLUSTERS = pytest.mark.parametrize("cluster", ["desktop", "beta"])


# ---- Statuses


@CLUSTERS
def test_running_and_succeeded(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    script = "sleep 11; until [ -e may-end-$SLURM_JOB_ID ]; do sleep 0.2; done; rm may-end-*"
    job = slurm.submits(cluster, "-c", "2", "-J", "two cores", script=script)
    found = alice.sees(cluster, job, "running")
    assert found["name"] == "two cores"
    assert found["user"] == "alice"
    assert (found["cores"], found["memory_mib"], found["gpus"]) == (2, 64, 0)
    assert found["node_list"] == ("desktop01" if cluster == "desktop" else "beta-login")
    assert found["time_limit"] == 3600
    assert abs(found["submitted_at"] - time.time()) < 300
    assert found["output_location"] == "/home/alice"
    slurm.devcluster.as_user("alice", PARTITIONS[cluster], f"touch may-end-{job}")
    found = alice.sees(cluster, job, "completed", "succeeded")
    assert found["exit_code"] == 0
    assert found["ended_at"] >= found["started_at"] + 11


@CLUSTERS
def test_held_and_released(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    by_user = slurm.submits(cluster, "-H")
    by_admin = slurm.submits(cluster, "--begin=now+1hour")
    slurm.admin(cluster, "scontrol", "hold", by_admin)
    found = alice.sees(cluster, by_user, "held")
    assert "You held this job" in found["reason"]
    found = alice.sees(cluster, by_admin, "held")
    assert "An administrator held this job" in found["reason"]
    slurm.admin(cluster, "scontrol", "release", by_user)
    alice.sees(cluster, by_user, "running")


@CLUSTERS
def test_suspended(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    job = slurm.submits(cluster)
    slurm.waits_for(cluster, job, "RUNNING")
    slurm.admin(cluster, "scontrol", "suspend", job)
    alice.sees(cluster, job, "suspended")
    slurm.admin(cluster, "scontrol", "resume", job)
    alice.sees(cluster, job, "running")


@CLUSTERS
def test_queued_for_cores(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    slurm.fills(cluster)
    cores = "3" if cluster == "beta" else "4"
    first = slurm.submits(cluster, "-c", cores)
    second = slurm.submits(cluster, "-c", cores)
    alice.sees(cluster, first, "queued")
    alice.is_told(
        cluster,
        first,
        f"Waiting for other jobs to finish: {cores} cores needed, 2 free. It is next in the queue.",
    )
    wait_until(lambda: "1 job is ahead of it" in alice.details(cluster, second)["reason"], 25)
    wait_until(lambda: alice.details(cluster, first)["started_at"], 25, "no expected start")
    assert alice.details(cluster, first)["started_at"] > time.time() + 1800


@CLUSTERS
def test_queued_for_more_memory_than_there_is(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    """Refused when it is submitted so, by EnforcePartLimits, but not when it is made so later."""
    job = slurm.submits(cluster, "-H", "--mem=4G")
    slurm.admin(cluster, "scontrol", "update", f"JobId={job}", "MinMemoryNode=101376")
    slurm.admin(cluster, "scontrol", "release", job)
    alice.sees(cluster, job, "queued")
    told = (
        "The job requests more memory than any node of this partition has. "
        "Cancel the job and launch it again with less."
    )
    alice.is_told(cluster, job, told)


@CLUSTERS
def test_a_dependency_that_is_never_satisfied(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    first = slurm.submits(cluster)
    second = slurm.submits(cluster, f"--dependency=afterok:{first}")
    alice.sees(cluster, second, "queued")
    wait_until(lambda: "Waiting for another job" in alice.details(cluster, second)["reason"], 45)
    slurm.admin(cluster, "scancel", first)
    wait_until(lambda: "this job will never start" in alice.details(cluster, second)["reason"], 40)


@CLUSTERS
def test_requeued(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    job = slurm.submits(cluster, "--requeue")
    slurm.waits_for(cluster, job, "RUNNING")
    slurm.admin(cluster, "scontrol", "requeue", job)
    alice.sees(cluster, job, "queued")
    slurm.admin(cluster, "scontrol", "hold", job)
    alice.sees(cluster, job, "held")


@pytest.mark.usefixtures("at_their_limit")  # whose minute begins here, no free cores being counted
@CLUSTERS
def test_a_partition_that_is_down(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    partition = "PartitionName=" + ("desktop" if cluster == "desktop" else "work")
    slurm.admin(cluster, "scontrol", "update", partition, "State=DOWN")
    try:
        job = slurm.submits(cluster)
        alice.sees(cluster, job, "queued")
        told = "not starting jobs at the moment"
        wait_until(lambda: told in alice.details(cluster, job)["reason"], 45)
    finally:
        slurm.admin(cluster, "scontrol", "update", partition, "State=UP")
    alice.sees(cluster, job, "running")


# ---- Outcomes


@CLUSTERS
def test_failed(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    job = slurm.submits(cluster, script="exit 3")
    assert alice.sees(cluster, job, "completed", "failed")["exit_code"] == 3
    job = slurm.submits(cluster, script="kill -SEGV $$")
    found = alice.sees(cluster, job, "completed", "failed")
    assert (found["exit_code"], found["signal"]) == (None, 11)
    assert found["reason"] == "It was killed by signal 11 (SIGSEGV)."


@CLUSTERS
def test_cancelled(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    first, second, third = (slurm.submits(cluster) for _ in range(3))
    for job in (first, second, third):
        slurm.waits_for(cluster, job, "RUNNING")
    slurm.devcluster.as_user("alice", PARTITIONS[cluster], f"scancel {first}")
    slurm.admin(cluster, "scancel", second)
    assert alice.post(f"/jobs/{cluster}/{third}/cancel", {})[0] == 303
    told = cluster == "desktop"  # beta keeps no accounts
    for job, reason in [
        (first, "You cancelled this job."),
        (second, "An administrator cancelled this job."),
        (third, "You cancelled this job."),
    ]:
        alice.sees(cluster, job, "completed", "cancelled")
        if told:
            alice.is_told(cluster, job, reason)


@CLUSTERS
def test_out_of_memory(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    script = "python3 -c 'x = bytearray(300_000_000); import time; time.sleep(30)'"
    job = slurm.submits(cluster, script=script)
    node = "desktop01" if cluster == "desktop" else BETA
    limited = "Space=yes" in slurm.devcluster.host(node, "cat", "/etc/slurm/cgroup.conf")
    # Where the machine has no cgroups to give, Slurm itself calls it cancelled.
    alice.sees(cluster, job, "completed", "out-of-memory" if limited else "cancelled")


def test_node_failure(slurm: Slurm, alice: Viewer) -> None:
    job = slurm.submits("gpu")
    slurm.waits_for("gpu", job, "RUNNING")
    try:
        slurm.admin("gpu", "scontrol", "update", "NodeName=gpu01", "State=DOWN", "Reason=test")
        found = alice.sees("gpu", job, "completed", "failed")
        assert found["reason"] == "Node gpu01 failed. Relaunch the job."
        # It is up again at once, as it answers.
        slurm.admin("gpu", "scontrol", "update", "NodeName=gpu01", "State=DRAIN", "Reason=test")
        waiting = slurm.submits("gpu")
        alice.sees("gpu", waiting, "queued")
        told = "down|No node of this partition accepts jobs"
        wait_until(lambda: re.search(told, alice.details("gpu", waiting)["reason"]), 45)
    finally:
        slurm.admin("gpu", "scontrol", "update", "NodeName=gpu01", "State=RESUME")
    alice.sees("gpu", waiting, "running")


# ---- Arrays, other people's jobs, odd names


@CLUSTERS
def test_arrays(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    array = slurm.submits(
        cluster,
        "--array=1-9%2",
        script="[ $SLURM_ARRAY_TASK_ID = 1 ] && exit 4; sleep 300",
    )
    alice.sees(cluster, f"{array}_1", "completed", "failed")
    alice.sees(cluster, f"{array}_2", "running")

    def waiting_tasks() -> list[str]:
        rows = alice.jobs(f"?cluster={cluster}&text={array}")["jobs"]
        return [row["id"] for row in rows if "[" in row["id"]]

    wait_until(waiting_tasks, 20)
    (waiting,) = waiting_tasks()
    assert re.fullmatch(rf"{array}_\[\d-9%2\]", waiting)
    alice.sees(cluster, waiting, "queued")
    told = "already running its maximum number of tasks"
    wait_until(lambda: told in alice.details(cluster, waiting)["reason"], 45)
    assert alice.post(f"/jobs/{cluster}/{waiting}/cancel", {})[0] == 303
    pending = f"squeue -h -t PENDING -j {array} -o %i"
    wait_until(lambda: slurm.admin(cluster, *pending.split()) == "", 10)
    alice.sees(cluster, f"{array}_2", "running")


def test_a_heterogeneous_job(slurm: Slurm, alice: Viewer) -> None:
    command = (
        "sbatch --parsable -o /dev/null -p desktop --mem=64M : -p gpu --mem=64M --wrap 'sleep 300'"
    )
    job = slurm.devcluster.as_user("alice", ALPHA, command).strip()
    alice.sees("desktop", f"{job}+0", "running")
    alice.sees("gpu", f"{job}+1", "running")
    assert alice.post(f"/jobs/desktop/{job}+0/cancel", {})[0] == 303
    alice.sees("desktop", f"{job}+0", "completed", "cancelled")


def test_jobs_of_others(slurm: Slurm, alice: Viewer) -> None:
    job = slurm.submits("desktop", user="bob")
    slurm.waits_for("desktop", job, "RUNNING")
    assert alice.row("desktop", job)["status"] is None
    everybodys = alice.jobs("?whose=all&text=bob")["jobs"]
    assert [row["status"] for row in everybodys if row["id"] == job] == ["running"]
    _, page = alice.request("GET", "/jobs?whose=all&text=bob")
    assert job in page
    assert f"/jobs/desktop/{job}/cancel" not in page
    status, page = alice.post(f"/jobs/desktop/{job}/cancel", {})
    assert status == 502
    assert f"refused to cancel job {job}" in page
    assert slurm.state("desktop", job) == "RUNNING"


NAMES = (
    "two  words",
    "a\nb",
    "a\x1fb\x1ec",
    'it\'s "quoted" $(id)',
    "<script>alert(1)</script>",
    "é🚀",
    "-n",
)


@CLUSTERS
def test_odd_names(slurm: Slurm, alice: Viewer, cluster: str) -> None:
    jobs = {slurm.submits(cluster, f"--job-name={name}", script="true"): name for name in NAMES}
    for job, name in jobs.items():
        assert alice.sees(cluster, job, "completed", "succeeded")["name"] == name
    _, page = alice.request("GET", f"/jobs?cluster={cluster}")
    assert "<script>alert" not in page


def test_a_name_that_is_not_utf8(slurm: Slurm, alice: Viewer) -> None:
    command = (
        r"sbatch --parsable -o /dev/null -p desktop --mem=64M -J $(printf 'caf\351') --wrap true"
    )
    job = slurm.devcluster.as_user("alice", ALPHA, command).strip()
    assert (
        alice.sees("desktop", job, "completed", "succeeded")["name"]
        == "caf\N{REPLACEMENT CHARACTER}"
    )


# ---- A scheduler that does not answer


@pytest.fixture
def frozen_beta(devcluster: Devcluster) -> Iterator[Callable[[str], None]]:
    """Beta's slurmctld, to be sent signals; it runs again afterwards."""

    def signal(name: str) -> None:
        devcluster.host(BETA, "pkill", f"-{name}", "-x", "slurmctld")

    yield signal
    devcluster.host(BETA, "pkill", "-CONT", "-x", "slurmctld", check=False)
    devcluster.up()


@pytest.mark.parametrize("how", ["STOP", "KILL"])
def test_a_silent_cluster_holds_up_nobody(
    slurm: Slurm,
    start_site: Callable[..., RunningPortal],
    frozen_beta: Callable[[str], None],
    how: str,
) -> None:
    alice = Viewer(start_site(), "alice")
    assert alice.launch(cluster="desktop", container_arguments="-d 900") == 303
    assert alice.launch(cluster="beta", container_arguments="-d 900") == 303
    other = slurm.submits("beta")
    alice.sees("beta", other, "running")

    def statuses() -> dict[str, str]:
        """By cluster, of the newest session there."""
        return {each["cluster"]: each["status"] for each in reversed(alice.sessions())}

    wait_until(lambda: statuses() == {"desktop": "running", "beta": "running"}, 60)
    frozen_beta(how)
    began = time.monotonic()
    wait_until(lambda: statuses()["beta"] == "undetermined", 15)
    assert time.monotonic() - began < 10 * busy()
    assert statuses()["desktop"] == "running"
    assert alice.row("beta", other)["status"] == "undetermined"
    beta = next(session for session in alice.sessions() if session["cluster"] == "beta")
    assert "is not responding right now" in beta["reason"]
    _, page = alice.request("GET", "/jobs")
    assert "Beta: The scheduler is not responding right now." in page
    for path in ["/jobs", "/sessions", "/apps/container_app", "/jobs?whose=all"] * 3:
        assert alice.seconds_for(path) < 5 * busy()
    # The second time round everybody knows that it is silent.
    assert max(alice.seconds_for(path) for path in ["/jobs", "/sessions"] * 5) < 2 * busy()
    if how == "STOP":
        frozen_beta("CONT")
    else:
        slurm.devcluster.up()
    began = time.monotonic()
    wait_until(lambda: statuses() == {"desktop": "running", "beta": "running"}, 30)
    alice.sees("beta", other, "running")


def test_an_answer_after_twenty_seconds_is_none(
    site_config: Path, start_site: Callable[..., RunningPortal], devcluster: Devcluster
) -> None:
    """Slow, and then garbled."""
    clusters = site_config / "slow.d"
    shutil.copytree(site_config / "clusters.d", clusters, dirs_exist_ok=True)
    slow = yaml.safe_load((clusters / "beta.yml").read_text())
    slow["v2"]["job"]["bin_overrides"] = {"squeue": "/tmp/slow-squeue"}
    (clusters / "beta.yml").write_text(yaml.safe_dump(slow))

    try:
        write = "printf '%s\\n' '#!/bin/sh' \"$1\" > /tmp/slow-squeue; chmod 755 /tmp/slow-squeue"
        devcluster.host(BETA, "sh", "-c", write, "sh", 'exec /usr/bin/squeue "$@"')
        alice = Viewer(start_site(clusters=str(clusters)), "alice")
        assert alice.launch(cluster="beta", container_arguments="-d 900") == 303
        wait_until(lambda: alice.sessions()[0]["status"] == "running", 60)
        for answer in (
            'sleep 20; exec /usr/bin/squeue "$@"',
            "echo 12",
            "printf '12\\037hello\\036'",
            "kill -9 $$",
        ):
            devcluster.host(BETA, "sh", "-c", write, "sh", answer)
            wait_until(lambda: alice.sessions()[0]["status"] == "undetermined", 15, answer)
            assert max(alice.seconds_for("/sessions") for _ in range(5)) < 5 * busy()
        devcluster.host(BETA, "sh", "-c", write, "sh", 'exec /usr/bin/squeue "$@"')
        wait_until(lambda: alice.sessions()[0]["status"] == "running", 20)
        # An empty answer: no jobs, as far as this goes, and no proof of anything.
        devcluster.host(BETA, "sh", "-c", write, "sh", "true")
        wait_until(lambda: alice.sessions()[0]["status"] == "undetermined", 15)
    finally:
        devcluster.host(BETA, "rm", "-f", "/tmp/slow-squeue")
        devcluster.host(BETA, "scancel", "--user", "alice")


def test_timed_out(site: RunningPortal, slurm: Slurm, at_their_limit: dict[str, str]) -> None:
    carol = Viewer(site, "carol")
    for cluster, job in at_their_limit.items():
        slurm.waits_for(cluster, job, "TIMEOUT", 150)
        found = carol.sees(cluster, job, "completed", "timed-out")
        assert found["time_limit"] == 60


# ---- In a browser


@pytest.fixture
def researcher(page: Page, site: RunningPortal) -> Iterator[Researcher]:
    """Alice at a browser."""
    researcher = Researcher(page, site)
    researcher.signs_in("alice")
    yield researcher
    assert researcher.complaints == []


@pytest.mark.usefixtures("slurm")
def test_from_the_home_page_to_a_job_and_back(researcher: Researcher) -> None:
    page = researcher.page
    card = researcher.launches(cluster="beta", container_arguments="-d 600")
    researcher.watches(card, "running")
    job = re.sub(r"\D", "", card.get_by_role("heading", level=2).inner_text())
    page.get_by_role("link", name="Devcluster").click()
    page.get_by_role("main").get_by_role("link", name="Active Jobs").click()
    row = page.locator(f"tr[data-cluster=beta][data-job-id='{job}']")
    expect(row).to_have_attribute("data-status", "running")
    row.get_by_role("link", name=f"Details of job {job}").click()
    details = page.locator(".panel")
    for fact in ("Run Container", "alice", "work", "RUNNING", "beta-login", "2 GiB", "1 hour"):
        expect(details).to_contain_text(fact)
    expect(details).to_contain_text("/ondemand/data/sys/dashboard/batch_connect/sys/container_app")
    # Its files are where it runs, and nowhere else.
    for lead in ("Open in File Manager", "the card"):
        if lead == "the card":
            details.get_by_role("link", name="Run Container").click()
            card_id = card.get_attribute("data-session-id") or ""
            page.get_by_role("link", name=card_id, exact=True).click()
        else:
            details.get_by_role("link", name=lead).click()
        expect(page.locator("tr[data-name='started.json']")).to_be_visible()
        assert "/files/beta/home/alice/ondemand/" in page.url
        page.go_back()
    page.get_by_role("link", name=f"Details of job {job}").click()
    details.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status")).to_contain_text(f"Job {job} is being cancelled")
    # The page finds out by itself.
    expect(row).to_have_attribute("data-outcome", "cancelled")
    expect(row).to_contain_text("You cancelled this job.")
    expect(row.get_by_role("button")).to_have_count(0)


def test_the_table_keeps_its_view_and_the_focus(researcher: Researcher, slurm: Slurm) -> None:
    page = researcher.page
    mine = f"mine at {time.time_ns()}"
    running = slurm.submits("desktop", "-J", f"first of {mine}")
    held = slurm.submits("desktop", "-J", f"second of {mine}", "-H")
    slurm.waits_for("desktop", running, "RUNNING")
    page.goto(f"{researcher.portal.url}/jobs")
    page.get_by_label("Filter").fill(mine)
    page.get_by_label("Status").select_option("held")
    page.get_by_role("button", name="Apply").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("You held this job")
    page.get_by_label("Status").select_option("")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("link", name="Name", exact=True).click()
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("first of")
    page.get_by_role("link", name="Name").click()
    expect(rows.first).to_contain_text("second of")
    expect(page.get_by_label("Filter")).to_have_value(mine)
    details = page.get_by_role("link", name=f"Details of job {running}")
    details.focus()
    slurm.admin("desktop", "scontrol", "release", held)
    expect(rows.first).to_have_attribute("data-status", "running")
    expect(details).to_be_focused()
    button = rows.last.get_by_role("button", name=f"Delete Job {running}")
    button.focus()
    page.keyboard.press("Enter")
    expect(rows.last).to_have_attribute("data-outcome", "cancelled")
    assert slurm.state("desktop", held) == "RUNNING"


def test_pages_are_accessible(page: Page, site: RunningPortal, slurm: Slurm) -> None:
    job = slurm.submits("desktop", "-H", f"--job-name={'long-' * 40}")
    alice = Researcher(page, site)
    alice.signs_in("alice")
    expect(page.get_by_role("heading", name="Home")).to_be_visible()
    for look in looks(page):
        for name, path in {
            "jobs": "/jobs",
            "jobs-none": "/jobs?text=there-is-none",
            "job": f"/jobs/desktop/{job}",
        }.items():
            page.goto(site.url + path)
            if name == "jobs":
                # By itself, when the page polls.
                expect(page.locator(f"tr[data-job-id='{job}']")).to_be_visible()
            accessible(page, f"{name}-{look}")


def test_without_javascript(browser: Browser, site: RunningPortal, slurm: Slurm) -> None:
    job = slurm.submits("desktop")
    with browser.new_context(java_script_enabled=False) as own:
        page = own.new_page()
        Researcher(page, site).signs_in("alice")
        button = page.get_by_role("button", name=f"Delete Job {job}")

        def is_there() -> bool:
            page.goto(f"{site.url}/jobs?status=running")
            return button.count() == 1

        wait_until(is_there, 20)
        button.click()
        expect(page.get_by_role("status")).to_contain_text(f"Job {job} is being cancelled")
    slurm.waits_for("desktop", job, "CANCELLED")
