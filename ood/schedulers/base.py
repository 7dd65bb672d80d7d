"""What a scheduler is asked, and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum


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


@dataclass(frozen=True)
class Job:
    """A job as its scheduler knows it. Times are in seconds.

    `state` and `reason` are the scheduler's own words; `outcome` is None until the job completed;
    `exit_code` is None when the scheduler does not tell (or the job ended by a signal).
    """

    id: str
    name: str
    state: str
    status: JobStatus
    outcome: Outcome | None = None
    exit_code: int | None = None
    reason: str = ""
    host: str = ""
    comment: str = ""
    time_limit: int | None = None
    time_left: int | None = None


class Scheduler(ABC):
    """One back-end's scheduler, asked as one user. Every method raises `SchedulerError` or
    `HostError` when it gets no answer it understands: silence is never an empty list."""

    @abstractmethod
    def submit(self, request: JobRequest) -> str:
        """Submit a job and return its id. Raises `LaunchFailed` when the scheduler refuses it."""

    @abstractmethod
    def jobs(self) -> list[Job]:
        """Return this user's jobs: queued, running, and those that ended a few minutes ago."""

    @abstractmethod
    def ended(self, job_id: str) -> Job | None:
        """Return the final facts of a job that `jobs` no longer lists; None: there is no proof."""

    @abstractmethod
    def cancel(self, job_id: str) -> None:
        """End a job, whatever its state. A job that has ended already is not an error."""
