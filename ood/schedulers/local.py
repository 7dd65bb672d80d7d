"""Jobs on a host without Slurm. `Local` runs `local_job.py` on the host and parses its output."""

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ood.config import Cluster
from ood.errors import CommandFailed, SchedulerError
from ood.help_topics import HelpTopic
from ood.hosts.base import Command, Host
from ood.schedulers import base
from ood.schedulers.base import Job, JobRequest, JobStatus, Outcome

DEFAULT_WALL_TIME = 24 * 3600  # seconds
COMMAND = Path(__file__).with_name("local_job.py")
LOCAL_JOB_ID = re.compile(r"[0-9]+")
ACTIONS = {"submit": "start the job", "list": "list your jobs", "cancel": "cancel the job"}
OUTCOME_OF = {
    "COMPLETED": Outcome.SUCCEEDED,
    "FAILED": Outcome.FAILED,
    "CANCELLED": Outcome.CANCELLED,
    "TIMEOUT": Outcome.TIMED_OUT,
    "LOST": Outcome.UNKNOWN,
}


class Local(base.Scheduler):
    """Jobs that are processes of the host's user. They start at once, have no limit except their
    time limit, and go on when the portal stops."""

    def __init__(self, cluster: Cluster, host: Host) -> None:
        self._cluster = cluster
        self._host = host
        self._directory = f"{host.home}/ondemand/data/sys/local_scheduler"

    def submit(self, request: JobRequest) -> str:
        asked = asdict(request) | {"wall_time": request.wall_time or DEFAULT_WALL_TIME}
        job_id = self._run("submit", input=json.dumps(asked).encode())
        if not LOCAL_JOB_ID.fullmatch(job_id):
            raise SchedulerError("The job could not be started.", job_id)
        return job_id

    def jobs(self, *, everyones: bool = False) -> list[Job]:
        user = self._host.user
        return [_job(found, user) for found in json.loads(self._run("list"))]

    def start_on_node(self, job_id: str, node: str, argv: Sequence[str]) -> Command:
        return self._host.start(argv)

    def cancel(self, job_id: str) -> None:
        if not LOCAL_JOB_ID.fullmatch(job_id):  # users can edit session records
            raise base.invalid_job_id(job_id)
        self._run("cancel", job_id)

    def _run(self, verb: str, *arguments: str, input: bytes = b"") -> str:
        argv = [sys.executable, "-I", "-S", str(COMMAND), self._directory, verb, *arguments]
        try:
            return self._host.run(argv, input=input).text.strip()
        except CommandFailed as error:
            raise SchedulerError(
                f"{self._cluster.label} could not {ACTIONS[verb]}. Check whether its disk is full.",
                error.stderr,
                topic=HelpTopic.DISK_FULL,
            ) from error


def _job(found: dict[str, Any], user: str) -> Job:
    state = found["state"]
    outcome = OUTCOME_OF.get(state)
    started, ended = int(found["started"]), found["ended"] and int(found["ended"])
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
        time_used=max(0, (ended or int(time.time())) - started),
        user=user,
        nodes=1,
        cores=found.get("cores"),
        memory_mib=gib * 1024 if (gib := found.get("memory_gib")) else None,
        gpus=found.get("gpus", 0),
        submitted_at=started,
        started_at=started,
        ended_at=ended,
        work_dir=found.get("work_dir", ""),
    )
