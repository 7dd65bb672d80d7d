"""One back-end's jobs, queue and limits as one user sees them, each queried at most once in a few
seconds for all pages together."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ood.background import Answer, BackgroundQuestions, Question
from ood.config import Cluster
from ood.errors import PortalError, SchedulerError
from ood.help_topics import NO_REASON, Reason
from ood.schedulers.base import NO_ANSWER, Job, JobStatus, Outcome, Partition, Queue, Scheduler
from ood.schedulers.limits import Limits, limits_of

ENDED_AGAIN_AFTER = 15.0
"""Seconds until accounting is queried again for a job that it had no record of."""
RECENT_SECONDS = 30.0
PARTITIONS_SECONDS = 15.0
LIMITS_SECONDS = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """A user's jobs on a back-end. `jobs` are those that the scheduler lists, by ID. Accounting was
    queried for wanted jobs that it no longer lists: at the times `asked`, with the result `ended`.

    Times are on the monotonic clock. `asked_at` is before the query, so jobs submitted later may be
    missing. With a `problem`, `jobs` are those of the last successful query.
    """

    asked_at: float
    jobs: Mapping[str, Job]
    ended: Mapping[str, Job] = field(default_factory=dict)
    asked: Mapping[str, float] = field(default_factory=dict)
    problem: PortalError | None = None
    answered_at: float = 0.0

    def find(self, job_id: str) -> Job | None:
        """A job, or all tasks of an array as one, if its state is certain; else None."""
        if self.problem is not None:
            return self.ended.get(job_id)
        queued = self.listed(job_id)
        if queued is None or queued.status is JobStatus.COMPLETED:
            return self.ended.get(job_id, queued)
        return queued

    def listed(self, job_id: str) -> Job | None:
        """A job that the scheduler lists, or all tasks of an array as one."""
        found = self.jobs.get(job_id)
        return found if found is not None else combined(job_id, self.jobs.values())

    def by_comment(self, comment: str) -> str | None:
        """The ID of the job with this comment; for a task, the ID of its array."""
        for job in self.jobs.values():
            if job.comment == comment:
                return job.id.partition("_")[0].partition("+")[0]
        return None


def query_jobs(scheduler: Scheduler, wanted: Iterable[str], last: Snapshot | None) -> Snapshot:
    """Query the user's jobs, and accounting for the `wanted` job IDs that are no longer listed."""
    now = time.monotonic()
    jobs = {job.id: job for job in scheduler.jobs()}
    snapshot = Snapshot(now, jobs)
    ended = dict(last.ended) if last else {}
    asked = dict(last.asked) if last else {}
    missing = []
    for job_id in wanted:
        listed = snapshot.listed(job_id)
        # Accounting is also needed for arrays, as the scheduler may have purged their first tasks,
        # and for cancelled jobs, as the scheduler does not report who cancelled them.
        gone = listed is None or (
            listed.status is JobStatus.COMPLETED
            and (job_id not in jobs or listed.outcome is Outcome.CANCELLED)
        )
        again = now - asked.get(job_id, float("-inf")) >= ENDED_AGAIN_AFTER
        if gone and job_id not in ended and again:
            missing.append(job_id)
            asked[job_id] = now
    if missing:
        found = scheduler.ended(missing)
        by_id = {job.id: job for job in found}
        for job_id in missing:
            job = by_id.get(job_id) or combined(job_id, found)
            if job is not None and job.status is JobStatus.COMPLETED:
                ended[job_id] = job
    return replace(snapshot, ended=ended, asked=asked)


def snapshot_of(answer: Answer[Snapshot]) -> Snapshot:
    """The snapshot in an answer to `Watch.ask_jobs`, with the problem of the answer."""
    known = answer.value
    if answer.problem is None:
        assert known is not None
        return replace(known, answered_at=answer.asked_at + answer.took)
    if known is None:
        return Snapshot(answer.asked_at, {}, problem=answer.problem)
    return replace(known, problem=answer.problem)


# An array has the first of these statuses and outcomes that any of its tasks has.
LIVELIEST_FIRST = ("running", "suspended", "queued", "held", "undetermined", "completed")
WORST_FIRST = ("out-of-memory", "timed-out", "failed", "cancelled", "unknown", "succeeded")


def combined(job_id: str, jobs: Iterable[Job]) -> Job | None:
    """All tasks of an array, or parts of a heterogeneous job, as one; None without any."""
    tasks = [job for job in jobs if job.id.startswith((f"{job_id}_", f"{job_id}+"))]
    tasks.sort(key=lambda job: WORST_FIRST.index(job.outcome) if job.outcome else 0)
    tasks.sort(key=lambda job: LIVELIEST_FIRST.index(job.status))  # keeps the order of equal ones
    return replace(tasks[0], id=job_id) if tasks else None


class JobMonitor:
    """Queries about one back-end as one user, in the background. Start all queries before you wait
    for the first answer."""

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
        """Raises `SchedulerError` if the back-end runs no jobs."""
        return self._scheduler(self.cluster)

    def ask(
        self, what: str, ask: Callable[[T | None], T], good_for: float | None = None
    ) -> Question[T]:
        """Start a query named `what`, unless its last answer is less than `good_for` seconds old.
        Back-ends with the same scheduler share the answer."""
        late = SchedulerError(NO_ANSWER, "timed out")
        key = (self._user, self.cluster.scheduler_key, what)
        return self._questions.ask(key, ask, late, good_for)

    def everyones(self) -> Question[list[Job]]:
        """All jobs that the user may see."""
        return self.ask("everyone's jobs", lambda _: self.scheduler().jobs(everyones=True))

    def recent(self) -> Question[list[Job]]:
        """The user's jobs that ended in the last day, from accounting."""
        return self.ask("recent jobs", lambda _: self.scheduler().recent(), RECENT_SECONDS)

    def queue(self) -> Question[Queue | None]:
        """All users' waiting jobs; None if the user may not see them."""
        return self.ask("queue", lambda _: self.scheduler().queue(), PARTITIONS_SECONDS)

    def partitions(self, good_for: float = PARTITIONS_SECONDS) -> Question[list[Partition]]:
        return self.ask("partitions", lambda _: self.scheduler().partitions(), good_for)

    def start_limits(self) -> None:
        """Start the query whose answer `limits` waits for."""
        self.partitions(LIMITS_SECONDS)

    def limits(self, queue_name: str | None = None) -> Limits:
        """The limits of one job. Limits that the scheduler does not report are None."""
        partitions = self.partitions(LIMITS_SECONDS).answer().value
        return limits_of(self.cluster, partitions or [], queue_name)

    def why_it_waits(self, job: Job, *, wait: bool = True) -> Reason:
        """Why a job waits; `NO_REASON` for a job that does not wait. With `wait`, waits for the
        partitions and the queue; without it, uses what is known now."""
        if job.status not in (JobStatus.QUEUED, JobStatus.HELD):
            return NO_REASON
        asked, queued = self.partitions(), self.queue()
        partitions = asked.answer().value if wait else asked.known
        queue = queued.answer().value if wait else queued.known
        return self.scheduler().why_it_waits(job, partitions or (), queue)

    def outdate(self) -> None:
        """Discard the answers, because a job was submitted or cancelled."""
        self._questions.outdate((self._user, self.cluster.scheduler_key))
