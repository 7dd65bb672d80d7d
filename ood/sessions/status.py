"""Working out the status of a session from `Evidence`. Nothing here contacts a host."""

from dataclasses import dataclass

from ood.help_topics import NO_REASON, HelpTopic, Reason
from ood.schedulers.base import Job, JobStatus, Outcome
from ood.sessions.causes import YOU_CANCELLED, ended_by_memory, likely_cause, why_it_ended
from ood.sessions.job_report import JobReport

NEVER_SUBMITTED_AFTER = 60.0
"""Seconds after a launch without a job ID, from which there is no job. `sbatch` ends sooner."""
TOPICS: dict[JobStatus | Outcome, HelpTopic] = {
    JobStatus.HELD: HelpTopic.HELD,
    JobStatus.UNDETERMINED: HelpTopic.UNDETERMINED,
    Outcome.FAILED: HelpTopic.FAILED,
    Outcome.TIMED_OUT: HelpTopic.TIME_LIMIT,
    Outcome.OUT_OF_MEMORY: HelpTopic.OUT_OF_MEMORY,
    Outcome.UNKNOWN: HelpTopic.UNKNOWN,
}
"""Help for a status or an outcome whose reason has no topic."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a session's job at the moment.

    `job`: as the scheduler lists it. `problem`: the message if the scheduler did not answer.
    `submitted`: the job ID is known. `fresh`: the job was submitted after the scheduler was asked.
    `age`: seconds since the launch. `cancelled_here`: the user pressed Cancel.
    """

    job: Job | None
    problem: str
    report: JobReport
    submitted: bool
    fresh: bool
    age: float
    cancelled_here: bool


@dataclass(frozen=True)
class Verdict:
    status: JobStatus
    outcome: Outcome | None = None
    exit_code: int | None = None
    reason: Reason = NO_REASON

    @property
    def topic(self) -> HelpTopic | None:
        """The part of the troubleshooting page about this; None if all is well."""
        return self.reason.topic or TOPICS.get(self.outcome or self.status)


def judge(evidence: Evidence) -> Verdict:
    """Return the status of a session. Completed needs proof: a final state, or outcome.json."""
    job, report = evidence.job, evidence.report
    if job is not None:
        if job.status is JobStatus.COMPLETED:
            return _ended(job, evidence)
        if job.status is JobStatus.RUNNING and report.exit_code is not None:
            # The job has ended, but the scheduler still lists it as running. Only the scheduler
            # knows why a job failed, so do not report a failure before it does.
            outcome = _outcome_of(report.exit_code, evidence.cancelled_here)
            if outcome is not Outcome.FAILED:
                exit_code = report.exit_code if outcome is Outcome.SUCCEEDED else None
                reason = YOU_CANCELLED if outcome is Outcome.CANCELLED else NO_REASON
                return Verdict(JobStatus.COMPLETED, outcome, exit_code, reason)
        if job.status is JobStatus.RUNNING and not report.connected:
            return Verdict(JobStatus.STARTING)
        return Verdict(job.status)
    if report.exit_code is not None:
        return judge_completed(report, evidence.cancelled_here)
    if evidence.fresh:
        return Verdict(JobStatus.QUEUED)
    if evidence.problem:
        return Verdict(JobStatus.UNDETERMINED, reason=Reason(evidence.problem))
    if report.unread:
        return Verdict(JobStatus.UNDETERMINED, reason=Reason(report.unread))
    if evidence.submitted:
        text = "The scheduler no longer lists this job, and the job did not record its outcome."
        return Verdict(JobStatus.UNDETERMINED, reason=Reason(text))
    if evidence.age < NEVER_SUBMITTED_AFTER:
        waiting = Reason("Waiting for the scheduler to accept the job.", HelpTopic.WAITING)
        return Verdict(JobStatus.QUEUED, reason=waiting)
    outcome = Outcome.CANCELLED if evidence.cancelled_here else Outcome.FAILED
    text = "The launch was interrupted before the scheduler accepted the job. Relaunch it."
    return Verdict(JobStatus.COMPLETED, outcome, reason=Reason(text, HelpTopic.LAUNCH))


def judge_completed(report: JobReport, cancelled_here: bool) -> Verdict:
    """How a session ended, according to the job's own files alone."""
    if report.exit_code is None:
        return Verdict(JobStatus.COMPLETED, Outcome.UNKNOWN)
    outcome = _outcome_of(report.exit_code, cancelled_here)
    reason = YOU_CANCELLED if outcome is Outcome.CANCELLED else NO_REASON
    if outcome is Outcome.FAILED:
        reason = report.failure or likely_cause(report.log_tail)
    return Verdict(JobStatus.COMPLETED, outcome, report.exit_code, reason)


def _ended(job: Job, evidence: Evidence) -> Verdict:
    report, outcome = evidence.report, job.outcome or Outcome.UNKNOWN
    exit_code = job.exit_code if job.exit_code is not None else report.exit_code
    if report.exit_code is not None and report.exit_code - 128 == job.exit_code:
        exit_code = report.exit_code  # Slurm's accounting drops the 128
    if outcome is Outcome.UNKNOWN and exit_code is not None:
        outcome = _outcome_of(exit_code, evidence.cancelled_here)
    if ended_by_memory(job, report.log_tail):
        outcome = Outcome.OUT_OF_MEMORY
    killed = outcome in (Outcome.CANCELLED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY)
    if killed or (outcome is Outcome.FAILED and job.signal is not None):
        exit_code = None  # it would be that of the process that was killed
    reason = why_it_ended(job, outcome)
    if outcome is Outcome.CANCELLED and evidence.cancelled_here:
        reason = YOU_CANCELLED
    if outcome is Outcome.FAILED:
        reason = reason or report.failure or likely_cause(report.log_tail)
    return Verdict(JobStatus.COMPLETED, outcome, exit_code, reason)


def _outcome_of(exit_code: int, cancelled_here: bool) -> Outcome:
    if exit_code == 0:
        return Outcome.SUCCEEDED
    return Outcome.CANCELLED if cancelled_here and exit_code == 143 else Outcome.FAILED
