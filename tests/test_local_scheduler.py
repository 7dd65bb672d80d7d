"""The local scheduler: real processes, in a home directory of the test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ood.config import ROOT
from ood.errors import SchedulerError
from ood.hosts.local import LocalHost
from ood.schedulers.base import Job, JobRequest, JobStatus, Outcome
from ood.schedulers.local import Local
from tests.conftest import wait_until
from tests.helpers import cluster


class Machine:
    """A machine whose user has this home directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.scheduler = Local(cluster(), LocalHost())
        self.directory = home / "ondemand/data/sys/local_scheduler"

    def request(self, script: str, **asked: Any) -> JobRequest:
        plain = JobRequest(
            content=f"#!/bin/bash\n{script}\n",
            workdir=str(self.home),
            output_path=str(self.home / "out.log"),
            job_name="a job",
            comment="ood-session:1",
        )
        return replace(plain, **asked)

    def submit(self, script: str, **asked: Any) -> str:
        return self.scheduler.submit(self.request(script, **asked))

    def job(self, id: str) -> Job:
        (found,) = [job for job in self.scheduler.jobs() if job.id == id]
        return found

    def ends(self, id: str, seconds: float = 5) -> Job:
        wait_until(lambda: self.job(id).status is JobStatus.COMPLETED, seconds)
        return self.job(id)

    @property
    def output(self) -> str:
        path = self.home / "out.log"
        return path.read_text() if path.exists() else ""

    def says(self, text: str) -> None:
        wait_until(lambda: text in self.output, 5, f"it never said {text}")

    def record(self, id: str) -> dict[str, Any]:
        return dict(json.loads((self.directory / id / "job.json").read_text()))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("HOME", str(tmp_path))
    machine = Machine(tmp_path)
    yield machine
    with suppress(SchedulerError):
        for job in machine.scheduler.jobs():
            if job.status is not JobStatus.COMPLETED:
                with suppress(ProcessLookupError):  # it has ended since
                    os.killpg(machine.record(job.id)["script"][0], signal.SIGKILL)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_nobody_has_jobs_at_first(machine: Machine) -> None:
    assert machine.scheduler.jobs() == []
    assert machine.scheduler.ended(["1"]) == []


def test_a_job_runs_and_tells_how_it_is(machine: Machine) -> None:
    id = machine.submit('echo "$PWD $LOCAL_JOB_ID"; echo err >&2; read; sleep 60', wall_time=90)
    job = machine.job(id)
    assert (job.status, job.outcome, job.exit_code) == (JobStatus.RUNNING, None, None)
    assert (job.name, job.comment, job.host) == ("a job", "ood-session:1", os.uname().nodename)
    assert job.time_limit == 90
    assert job.time_left is not None
    assert 80 <= job.time_left <= 90
    machine.says(f"{machine.home} {id}\nerr\n")


@pytest.mark.parametrize(
    ("script", "outcome", "code"),
    [
        ("true", Outcome.SUCCEEDED, 0),
        ("exit 3", Outcome.FAILED, 3),
        ("no-such-command", Outcome.FAILED, 127),
        ("kill -KILL $$", Outcome.FAILED, None),
    ],
)
def test_how_a_job_ended(machine: Machine, script: str, outcome: Outcome, code: int | None) -> None:
    job = machine.ends(machine.submit(script))
    assert (job.outcome, job.exit_code) == (outcome, code)


def test_a_script_is_run_as_it_was_given(machine: Machine) -> None:
    machine.ends(machine.submit("printf %s 'héllo 🚀 $(id) %s'; printf '%s' \"$0\" | wc -l"))
    assert machine.output == "héllo 🚀 $(id) %s0\n"


def test_a_job_of_a_portal_within_a_slurm_job_is_not_that_job(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CPUS_PER_TASK"):
        monkeypatch.setenv(name, "4711")
    id = machine.submit('echo "${SLURM_JOB_ID:-$LOCAL_JOB_ID}"; env | grep ^SLURM_')
    machine.ends(id)
    assert machine.output == f"{id}\n"


def test_without_a_time_limit_a_job_has_a_day(machine: Machine) -> None:
    assert machine.job(machine.submit("true")).time_limit == 24 * 3600


def test_a_job_ends_at_its_time_limit(machine: Machine) -> None:
    job = machine.ends(machine.submit("sleep 60", wall_time=1))
    assert (job.outcome, job.time_left) == (Outcome.TIMED_OUT, 0)
    assert "reached its time limit" in machine.output


def test_cancel_ends_all_that_the_script_started(machine: Machine) -> None:
    script = "trap 'echo cleaned; exit 143' TERM; sleep 60 & echo child=$!= ; wait"
    id = machine.submit(script)
    machine.says("child=")
    child = int(machine.output.split("=")[1])
    machine.scheduler.cancel(id)
    job = machine.ends(id)
    assert (job.outcome, job.exit_code) == (Outcome.CANCELLED, 143)
    assert "cleaned" in machine.output
    wait_until(lambda: gone(child), 2)
    machine.scheduler.cancel(id)  # ended already: no error
    assert machine.job(id).outcome is Outcome.CANCELLED


def test_what_a_script_leaves_behind_ends_with_it(machine: Machine) -> None:
    machine.ends(machine.submit("sleep 60 & echo child=$!="))
    child = int(machine.output.split("=")[1])
    wait_until(lambda: gone(child), 2)


def test_cancel_of_no_job_is_no_error(machine: Machine) -> None:
    machine.scheduler.cancel("99")


@pytest.mark.parametrize("id", ["", "../1", "1 2", "-1", "1\n"])
def test_only_numbers_are_cancelled(machine: Machine, id: str) -> None:
    with pytest.raises(SchedulerError, match="not a valid job ID"):
        machine.scheduler.cancel(id)


def test_a_job_survives_the_process_that_submitted_it(machine: Machine) -> None:
    """`kill -9` to the portal and all of its process group: the job goes on."""
    program = (
        "import sys, time; from pathlib import Path;"
        "from tests.test_local_scheduler import Machine; machine = Machine(Path(sys.argv[1]));"
        "print(machine.submit('echo here; while [[ ! -e go ]]; do sleep 0.05; done; echo on'),"
        " flush=True); time.sleep(60)"
    )
    portal = subprocess.Popen(
        [sys.executable, "-c", program, machine.home],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    with portal:
        assert portal.stdout is not None
        id = portal.stdout.readline().strip()
        machine.says("here")
        os.killpg(portal.pid, signal.SIGKILL)
    assert machine.job(id).status is JobStatus.RUNNING
    (machine.home / "go").touch()
    assert machine.ends(id).outcome is Outcome.SUCCEEDED
    assert machine.output == "here\non\n"


def test_a_job_is_lost_only_when_its_script_is_gone_too(machine: Machine) -> None:
    id = machine.submit("echo here; sleep 60")
    machine.says("here")
    record = machine.record(id)
    os.kill(record["supervisor"][0], signal.SIGKILL)
    wait_until(lambda: gone(record["supervisor"][0]), 2)
    assert machine.job(id).status is JobStatus.RUNNING
    os.killpg(record["script"][0], signal.SIGKILL)
    wait_until(lambda: gone(record["script"][0]), 2)
    job = machine.job(id)
    assert (job.state, job.status, job.outcome) == ("LOST", JobStatus.COMPLETED, Outcome.UNKNOWN)


def test_cancel_works_without_the_supervisor(machine: Machine) -> None:
    id = machine.submit("echo here; sleep 60")
    machine.says("here")
    record = machine.record(id)
    os.kill(record["supervisor"][0], signal.SIGKILL)
    wait_until(lambda: gone(record["supervisor"][0]), 2)
    machine.scheduler.cancel(id)
    wait_until(lambda: gone(record["script"][0]), 2)


def test_a_process_id_used_again_is_not_the_job(machine: Machine) -> None:
    """As after a reboot: the numbers are another process's now, which must not be harmed."""
    id = machine.submit("true")
    machine.ends(id)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        theirs = [other.pid, 1]
        stale = machine.record(id) | {"state": "RUNNING", "supervisor": theirs, "script": theirs}
        (machine.directory / id / "job.json").write_text(json.dumps(stale))
        assert machine.job(id).state == "LOST"
        machine.scheduler.cancel(id)
        assert other.poll() is None
        other.kill()


def test_jobs_have_numbers_of_their_own(machine: Machine) -> None:
    ids = [machine.submit("true") for _ in range(3)]
    assert ids == ["1", "2", "3"]
    with ThreadPoolExecutor() as portal:
        ids += portal.map(machine.submit, ["true"] * 8)
    assert len(set(ids)) == 11
    assert {job.id for job in machine.scheduler.jobs()} == set(ids)


def test_old_jobs_are_forgotten_but_their_numbers_are_not_used_again(machine: Machine) -> None:
    old = machine.submit("true")
    machine.ends(old)
    record = machine.record(old) | {"started": time.time() - 31 * 24 * 3600}
    (machine.directory / old / "job.json").write_text(json.dumps(record))
    new = machine.submit("true")
    assert [job.id for job in machine.scheduler.jobs()] == [new]
    assert new != old, "a card that was not looked at for a month shows another session's job"


def test_only_the_user_can_look_at_the_jobs(machine: Machine) -> None:
    machine.submit("true")
    assert machine.directory.stat().st_mode & 0o777 == 0o700
    assert (machine.directory / "1").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("broken", ["", "{", "[]", "{}", "null"])
def test_a_broken_record_hides_that_one_job_only(machine: Machine, broken: str) -> None:
    id = machine.submit("true")
    machine.ends(id)
    (machine.directory / "99").mkdir()
    (machine.directory / "99/job.json").write_text(broken)
    (machine.directory / "a file").touch()
    assert machine.job(id).outcome is Outcome.SUCCEEDED


def test_a_job_that_cannot_be_started_says_so(machine: Machine) -> None:
    with pytest.raises(SchedulerError, match="This machine could not start the job") as failed:
        machine.submit("true", output_path=str(machine.home / "nowhere/out.log"))
    assert "could not be started" in failed.value.detail
    assert machine.scheduler.jobs() == []
