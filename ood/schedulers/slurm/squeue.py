"""Parsing the output of `squeue`: queued jobs, running jobs, and those that ended within the
controller's MinJobAge.

The portal requests each field by name and separates fields with marks that nobody can guess. So
neither a user's SQUEUE_FORMAT nor the name of a job can shift the columns. The formats follow
Slurm's src/squeue/print.c, versions 22.05 to 25.11.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from sys import intern

from ood.schedulers.base import Job, JobStatus, Outcome, Queue, not_understood
from ood.schedulers.slurm.states import status_of
from ood.schedulers.slurm.values import parse_duration, parse_number, parse_time, parse_tres

SQUEUE_FIELDS = (
    "JobArrayID,Name,UserName,Account,Partition,State,Reason,NumNodes,NodeList,NumCPUs,tres-alloc,"
    "TimeLimit,TimeUsed,TimeLeft,SubmitTime,StartTime,EndTime,WorkDir,exit_code,PriorityLong,"
    "Comment"
)
QUEUE_FIELDS = "JobArrayID,Partition,PriorityLong,Reason"
IN_THE_QUEUE = frozenset({"Priority", "Resources", "None", ""})
"""The reasons of jobs that wait only for free resources."""
HAS_EXIT_CODE = frozenset({Outcome.SUCCEEDED, Outcome.FAILED})
"""The outcomes whose exit code is that of the script, because nobody ended the job."""


@dataclass(frozen=True)
class Marks:
    """The ends of a field and of a record in one answer. Slurm accepts any bytes as the name of a
    job, so a user who could guess the marks could write rows into other users' lists."""

    unit: str
    record: str

    @classmethod
    def fresh(cls) -> Marks:
        token = secrets.token_urlsafe(3)  # short, as it follows every field
        return cls(f"\x1f{token}", f"\x1e{token}")

    def format_of(self, fields: str) -> str:
        """The value of `--Format` of squeue or sinfo for `fields`, which are separated by commas.
        `records_of` parses the output."""
        return f"{fields.replace(',', f':{self.unit},')}:{self.record}"


def records_of(printed: str, fields: str, marks: Marks) -> Iterator[list[str]]:
    """The records that `--Format` printed with `marks.format_of(fields)`.

    Raises `SchedulerError` unless all records are complete: a broken answer must not look like an
    empty list.
    """
    *records, rest = printed.split(marks.record)
    if any(not line.startswith("CLUSTER:") for line in rest.split("\n") if line.strip()):
        raise not_understood(rest)
    for record in records:
        found = record.lstrip("\n").split(marks.unit)
        if found[0].startswith("CLUSTER:"):
            found[0] = found[0].partition("\n")[2]
        if len(found) != fields.count(",") + 1:
            raise not_understood(record)
        yield found


def parse_squeue(printed: str, marks: Marks) -> list[Job]:
    """Parse the SQUEUE_FIELDS of jobs. Raises `SchedulerError`."""
    return [_job(record) for record in records_of(printed, SQUEUE_FIELDS, marks)]


def parse_queue(printed: str, marks: Marks) -> Queue:
    """Parse the QUEUE_FIELDS of pending jobs. Raises `SchedulerError`."""
    return Queue(
        (id, partition, parse_number(priority) or 0)
        for id, partition, priority, reason in records_of(printed, QUEUE_FIELDS, marks)
        if reason in IN_THE_QUEUE and id[:1].isdigit()
    )


def _job(fields: list[str]) -> Job:
    if not fields[0][:1].isdigit():
        raise not_understood(str(fields))
    id, name, user, account, partition, state, reason, nodes, host, cpus, tres, *others = fields
    limit, used, left, submitted, started, ended, work_dir, exit_code, priority, comment = others
    status, outcome = status_of(state, reason)
    code, signal = parse_exit_status(exit_code) if outcome in HAS_EXIT_CODE else (None, None)
    cores, memory, gpus = parse_tres(tres)
    return Job(
        id=id,
        name=name,
        # Many jobs share few of these strings.
        user=intern(user),
        account=intern(account) if account != "(null)" else "",
        partition=intern(partition),
        state=intern(state),
        status=status,
        outcome=outcome,
        exit_code=code,
        signal=signal,
        reason="" if reason == "None" else intern(reason),
        nodes=parse_number(nodes.partition("-")[0]),  # "1-4" for a pending job
        host=host,
        cores=cores if cores is not None else parse_number(cpus.partition("-")[0]),
        memory_mib=memory,
        gpus=gpus,
        time_limit=parse_duration(limit),
        time_used=parse_duration(used),
        time_left=parse_duration(left),
        submitted_at=parse_time(submitted),
        started_at=parse_time(started),
        # For a job that has not ended, Slurm reports when its time limit will end it.
        ended_at=parse_time(ended) if status is JobStatus.COMPLETED else None,
        work_dir=work_dir if work_dir != "(null)" else "",
        priority=parse_number(priority),
        comment=comment if comment != "(null)" else "",
    )


@lru_cache(1000)
def parse_exit_status(text: str) -> tuple[int | None, int | None]:
    """Exit code and signal from a wait(2) status, as squeue printed up to 22.05, or from `1:0`. At
    least one of the two is None."""
    code, colon, signal = text.partition(":")
    if not code.isdigit() or (colon and not signal.isdigit()):
        return None, None
    status = int(code)
    killed_by = int(signal) if colon else status & 0x7F
    if killed_by:
        return None, killed_by
    return (status if colon else status >> 8), None
