"""`squeue`: the jobs in the queue, and those that ended within the controller's MinJobAge.

Fields are asked for one by one, with marks between them that cannot be guessed, so that neither a
user's SQUEUE_FORMAT nor any job name gets between the columns. Formats after Slurm's
src/squeue/print.c, 22.05 to 25.11.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from sys import intern

from ood.errors import SchedulerError
from ood.schedulers.base import Job, JobStatus, Outcome, Queue
from ood.schedulers.slurm.states import status_of
from ood.schedulers.slurm.values import parse_duration, parse_number, parse_time, parse_tres


@dataclass(frozen=True)
class Marks:
    """What ends a field and a record in one answer. Slurm takes any bytes as the name of a job, so
    whoever can guess the marks can write rows into everybody's list."""

    unit: str
    record: str

    @classmethod
    def fresh(cls) -> Marks:
        token = secrets.token_urlsafe(3)  # short: it is in every field
        return cls(f"\x1f{token}", f"\x1e{token}")


SQUEUE_FIELDS = (
    "JobArrayID",
    "Name",
    "UserName",
    "Account",
    "Partition",
    "State",
    "Reason",
    "NumNodes",
    "NodeList",
    "NumCPUs",
    "tres-alloc",
    "TimeLimit",
    "TimeUsed",
    "TimeLeft",
    "SubmitTime",
    "StartTime",
    "EndTime",
    "WorkDir",
    "exit_code",
    "PriorityLong",
    "Comment",
)


QUEUE_FIELDS = ("JobArrayID", "Partition", "PriorityLong", "Reason")
IN_THE_QUEUE = frozenset({"Priority", "Resources", "None", ""})
"""Reasons of jobs that wait for nothing but their turn."""


TELLING = frozenset({Outcome.SUCCEEDED, Outcome.FAILED})
"""Outcomes whose exit code is that of the work, and not of whatever was ended."""


def in_format(fields: Sequence[str], marks: Marks) -> str:
    """For `--Format` of squeue and sinfo: the fields, so that `records_of` can read them."""
    first = [f"{name}:{marks.unit}" for name in fields[:-1]]
    return ",".join([*first, f"{fields[-1]}:{marks.record}"])


def squeue_options(marks: Marks, *filters: str) -> list[str]:
    """The options of `squeue` for an answer that `parse_squeue` reads."""
    return ["--noheader", "--all", *filters, "--Format", in_format(SQUEUE_FIELDS, marks)]


def queue_options(marks: Marks) -> list[str]:
    """The options of `squeue` for an answer that `parse_queue` reads."""
    return ["--noheader", "--states=PENDING", "--Format", in_format(QUEUE_FIELDS, marks)]


def records_of(printed: str, fields: Sequence[str], marks: Marks) -> Iterator[list[str]]:
    """The records in the answer to `--Format` with `in_format(fields, marks)`.

    Raises `SchedulerError` for anything but whole records: a garbled answer must not look like an
    empty one.
    """
    *records, rest = printed.split(marks.record)
    if any(not line.startswith("CLUSTER:") for line in rest.split("\n") if line.strip()):
        raise SchedulerError("The scheduler's answer was cut short.", rest[:500])
    for record in records:
        found = record.lstrip("\n").split(marks.unit)
        if found[0].startswith("CLUSTER:"):
            found[0] = found[0].partition("\n")[2]
        if len(found) != len(fields):
            raise SchedulerError("The scheduler's answer was garbled.", record[:500])
        yield found


def parse_squeue(printed: str, marks: Marks) -> list[Job]:
    """Parse the answer to `squeue` with `squeue_options`. Raises `SchedulerError`."""
    return [_job(record) for record in records_of(printed, SQUEUE_FIELDS, marks)]


def parse_queue(printed: str, marks: Marks) -> Queue:
    """Parse the answer to `squeue` with `queue_options`. Raises `SchedulerError`."""
    return Queue(
        (id, partition, parse_number(priority) or 0)
        for id, partition, priority, reason in records_of(printed, QUEUE_FIELDS, marks)
        if reason in IN_THE_QUEUE and id[:1].isdigit()
    )


def _job(fields: list[str]) -> Job:
    if not fields[0][:1].isdigit():
        raise SchedulerError("The scheduler's answer was garbled.", str(fields)[:500])
    id, name, user, account, partition, state, reason, nodes, host, cpus, tres, *others = fields
    limit, used, left, submitted, started, ended, work_dir, exit_code, priority, comment = others
    status, outcome = status_of(state, reason)
    code, signal = parse_exit_code(exit_code) if outcome in TELLING else (None, None)
    cores, memory, gpus = parse_tres(tres)
    return Job(
        id=id,
        name=name,
        # Of these there are few, and of jobs many.
        user=intern(user),
        account=intern(account) if account != "(null)" else "",
        partition=intern(partition),
        state=intern(state),
        status=status,
        outcome=outcome,
        exit_code=code,
        signal=signal,
        reason="" if reason == "None" else intern(reason),
        nodes=parse_number(nodes.partition("-")[0]),  # "1-4" while it waits
        host=host,
        cores=cores if cores is not None else parse_number(cpus.partition("-")[0]),
        memory_mib=memory,
        gpus=gpus,
        time_limit=parse_duration(limit),
        time_used=parse_duration(used),
        time_left=parse_duration(left),
        submitted_at=parse_time(submitted),
        started_at=parse_time(started),
        # Of a job that has not ended, Slurm tells when its time will be over.
        ended_at=parse_time(ended) if status is JobStatus.COMPLETED else None,
        work_dir=work_dir if work_dir != "(null)" else "",
        priority=parse_number(priority),
        comment=comment if comment != "(null)" else "",
    )


@lru_cache(1000)
def parse_exit_code(text: str) -> tuple[int | None, int | None]:
    """Exit code and signal of a wait(2) status, as squeue printed it up to 22.05, or of `1:0`: one
    of the two is None."""
    code, colon, signal = text.partition(":")
    if not code.isdigit() or (colon and not signal.isdigit()):
        return None, None
    status = int(code)
    killed_by = int(signal) if colon else status & 0x7F
    if killed_by:
        return None, killed_by
    return (status if colon else status >> 8), None
