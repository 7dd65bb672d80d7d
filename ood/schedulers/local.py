"""Jobs on the portal host itself, for a machine without Slurm.

`local_job.py` is this scheduler's command line; here its commands are built and its answers read.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ood.config import Cluster
from ood.errors import CommandFailed, SchedulerError
from ood.hosts.base import Host
from ood.schedulers.base import Job, JobRequest, JobStatus, Outcome, Scheduler

DEFAULT_WALL_TIME = 24 * 3600  # seconds
COMMAND = Path(__file__).with_name("local_job.py")
JOB_ID = re.compile(r"[0-9]+")
OUTCOMES = {
    "COMPLETED": Outcome.SUCCEEDED,
    "FAILED": Outcome.FAILED,
    "CANCELLED": Outcome.CANCELLED,
    "TIMEOUT": Outcome.TIMED_OUT,
    "LOST": Outcome.UNKNOWN,
}


class Local(Scheduler):
    """Jobs as processes of the host's user: they start at once and nothing keeps them apart, but
    for the time limit. They survive the portal."""

    def __init__(self, cluster: Cluster, host: Host) -> None:
        self._cluster = cluster
        self._host = host
        self._directory = f"{host.home}/ondemand/data/sys/local_scheduler"

    def submit(self, request: JobRequest) -> str:
        asked = asdict(request) | {"wall_time": request.wall_time or DEFAULT_WALL_TIME}
        job_id = self._run("submit", input=json.dumps(asked).encode())
        if not JOB_ID.fullmatch(job_id):
            raise SchedulerError("The job could not be started.", job_id)
        return job_id

    def jobs(self) -> list[Job]:
        return [_job(found) for found in json.loads(self._run("list"))]

    def ended(self, job_id: str) -> Job | None:  # noqa: ARG002
        return None  # `list` knows a job for as long as anything does

    def cancel(self, job_id: str) -> None:
        if not JOB_ID.fullmatch(job_id):  # from a record that was written by hand
            raise SchedulerError(f"“{job_id}” is not the number of a job.")
        self._run("cancel", job_id)

    def _run(self, *arguments: str, input: bytes = b"") -> str:
        argv = [sys.executable, "-I", "-S", str(COMMAND), self._directory, *arguments]
        try:
            return self._host.run(argv, input=input).text.strip()
        except CommandFailed as error:
            raise SchedulerError(
                f"{self._cluster.label} could not do this. Is its disk full?", error.stderr
            ) from error


def _job(found: dict[str, Any]) -> Job:
    state = found["state"]
    outcome = OUTCOMES.get(state)
    return Job(
        id=found["id"],
        name=found["name"],
        state=state,
        status=JobStatus.COMPLETED if outcome else JobStatus.RUNNING,
        outcome=outcome,
        exit_code=found["exit_code"],
        host=found["host"],
        comment=found["comment"],
        time_limit=found["time_limit"],
        time_left=found["time_left"],
    )
