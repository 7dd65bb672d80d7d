"""From evidence to a status: what a session's card may say, and never more than is known.

Pure: everything that was looked up comes in as `Evidence`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ood.schedulers.base import Job, JobStatus, Outcome
from ood.sessions.causes import YOU_CANCELLED, ended_by_memory, likely_cause, why_it_ended

NEVER_SUBMITTED_AFTER = 60.0
"""Seconds after which a session without a job has none: no `sbatch` outlives its own time limit."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a session's job right now.

    `job`: how the scheduler lists it. `silence`: why the scheduler gave no answer, if it did not.
    `exit_code`: from the outcome file. `failure`: the job's own sentence about it. `log_tail`: the
    end of its log. `connected`: connection.yml is there. `submitted`: it has a job id. `fresh`: it
    was submitted after the scheduler was asked. `age`: seconds since its launch. `cancelled_here`:
    the user pressed Cancel.
    """

    job: Job | None
    silence: str
    exit_code: int | None
    failure: str
    log_tail: str
    connected: bool
    submitted: bool
    fresh: bool
    age: float
    cancelled_here: bool


@dataclass(frozen=True)
class Verdict:
    status: JobStatus
    outcome: Outcome | None = None
    exit_code: int | None = None
    reason: str = ""


def judge(evidence: Evidence) -> Verdict:
    """Say how a session stands. Completed needs proof: a final state, or the outcome file."""
    job = evidence.job
    if job is not None:
        if job.status is JobStatus.COMPLETED:
            return _ended(job, evidence)
        if job.status is JobStatus.RUNNING and evidence.exit_code is not None:
            # Its last act was to write this down; the scheduler has not noticed yet. What else
            # than a success it may be called is the scheduler's to say: it knows why.
            outcome = _outcome_of(evidence.exit_code, evidence.cancelled_here)
            if outcome is not Outcome.FAILED:
                exit_code = evidence.exit_code if outcome is Outcome.SUCCEEDED else None
                reason = YOU_CANCELLED if outcome is Outcome.CANCELLED else ""
                return Verdict(JobStatus.COMPLETED, outcome, exit_code, reason)
        if job.status is JobStatus.RUNNING and not evidence.connected:
            return Verdict(JobStatus.STARTING, reason=job.reason)
        return Verdict(job.status, reason=job.reason)
    if evidence.exit_code is not None:
        return judge_completed(
            evidence.exit_code, evidence.failure, evidence.log_tail, evidence.cancelled_here
        )
    if evidence.fresh:
        return Verdict(JobStatus.QUEUED)
    if evidence.silence:
        return Verdict(JobStatus.UNDETERMINED, reason=evidence.silence)
    if evidence.submitted:
        return Verdict(
            JobStatus.UNDETERMINED,
            reason="The scheduler no longer lists this job, and the job left no outcome.",
        )
    if evidence.age < NEVER_SUBMITTED_AFTER:
        return Verdict(JobStatus.QUEUED, reason="Waiting for the scheduler to accept the job.")
    return Verdict(
        JobStatus.COMPLETED,
        Outcome.CANCELLED if evidence.cancelled_here else Outcome.FAILED,
        reason="The launch was interrupted before the scheduler had the job. Relaunch it.",
    )


def judge_completed(
    exit_code: int | None, failure: str, log_tail: str, cancelled_here: bool
) -> Verdict:
    """How a session ended by what its job left alone: `exit_code` of the outcome file."""
    if exit_code is None:
        return Verdict(JobStatus.COMPLETED, Outcome.UNKNOWN)
    outcome = _outcome_of(exit_code, cancelled_here)
    reason = failure or likely_cause(log_tail) if outcome is Outcome.FAILED else ""
    if outcome is Outcome.CANCELLED:
        reason = YOU_CANCELLED
    return Verdict(JobStatus.COMPLETED, outcome, exit_code, reason)


def _ended(job: Job, evidence: Evidence) -> Verdict:
    outcome = job.outcome or Outcome.UNKNOWN
    exit_code = job.exit_code if job.exit_code is not None else evidence.exit_code
    if evidence.exit_code is not None and evidence.exit_code - 128 == job.exit_code:
        exit_code = evidence.exit_code  # Slurm's accounts lost the 128
    if outcome is Outcome.UNKNOWN and exit_code is not None:
        outcome = _outcome_of(exit_code, evidence.cancelled_here)
    if ended_by_memory(job, evidence.log_tail):
        outcome = Outcome.OUT_OF_MEMORY
    if outcome in (Outcome.CANCELLED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY):
        exit_code = None  # of whatever was ended, not of the work
    if outcome is Outcome.FAILED and job.signal is not None:
        exit_code = None
    reason = why_it_ended(job, outcome)
    if outcome is Outcome.CANCELLED and evidence.cancelled_here:
        reason = YOU_CANCELLED
    if outcome is Outcome.FAILED:
        reason = reason or evidence.failure or likely_cause(evidence.log_tail) or job.reason
    return Verdict(JobStatus.COMPLETED, outcome, exit_code, reason)


def _outcome_of(exit_code: int, cancelled_here: bool) -> Outcome:
    if exit_code == 0:
        return Outcome.SUCCEEDED
    return Outcome.CANCELLED if cancelled_here and exit_code == 143 else Outcome.FAILED
