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
from ood.schedulers.base import (
    NO_ANSWER,
    Job,
    JobStatus,
    NodeNames,
    Outcome,
    Partition,
    Queue,
    Scheduler,
    Submission,
)
from ood.schedulers.limits import Limits, limits_of

ENDED_AGAIN_AFTER = 15.0
"""Seconds until accounting is queried again for a job that it had no record of."""
ACCOUNTING_PATIENCE = 1.0  # seconds: less than pages wait for the jobs that are listed
RECENT_SECONDS = 30.0
PARTITIONS_SECONDS = 15.0
LIMITS_SECONDS = 60.0

NO_ACCOUNTING = (
    "The scheduler’s accounting database is not responding right now, so it is not known yet how "
    "this job ended."
)

T = TypeVar("T")


@dataclass(frozen=True)
class Accounting:
    """How jobs ended that the scheduler no longer lists, according to the accounting database, and
    when it was asked about each."""

    ended: Mapping[Submission, Job] = field(default_factory=dict)
    asked: Mapping[Submission, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """A user's jobs on a back-end. `jobs` are those that the scheduler lists, by ID. `ended` are
    jobs that it no longer lists.

    Times are on the monotonic clock. `asked_at` is before the query, so jobs submitted later may be
    missing. With a `problem`, `jobs` are those of the last successful query. With a problem of
    `accounting`, jobs are missing in `ended`.
    """

    asked_at: float
    jobs: Mapping[str, Job]
    ended: Mapping[Submission, Job] = field(default_factory=dict)
    accounting: PortalError | None = None
    problem: PortalError | None = None
    answered_at: float = 0.0

    def find(self, wanted: Submission) -> Job | None:
        """A job, or all tasks of an array as one, if its state is certain; else None."""
        ended = self.ended.get(wanted)
        if ended is not None and not wanted.is_of(ended):
            ended = None
        if self.problem is not None:
            return ended
        queued = self.listed(wanted)
        if queued is None or queued.status is JobStatus.COMPLETED:
            return ended or queued
        return queued

    def listed(self, wanted: Submission) -> Job | None:
        """A job that the scheduler lists, or all tasks of an array as one."""
        found = self.jobs.get(wanted.job_id)
        if found is not None and wanted.is_of(found):
            return found
        return _one(wanted, self.jobs.values())

    def by_comment(self, comment: str) -> str | None:
        """The ID of the job with this comment; for a task, the ID of its array."""
        for job in self.jobs.values():
            if comment in job.comment:  # a site's plugins may add to it
                return job.id.partition("_")[0].partition("+")[0]
        return None


def query_jobs(
    scheduler: Scheduler,
    wanted: Iterable[Submission],
    ask_accounting: Callable[[list[Submission]], Answer[Accounting]],
) -> Snapshot:
    """Query the user's jobs, and accounting for the `wanted` jobs that are no longer listed."""
    now = time.monotonic()
    jobs = {job.id: job for job in scheduler.jobs()}
    snapshot = Snapshot(now, jobs)
    gone = []
    for each in wanted:
        listed = snapshot.listed(each)
        # Accounting is also needed for arrays, as the scheduler may have purged their first tasks,
        # and for cancelled jobs, as the scheduler does not report who cancelled them.
        if listed is None or (
            listed.status is JobStatus.COMPLETED
            and (each.job_id not in jobs or listed.outcome is Outcome.CANCELLED)
        ):
            gone.append(each)
    if not gone:
        return snapshot
    answer = ask_accounting(gone)
    known, problem = answer.value or Accounting(), None
    if answer.problem is not None:
        problem = SchedulerError(NO_ACCOUNTING, answer.problem.detail)
    return replace(snapshot, ended=known.ended, accounting=problem)


def query_accounting(
    scheduler: Scheduler, gone: Iterable[Submission], last: Accounting | None
) -> Accounting:
    """Query accounting for jobs that the scheduler no longer lists, unless it was asked lately."""
    now = time.monotonic()
    last = last or Accounting()
    missing = [
        each
        for each in gone
        if each not in last.ended and now - last.asked.get(each, float("-inf")) >= ENDED_AGAIN_AFTER
    ]
    if not missing:
        return last
    found = scheduler.ended([each.job_id for each in missing])
    jobs = {each: _one(each, found) for each in missing}
    ended = {
        each: job
        for each, job in jobs.items()
        if job is not None and job.status is JobStatus.COMPLETED
    }
    return Accounting({**last.ended, **ended}, {**last.asked, **dict.fromkeys(missing, now)})


def _one(wanted: Submission, jobs: Iterable[Job]) -> Job | None:
    """The wanted job, or all tasks of an array as one. Of several runs, the last."""
    theirs = {job.id: job for job in jobs if job.id.startswith(wanted.job_id) and wanted.is_of(job)}
    return theirs.get(wanted.job_id) or combined(wanted.job_id, theirs.values())


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
        self,
        what: str,
        ask: Callable[[T | None], T],
        good_for: float | None = None,
        patience: float | None = None,
    ) -> Question[T]:
        """Start a query named `what`, unless its last answer is less than `good_for` seconds old.
        Back-ends with the same scheduler share the answer. Its `answer` waits for `patience`
        seconds."""
        late = SchedulerError(NO_ANSWER, "timed out")
        key = (self._user, self.cluster.scheduler_key, what)
        return self._questions.ask(key, ask, late, good_for, patience)

    def jobs(self, wanted: Iterable[Submission]) -> Question[Snapshot]:
        """The user's jobs, and of the `wanted` ones also those that have ended. A slow accounting
        database does not delay the jobs that the scheduler lists."""
        scheduler = self.scheduler

        def ask_accounting(gone: list[Submission]) -> Answer[Accounting]:
            def ask(last: Accounting | None) -> Accounting:
                return query_accounting(scheduler(), gone, last)

            return self.ask("ended", ask, 0, ACCOUNTING_PATIENCE).answer()

        return self.ask("jobs", lambda _: query_jobs(scheduler(), wanted, ask_accounting))

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

    def nodes_of(self, job_host: str) -> Question[list[NodeNames]]:
        """The nodes in `Job.host`."""
        what = f"nodes {job_host}"
        return self.ask(what, lambda _: self.scheduler().nodes_of(job_host), LIMITS_SECONDS)

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
