"""What a scheduler is asked, and what it answers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ood.help_topics import Reason
from ood.hosts.base import Command

SILENCE = "The scheduler does not answer right now."
"""What users are told of a scheduler that gives no answer, whatever the reason."""


class JobStatus(StrEnum):
    """Where a job is in its life. A scheduler never says `STARTING`: that is a running job whose
    service is not there yet, which only its session can know."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    HELD = "held"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    UNDETERMINED = "undetermined"


class Outcome(StrEnum):
    """How a completed job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed-out"
    OUT_OF_MEMORY = "out-of-memory"
    UNKNOWN = "unknown"


class Canceller(StrEnum):
    """Who cancelled a job."""

    OWNER = "owner"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True)
class JobRequest:
    """A job to be: the `script` section of submit.yml, in Open OnDemand's names where it has one.

    `wall_time` is in seconds (None: the scheduler's default), `memory_gib` in GiB for the job.
    `comment` carries the session id, so that a job can be found when its id was lost.
    """

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
    """A job as its scheduler knows it; nothing of it is ever changed. Durations are in seconds,
    times in seconds since the epoch.

    `state` and `reason` are the scheduler's own words; `outcome` is None until the job completed;
    `exit_code` and `signal` are None when the scheduler does not tell. `host` is its list of
    nodes. `started_at` of a job that waits is when it is expected to start. `cancelled_by` is
    empty when the scheduler does not say who cancelled it.
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
class Node:
    """A machine of a partition. `works` is false while it takes no jobs."""

    name: str
    works: bool
    cores: int
    free_cores: int
    memory_mib: int
    free_memory_mib: int
    gpus: int = 0
    free_gpus: int = 0


@dataclass(frozen=True)
class Partition:
    """Nodes that share limits. The limits are for one job on one node; None: there is none."""

    name: str
    is_default: bool = False
    takes_jobs: bool = True
    max_time: int | None = None  # seconds
    max_cores: int | None = None
    max_memory_mib: int | None = None
    nodes: tuple[Node, ...] = ()


class Queue:
    """The jobs that wait for their turn, whoever has submitted them."""

    def __init__(self, waiting: Iterable[tuple[str, str, int]]) -> None:
        """Of each: id, partition and priority. At the same priority the older one starts first."""
        self._order: dict[str, list[tuple[int, int]]] = {}
        self._places: dict[str, tuple[int, int]] = {}
        for id, partition, priority in waiting:
            place = (-priority, int(re.split(r"[^0-9]", id)[0]))
            self._order.setdefault(partition, []).append(place)
            self._places[id] = place
        for order in self._order.values():
            order.sort()

    def before(self, job: Job) -> int | None:
        """How many jobs are to start before this one; None when it is not in the queue."""
        place = self._places.get(job.id)
        if place is None or job.partition not in self._order:
            return None
        return bisect_left(self._order[job.partition], place)


class Scheduler(ABC):
    """One back-end's scheduler, asked as one user. Every method raises `SchedulerError` or
    `HostError` when it gets no answer it understands: silence is never an empty list."""

    @abstractmethod
    def submit(self, request: JobRequest) -> str:
        """Submit a job and return its id. Raises `LaunchFailed` when the scheduler refuses it."""

    @abstractmethod
    def jobs(self, *, everyones: bool = False) -> list[Job]:
        """Return this user's jobs, or all that this user may see: queued, running, and those that
        ended a few minutes ago."""

    @abstractmethod
    def ended(self, job_ids: Iterable[str]) -> list[Job]:
        """Return the final facts of jobs that `jobs` no longer lists. One that is missing here has
        left no proof; of an array there is a job for each task."""

    @abstractmethod
    def recent(self) -> list[Job]:
        """Return this user's jobs that ended in the last day, as far as anything remembers them."""

    @abstractmethod
    def partitions(self) -> list[Partition]:
        """Return what there is to run jobs on; empty when the scheduler does not know."""

    @abstractmethod
    def queue(self) -> Queue | None:
        """Return all jobs that wait for their turn; None when that may not be seen."""

    @abstractmethod
    def why(self, job: Job, partitions: Sequence[Partition], queue: Queue | None) -> Reason:
        """Return why a job waits, from earlier answers of `partitions` and `queue`; `NO_REASON` for
        a job that does not wait. Does not ask the scheduler."""

    @abstractmethod
    def start_on_node(self, job_id: str, node: str, argv: Sequence[str]) -> Command:
        """Start a command on a node of a running job, as part of the job. The command ends when the
        job ends, if not before. The caller closes it. Raises as `Host.start` does. If the job has
        ended, or the scheduler refuses, the command ends at once and prints why."""

    @abstractmethod
    def cancel(self, job_id: str) -> None:
        """End a job, whatever its state. A job that has ended already is not an error."""
