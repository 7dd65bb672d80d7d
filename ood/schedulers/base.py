"""What every scheduler can do, and the facts it reports about jobs, nodes and partitions."""

import re
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ood.errors import SchedulerError
from ood.help_topics import NO_REASON, Reason
from ood.hosts.base import Command

NO_ANSWER = "The scheduler is not responding right now."
"""The message for users when a scheduler gives no answer, whatever the cause."""
SESSION_COMMENT = "ood-session:"
"""The beginning of the comments of the portal's jobs."""
BEFORE, AFTER = 300, 3600
"""Seconds before and after a launch in which the scheduler may say that the job was submitted:
clocks differ, and home directories can be slow."""


class JobStatus(StrEnum):
    """Schedulers never report `STARTING`: it means a running job without connection.yml, which only
    its session knows."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    HELD = "held"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    UNDETERMINED = "undetermined"


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed-out"
    OUT_OF_MEMORY = "out-of-memory"
    UNKNOWN = "unknown"


class Canceller(StrEnum):
    OWNER = "owner"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True)
class JobRequest:
    """A job to submit, with Open OnDemand's names where it has them. `wall_time` is in seconds
    (None: the scheduler's default), `memory_gib` in GiB for the whole job. `comment` holds the
    session ID, by which a job is found again if its ID was lost."""

    content: str
    workdir: str
    output_path: str
    job_name: str
    comment: str
    cores: int = 1
    memory_gib: int | None = None
    gpus_per_node: int = 0
    wall_time: int | None = None
    queue_name: str | None = None
    native: list[str] = field(default_factory=list)


@dataclass(slots=True)  # not frozen: there can be 10,000, which would take three times as long
class Job:
    """A job as the scheduler reports it. Treat it as read-only. Durations are in seconds, times in
    seconds since the epoch.

    `state` and `reason` are the scheduler's own words. `outcome` is None until the job completes.
    `host` is the scheduler's list of nodes. Before a job starts, `started_at` is its expected
    start. Other fields are None if the scheduler does not report them.
    """

    id: str
    name: str
    state: str
    status: JobStatus
    outcome: Outcome | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    host: str = ""
    comment: str = ""
    time_limit: int | None = None
    time_left: int | None = None
    time_used: int | None = None
    user: str = ""
    account: str = ""
    partition: str = ""
    nodes: int | None = None
    cores: int | None = None
    memory_mib: int | None = None
    gpus: int = 0
    submitted_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    work_dir: str = ""
    priority: int | None = None
    cancelled_by: Canceller | None = None


@dataclass(frozen=True)
class Submission:
    """What is known of a job that was submitted for a session. The ID alone does not identify it:
    after MaxJobId, or a new installation, schedulers assign the same IDs again.

    `name` is empty and `at` None if they are not known.
    """

    job_id: str
    comment: str = ""
    at: int | None = None
    name: str = field(default="", compare=False)

    def is_of(self, job: Job) -> bool:
        """Whether a job with this ID is this one: by its comment or, if it has no session's, by
        its name and time. Jobs of Open OnDemand have no comment, nor has accounting on many
        sites."""
        if SESSION_COMMENT in job.comment:
            return not self.comment or self.comment in job.comment
        if self.name and job.name != self.name:
            return False
        if self.at is None or job.submitted_at is None:
            return True
        return self.at - BEFORE <= job.submitted_at <= self.at + AFTER


@dataclass(frozen=True)
class Node:
    """A machine in a partition. `works` is false while it accepts no jobs."""

    name: str
    works: bool
    cores: int
    free_cores: int
    memory_mib: int
    free_memory_mib: int
    gpus: int = 0
    free_gpus: int = 0


@dataclass(frozen=True)
class NodeNames:
    """The scheduler's name of a node, and the names by which other hosts reach it."""

    name: str
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Partition:
    """Nodes that share limits. The limits are for one job on one node; None means no limit."""

    name: str
    is_default: bool = False
    max_time: int | None = None  # seconds
    max_cores: int | None = None
    max_memory_mib: int | None = None
    nodes: tuple[Node, ...] = ()


class Queue:
    """All users' jobs that wait for free resources, in the order in which they will start: by
    priority, then by job ID."""

    def __init__(self, waiting: Iterable[tuple[str, str, int]]) -> None:
        """`waiting` holds each job's ID, partition and priority."""
        self._partitions: dict[str, list[tuple[int, int]]] = {}
        self._ranks: dict[str, tuple[int, int]] = {}
        for id, partition, priority in waiting:
            rank = (-priority, int(re.split(r"[^0-9]", id)[0]))
            self._partitions.setdefault(partition, []).append(rank)
            self._ranks[id] = rank
        for ranks in self._partitions.values():
            ranks.sort()

    def before(self, job: Job) -> int | None:
        """The number of jobs that start before this one; None if it is not in the queue."""
        rank = self._ranks.get(job.id)
        if rank is None or job.partition not in self._partitions:
            return None
        return bisect_left(self._partitions[job.partition], rank)


class Scheduler(ABC):
    """A back-end's scheduler, used as one user. Every method raises `SchedulerError` or `HostError`
    if it gets no answer, or an answer that it cannot read."""

    @abstractmethod
    def submit(self, request: JobRequest) -> str:
        """Submit a job and return its ID. Raises `LaunchFailed` if the scheduler refuses it."""

    @abstractmethod
    def jobs(self, *, everyones: bool = False) -> list[Job]:
        """Return the user's jobs, or all jobs that the user may see: queued jobs, running jobs and
        those that ended a few minutes ago."""

    def ended(self, job_ids: Iterable[str]) -> list[Job]:
        """Return the final state of jobs that `jobs` no longer lists, as far as it is recorded. An
        array has a job for each task."""
        return []

    def recent(self) -> list[Job]:
        """Return the user's jobs that ended in the last day, as far as they are recorded."""
        return []

    def partitions(self) -> list[Partition]:
        """Return the partitions; empty if the scheduler has none."""
        return []

    def queue(self) -> Queue | None:
        """Return the queue of waiting jobs; None if the user may not see it."""
        return None

    def nodes_of(self, job_host: str) -> list[NodeNames]:
        """Return the nodes in `Job.host`."""
        return [NodeNames(job_host, (job_host,))]

    def why_it_waits(
        self, job: Job, partitions: Sequence[Partition], queue: Queue | None
    ) -> Reason:
        """Return why a queued or held job waits, from earlier answers of `partitions` and `queue`.
        Never contacts the scheduler."""
        return NO_REASON

    @abstractmethod
    def start_on_node(self, job_id: str, node: str, argv: Sequence[str]) -> Command:
        """Start a command inside a running job, on one of its nodes. The caller closes it.

        The command ends when the job does, at the latest. If the job has ended or the scheduler
        refuses, it ends at once and prints why. Raises what `Host.start` raises.
        """

    @abstractmethod
    def cancel(self, job_id: str) -> None:
        """End a job. Does nothing if it has ended already."""


def invalid_job_id(job_id: str) -> SchedulerError:
    return SchedulerError(f"“{job_id}” is not a valid job ID.")


def not_understood(output: str) -> SchedulerError:
    text = "The scheduler returned an answer that the portal cannot read."
    return SchedulerError(f"{text} Tell your administrator.", output[:500])
