"""A user's jobs on all back-ends, with or without sessions, for the table of Active Jobs.

All back-ends are queried at the same time, so that a slow one does not delay the others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ood.config import Cluster
from ood.errors import PortalError
from ood.schedulers.base import Job, JobStatus, Outcome, Submission
from ood.schedulers.monitor import Snapshot, snapshot_of
from ood.sessions.board import Board
from ood.sessions.card import Card


@dataclass(slots=True)
class JobRow:
    """A job in the table, and the card of its session if it has one."""

    cluster: Cluster
    job: Job
    card: Card | None

    @property
    def own_card(self) -> Card | None:
        """The card, if it is about this job alone; None if it is about an array with this task."""
        card = self.card
        return card if card is not None and card.record.job_id == self.job.id else None

    @property
    def status(self) -> JobStatus:
        """The card's, if there is one: only a session knows whether its service has started."""
        return self.own_card.status if self.own_card is not None else self.job.status

    @property
    def outcome(self) -> Outcome | None:
        return self.own_card.outcome if self.own_card is not None else self.job.outcome

    @property
    def exit_code(self) -> int | None:
        return self.own_card.exit_code if self.own_card is not None else self.job.exit_code


@dataclass(frozen=True)
class Jobs:
    """`problems` holds, by ID, why a back-end did not answer. Its unfinished jobs are
    Undetermined."""

    rows: list[JobRow]
    problems: Mapping[str, PortalError]


Cards = dict[tuple[str, str], list[tuple[Submission, Card]]]
"""By cluster and job ID, which several sessions can have: schedulers use IDs again."""


def jobs_on(board: Board, clusters: Iterable[Cluster], *, everyones: bool) -> Jobs:
    """The user's jobs, or all jobs that the user may see, on these back-ends."""
    cards: Cards = {}
    for card in board.cards():
        submission = board.submission(card.record)
        if submission is not None:
            key = (card.record.cluster_id, submission.job_id)
            cards.setdefault(key, []).append((submission, card))
    sharing: dict[str, list[Cluster]] = {}
    for cluster in clusters:
        sharing.setdefault(cluster.scheduler_key, []).append(cluster)
    asked = []
    for back_ends in sharing.values():
        monitor = board.monitors[back_ends[0].id]
        others = monitor.everyones() if everyones else None
        asked.append((back_ends, board.ask_jobs(back_ends[0].id), monitor.recent(), others))
    rows: list[JobRow] = []
    problems: dict[str, PortalError] = {}
    for back_ends, mine, recent, others in asked:
        snapshot = snapshot_of(mine.answer())
        if snapshot.problem is not None:
            problems |= {cluster.id: snapshot.problem for cluster in back_ends}
        everybodys = others.answer().value or () if others is not None else ()
        ended = (*(recent.answer().value or ()), *snapshot.ended.values())
        own = {*snapshot.jobs, *(job.id for job in ended)}
        known = _known(snapshot, ended, everybodys)
        if snapshot.problem is not None:
            known = [_undetermined(job) for job in known]
        if len(back_ends) == 1 and not cards:
            rows.extend([JobRow(back_ends[0], job, None) for job in known])
        else:
            rows.extend([_row(job, back_ends, cards if job.id in own else {}) for job in known])
    return Jobs(rows, problems)


def _known(snapshot: Snapshot, ended: Iterable[Job], everybodys: Iterable[Job]) -> Iterable[Job]:
    """Each job once, as the scheduler lists it or, once it has ended, as accounting records it."""
    known = {job.id: job for job in everybodys}
    known |= snapshot.jobs
    for job in ended:
        queued = known.get(job.id)
        if queued is None or (
            queued.status is JobStatus.COMPLETED and job.status is JobStatus.COMPLETED
        ):
            known[job.id] = job
    return known.values()


def _undetermined(job: Job) -> Job:
    completed = job.status is JobStatus.COMPLETED
    return job if completed else replace(job, status=JobStatus.UNDETERMINED)


def _row(job: Job, back_ends: list[Cluster], cards: Cards) -> JobRow:
    """The row for a job, under the back-end that it was submitted to or that has its partition."""
    for cluster in back_ends if cards else ():
        for id in (job.id, parent_id(job.id)):
            for submission, card in cards.get((cluster.id, id), ()):
                if submission.is_of(job):
                    return JobRow(cluster, job, card)
    for cluster in back_ends:
        if cluster.partition in job.partition.split(","):
            return JobRow(cluster, job, None)
    open_to_all = (cluster for cluster in back_ends if cluster.partition is None)
    return JobRow(next(open_to_all, back_ends[0]), job, None)


def parent_id(job_id: str) -> str:
    """The ID of the array or heterogeneous job that this job is a part of, or its own ID."""
    return job_id.partition("_")[0].partition("+")[0]
