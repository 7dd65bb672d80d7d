"""Slurm's job states (squeue(1), JOB STATE CODES) as the portal's statuses and outcomes."""

from __future__ import annotations

import re
from functools import lru_cache

from ood.schedulers.base import JobStatus, Outcome

HELD = re.compile(
    r"JobHeldUser|JobHeldAdmin|JobHoldMaxRequeue"
    r"|.*requeued[ _]held|job requeued in (held|special).*"
)
STATUSES = {
    "PENDING": JobStatus.QUEUED,
    "CONFIGURING": JobStatus.QUEUED,
    "REQUEUED": JobStatus.QUEUED,
    "REQUEUE_FED": JobStatus.QUEUED,
    "EXPEDITING": JobStatus.QUEUED,
    "POWER_UP_NODE": JobStatus.QUEUED,
    "REQUEUE_HOLD": JobStatus.HELD,
    "RESV_DEL_HOLD": JobStatus.HELD,
    "SPECIAL_EXIT": JobStatus.HELD,
    "RUNNING": JobStatus.RUNNING,
    "COMPLETING": JobStatus.RUNNING,
    "RESIZING": JobStatus.RUNNING,
    "SIGNALING": JobStatus.RUNNING,
    "STAGE_OUT": JobStatus.RUNNING,
    "SUSPENDED": JobStatus.SUSPENDED,
    "STOPPED": JobStatus.SUSPENDED,
}
OUTCOMES = {
    "COMPLETED": Outcome.SUCCEEDED,
    "FAILED": Outcome.FAILED,
    "NODE_FAIL": Outcome.FAILED,
    "BOOT_FAIL": Outcome.FAILED,
    "LAUNCH_FAILED": Outcome.FAILED,
    "RECONFIG_FAIL": Outcome.FAILED,
    "CANCELLED": Outcome.CANCELLED,
    "PREEMPTED": Outcome.CANCELLED,
    "REVOKED": Outcome.CANCELLED,
    "TIMEOUT": Outcome.TIMED_OUT,
    "DEADLINE": Outcome.TIMED_OUT,
    "OUT_OF_MEMORY": Outcome.OUT_OF_MEMORY,
}


@lru_cache(10_000)
def status_of(state: str, reason: str = "") -> tuple[JobStatus, Outcome | None]:
    """The status and outcome for a state of Slurm; Undetermined for an unknown one."""
    word = state.split(" ")[0].rstrip("+")  # "CANCELLED by 1000", "CANCELLED+"
    if word in OUTCOMES:
        return JobStatus.COMPLETED, OUTCOMES[word]
    if word == "PENDING" and HELD.fullmatch(reason):
        return JobStatus.HELD, None
    return STATUSES.get(word, JobStatus.UNDETERMINED), None
