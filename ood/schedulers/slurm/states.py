"""Slurm's job states (squeue(1), JOB STATE CODES) as the portal's statuses and outcomes."""

import re
from functools import lru_cache

from ood.schedulers.base import JobStatus, Outcome

HELD = re.compile(
    r"JobHeldUser|JobHeldAdmin|JobHoldMaxRequeue"
    r"|.*requeued[ _]held|job requeued in (held|special).*"
)
STATUSES = {
    JobStatus.QUEUED: "PENDING CONFIGURING REQUEUED REQUEUE_FED EXPEDITING POWER_UP_NODE",
    JobStatus.HELD: "REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT",
    JobStatus.RUNNING: "RUNNING COMPLETING RESIZING SIGNALING STAGE_OUT",
    JobStatus.SUSPENDED: "SUSPENDED STOPPED",
}
OUTCOMES = {
    Outcome.SUCCEEDED: "COMPLETED",
    Outcome.FAILED: "FAILED NODE_FAIL BOOT_FAIL LAUNCH_FAILED RECONFIG_FAIL",
    Outcome.CANCELLED: "CANCELLED PREEMPTED REVOKED",
    Outcome.TIMED_OUT: "TIMEOUT DEADLINE",
    Outcome.OUT_OF_MEMORY: "OUT_OF_MEMORY",
}
STATUS_OF = {state: status for status, states in STATUSES.items() for state in states.split()}
OUTCOME_OF = {state: outcome for outcome, states in OUTCOMES.items() for state in states.split()}


@lru_cache(10_000)
def status_of(state: str, reason: str = "") -> tuple[JobStatus, Outcome | None]:
    """The status and outcome for a state of Slurm; Undetermined for an unknown one."""
    word = state.split(" ")[0].rstrip("+")  # "CANCELLED by 1000", "CANCELLED+"
    if word in OUTCOME_OF:
        return JobStatus.COMPLETED, OUTCOME_OF[word]
    if word == "PENDING" and HELD.fullmatch(reason):
        return JobStatus.HELD, None
    return STATUS_OF.get(word, JobStatus.UNDETERMINED), None
