"""Values, fakes and functions that several unit tests use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ood.config import Cluster
from ood.errors import PortalError
from ood.help_topics import Reason
from ood.hosts.base import Command
from ood.schedulers.base import Job, JobRequest, JobStatus, Outcome, Partition, Queue, Scheduler

NASTY = (
    "",
    " ",
    "two  words",
    "x touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "${x:-$(touch pwned)}",
    "a[$(touch pwned)]",
    "; touch pwned #",
    "&& touch pwned || touch pwned & touch pwned",
    "| touch pwned",
    "<(touch pwned)",
    "> pwned",
    "it's; touch pwned; 'x'",
    'say "hi"; touch pwned; "x"',
    "\ntouch pwned\n",
    "EOF\ntouch pwned\nEOF",
    "back\\slash \\n \\",
    "\\'; touch pwned; \\'",
    "$'\\''; touch pwned",
    "{{ 7*7 }} %s %j %%",
    "-n",
    "--",
    "-rf -- *",
    "*",
    "~",
    "~root",
    "{a,b}",
    "!!",
    "A=b",
    "#hash",
    "tab\tand\rreturn",
    "héllo 🚀 ≤",
    "<script>alert(1)</script>",
    "01234567",
    "no",
    ": {}[]&*!|>'\"%@",
)
"""Values that become code, or another value, wherever quoting is missing. Each tries to create a
file `pwned` in the working directory."""


def cluster(**job_or_portal: object) -> Cluster:
    """A back-end on this machine. Keywords are keys of `v2.custom.portal`."""
    return Cluster.model_validate(
        {
            "id": "here",
            "v2": {
                "metadata": {"title": "This machine"},
                "job": {"adapter": "local"},
                "custom": {"portal": job_or_portal},
            },
        }
    )


def job(
    id: str = "7",
    status: JobStatus = JobStatus.RUNNING,
    *,
    outcome: Outcome | None = None,
    exit_code: int | None = None,
    reason: str = "",
    comment: str = "",
) -> Job:
    return Job(
        id,
        "sys-dashboard-sys-greeter",
        status.upper(),
        status,
        outcome,
        exit_code,
        reason=reason,
        host="node1",
        comment=comment,
        time_limit=3600,
        time_left=60,
    )


def ended(outcome: Outcome, exit_code: int | None = None, reason: str = "") -> Job:
    return job(status=JobStatus.COMPLETED, outcome=outcome, exit_code=exit_code, reason=reason)


class Clock:
    """Replaces the `time` module in a module. Time advances only when a test says so."""

    def __init__(self) -> None:
        self.now = 2_000_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class ScriptedScheduler(Scheduler):
    """A fake scheduler with scripted answers that a real one cannot be made to give.

    Set `answer` to what `jobs` returns or raises; `submits` and `cancels` are what it does.
    """

    def __init__(self) -> None:
        self.answer: Sequence[Job] | Exception = ()
        self.accounting: Sequence[Job] | Exception = ()
        self.asked_of_accounting: list[list[str]] = []
        self.parts: list[Partition] = []
        self.submits: Callable[[JobRequest], str] = lambda _: "7"
        self.asked = 0
        self.cancels: Callable[[str], object] = lambda _: None
        self.cancelled: list[str] = []

    def submit(self, request: JobRequest) -> str:
        return self.submits(request)

    def jobs(self, *, everyones: bool = False) -> list[Job]:  # noqa: ARG002
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return list(self.answer)

    def ended(self, job_ids: Iterable[str]) -> list[Job]:
        self.asked_of_accounting.append(list(job_ids))
        ids = self.asked_of_accounting[-1]
        return [job for job in self.recent() if job.id.partition("_")[0] in ids]

    def recent(self) -> list[Job]:
        if isinstance(self.accounting, Exception):
            raise self.accounting
        return list(self.accounting)

    def partitions(self) -> list[Partition]:
        return self.parts

    def queue(self) -> Queue:
        return Queue(())

    def why_it_waits(
        self,
        job: Job,
        partitions: Sequence[Partition],  # noqa: ARG002
        queue: Queue | None,  # noqa: ARG002
    ) -> Reason:
        return Reason(f"Because of {job.reason}." if job.reason else "")

    def start_on_node(
        self,
        job_id: str,  # noqa: ARG002
        node: str,  # noqa: ARG002
        argv: Sequence[str],  # noqa: ARG002
    ) -> Command:
        raise AssertionError("no test asks this scheduler for it")

    def cancel(self, job_id: str) -> None:
        self.cancels(job_id)
        self.cancelled.append(job_id)


def refuses(error: PortalError) -> Callable[[object], str]:
    """For `submits` and `cancels`."""

    def refuse(_: object) -> str:
        raise error

    return refuse
