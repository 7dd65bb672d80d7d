"""What one back-end's scheduler says to one user, each question asked once in some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ood.background import Answer, BackgroundQuestions, Question
from ood.config import Cluster
from ood.errors import PortalError, SchedulerError
from ood.help_topics import NO_REASON, Reason
from ood.schedulers.base import SILENCE, Job, JobStatus, Outcome, Partition, Queue, Scheduler
from ood.schedulers.limits import Limits, limits_of

ENDED_AGAIN_AFTER = 15.0
"""Seconds before accounting is asked again about a job that it did not know."""
RECENT_SECONDS = 30.0
PARTITIONS_SECONDS = 15.0
LIMITS_SECONDS = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """A user's jobs on a back-end: `jobs` in the queue, and what accounting said of those that had
    been `asked` for because they were no longer there.

    `asked_at` is on the monotonic clock, before asking: a job submitted later may be missing.
    With a `problem` the jobs are unknown, and these are how they were before.
    """

    asked_at: float
    jobs: Mapping[str, Job]
    ended: Mapping[str, Job] = field(default_factory=dict)
    asked: Mapping[str, float] = field(default_factory=dict)
    problem: PortalError | None = None
    answered_at: float = 0.0

    def find(self, job_id: str) -> Job | None:
        """A job as far as it is known for certain: of an array all its tasks as one."""
        if self.problem is not None:
            return self.ended.get(job_id)
        queued = self.listed(job_id)
        if queued is None or queued.status is JobStatus.COMPLETED:
            return self.ended.get(job_id, queued)
        return queued

    def listed(self, job_id: str) -> Job | None:
        """A job, or all tasks of an array as one, in the queue."""
        found = self.jobs.get(job_id)
        return found if found is not None else combined(job_id, self.jobs.values())

    def by_comment(self, comment: str) -> str | None:
        """The id of the job with this comment; of an array the id of the whole."""
        for job in self.jobs.values():
            if job.comment == comment:
                return job.id.partition("_")[0].partition("+")[0]
        return None


def survey(scheduler: Scheduler, wanted: Iterable[str], last: Snapshot | None) -> Snapshot:
    """Ask for the user's jobs, and accounting for those of `wanted` that are no longer there."""
    now = time.monotonic()
    jobs = {job.id: job for job in scheduler.jobs()}
    snapshot = Snapshot(now, jobs)
    ended = dict(last.ended) if last else {}
    asked = dict(last.asked) if last else {}
    missing = []
    for job_id in wanted:
        listed = snapshot.listed(job_id)
        # Of an array, the queue may have forgotten the tasks that ended first; and it does not say
        # who cancelled a job.
        gone = listed is None or (
            listed.status is JobStatus.COMPLETED
            and (job_id not in jobs or listed.outcome is Outcome.CANCELLED)
        )
        again = now - asked.get(job_id, float("-inf")) >= ENDED_AGAIN_AFTER
        if gone and job_id not in ended and again:
            missing.append(job_id)
            asked[job_id] = now
    if missing:
        told = scheduler.ended(missing)
        known = {job.id: job for job in told}
        for job_id in missing:
            job = known.get(job_id) or combined(job_id, told)
            if job is not None and job.status is JobStatus.COMPLETED:
                ended[job_id] = job
    return replace(snapshot, ended=ended, asked=asked)


def snapshot_of(answer: Answer[Snapshot]) -> Snapshot:
    """A user's jobs as the answer to `ask_jobs` tells them, its problem with them."""
    known = answer.value
    if answer.problem is None:
        assert known is not None
        return replace(known, answered_at=answer.asked_at + answer.took)
    if known is None:
        return Snapshot(answer.asked_at, {}, problem=answer.problem)
    return replace(known, problem=answer.problem)


# Of several tasks, the first of these that any of them is in is what is said of the whole.
LIVELIEST = (
    JobStatus.RUNNING,
    JobStatus.SUSPENDED,
    JobStatus.QUEUED,
    JobStatus.HELD,
    JobStatus.UNDETERMINED,
    JobStatus.COMPLETED,
)
WORST = (
    Outcome.OUT_OF_MEMORY,
    Outcome.TIMED_OUT,
    Outcome.FAILED,
    Outcome.CANCELLED,
    Outcome.UNKNOWN,
    Outcome.SUCCEEDED,
)


def combined(job_id: str, jobs: Iterable[Job]) -> Job | None:
    """All tasks of an array, or parts of a heterogeneous job, as one; None when there are none."""
    tasks = [job for job in jobs if job.id.startswith((f"{job_id}_", f"{job_id}+"))]
    if not tasks:
        return None
    chosen = min(
        tasks,
        key=lambda job: (
            LIVELIEST.index(job.status),
            WORST.index(job.outcome) if job.outcome else 0,
        ),
    )
    return replace(chosen, id=job_id)


class JobMonitor:
    """One back-end as one user. What it is asked is asked in the background: start all questions
    before the first answer is waited for."""

    def __init__(
        self,
        user: str,
        cluster: Cluster,
        scheduler: Callable[[Cluster], Scheduler],
        questions: BackgroundQuestions,
    ) -> None:
        self.cluster = cluster
        self._user = user
        self._scheduler = scheduler
        self._questions = questions

    def scheduler(self) -> Scheduler:
        """Raises `SchedulerError` for a back-end that runs no jobs."""
        return self._scheduler(self.cluster)

    def ask(
        self, what: str, ask: Callable[[T | None], T], good_for: float | None = None
    ) -> Question[T]:
        """Ask a question of one's own, `what` being its name. Back-ends that are partitions of one
        cluster share the answer."""
        silence = SchedulerError(SILENCE, "not within its time")
        key = (self._user, self.cluster.scheduler_key, what)
        return self._questions.ask(key, ask, silence, good_for)

    def everyones(self) -> Question[list[Job]]:
        """All jobs in the queue that this user may see."""
        return self.ask("everyone's jobs", lambda _: self.scheduler().jobs(everyones=True))

    def recent(self) -> Question[list[Job]]:
        """This user's jobs of the last day, by the accounts."""
        return self.ask("recent jobs", lambda _: self.scheduler().recent(), RECENT_SECONDS)

    def queue(self) -> Question[Queue | None]:
        """All jobs that wait; None where they may not be seen."""
        return self.ask("queue", lambda _: self.scheduler().queue(), PARTITIONS_SECONDS)

    def partitions(self, good_for: float = PARTITIONS_SECONDS) -> Question[list[Partition]]:
        return self.ask("partitions", lambda _: self.scheduler().partitions(), good_for)

    def start_limits(self) -> None:
        """Ask for what `limits` tells, without waiting for it."""
        self.partitions(LIMITS_SECONDS)

    def limits(self, queue_name: str | None = None) -> Limits:
        """The most that a job may ask for. What the scheduler does not tell is not limited."""
        partitions = self.partitions(LIMITS_SECONDS).answer().value
        return limits_of(self.cluster, partitions or [], queue_name)

    def why(self, job: Job, *, wait: bool = True) -> Reason:
        """Why a job waits; `NO_REASON` for a job that does not wait. With `wait`, ask about the
        partitions and the queue first; without it, use what is known."""
        if job.status not in (JobStatus.QUEUED, JobStatus.HELD):
            return NO_REASON
        asked, queued = self.partitions(), self.queue()
        partitions = asked.answer().value if wait else asked.known
        queue = queued.answer().value if wait else queued.known
        return self.scheduler().why(job, partitions or (), queue)

    def outdate(self) -> None:
        """Something was done: ask anew before the next answer."""
        self._questions.outdate((self._user, self.cluster.scheduler_key))
