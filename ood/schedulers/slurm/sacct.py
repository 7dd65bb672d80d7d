"""`sacct`: how jobs ended, where the cluster keeps accounts.

Formats after Slurm's src/sacct/print.c, 22.05 to 25.11. Up to 25.05, exit codes from 128 on have
lost 128.
"""

from __future__ import annotations

import re

from ood.errors import SchedulerError
from ood.schedulers.base import Canceller, Job, JobStatus, Outcome
from ood.schedulers.slurm.squeue import TELLING, Marks, parse_exit_code
from ood.schedulers.slurm.states import status_of
from ood.schedulers.slurm.values import parse_duration, parse_number, parse_time, parse_tres

SACCT_FIELDS = (
    "JobID",
    "User",
    "UID",
    "Account",
    "Partition",
    "State",
    "ExitCode",
    "NNodes",
    "NodeList",
    "AllocTRES",
    "ReqTRES",
    "Timelimit",
    "Elapsed",
    "Submit",
    "Start",
    "End",
    "WorkDir",
    "Comment",
    "JobName",
)


def sacct_options(marks: Marks, *filters: str) -> list[str]:
    """The options of `sacct` for an answer that `parse_sacct` reads."""
    fields = ",".join(SACCT_FIELDS)
    options = ["--noheader", "--parsable", "--allocations", f"--delimiter={marks.unit}"]
    return [*options, *filters, f"--format={fields}"]


def parse_sacct(printed: str, marks: Marks) -> list[Job]:
    """Parse the answer to `sacct` with `sacct_options`. Raises `SchedulerError` for anything else.

    Of a job that was requeued there is one for each of its lives, the last one last.
    """
    # Each field ends with the mark, and each record with a line end after it: the names and
    # comments in between may have line ends of their own.
    *fields, rest = printed.split(marks.unit)
    width = len(SACCT_FIELDS)
    if rest.strip() or len(fields) % width:
        raise SchedulerError("The scheduler's accounting gave a garbled answer.", printed[:500])
    return [_job(fields[at : at + width]) for at in range(0, len(fields), width)]


def _job(fields: list[str]) -> Job:
    row = dict(zip(SACCT_FIELDS, fields, strict=True))
    row["JobID"] = row["JobID"].removeprefix("\n")
    if not row["JobID"][:1].isdigit():
        raise SchedulerError("The scheduler's accounting gave a garbled answer.", str(fields)[:500])
    state = row["State"]
    status, outcome = status_of(state)
    code, signal = parse_exit_code(row["ExitCode"]) if outcome in TELLING else (None, None)
    cores, memory, gpus = parse_tres(row["AllocTRES"] or row["ReqTRES"])
    used, limit = parse_duration(row["Elapsed"]), parse_duration(row["Timelimit"])
    return Job(
        id=row["JobID"],
        name=row["JobName"],
        user=row["User"],
        account=row["Account"],
        partition=row["Partition"],
        state=state,
        status=status,
        outcome=outcome,
        exit_code=code,
        signal=signal,
        nodes=parse_number(row["NNodes"]),
        host="" if row["NodeList"] == "None assigned" else row["NodeList"],
        cores=cores,
        memory_mib=memory,
        gpus=gpus,
        time_limit=limit,
        time_used=used,
        submitted_at=parse_time(row["Submit"]),
        started_at=parse_time(row["Start"]),
        ended_at=parse_time(row["End"]) if status is JobStatus.COMPLETED else None,
        work_dir=row["WorkDir"],
        comment=row["Comment"],
        cancelled_by=_canceller(state, row["UID"]) if outcome is Outcome.CANCELLED else None,
    )


def _canceller(state: str, owner: str) -> Canceller | None:
    """Who is meant by `CANCELLED by 1000`; None when it does not say."""
    found = re.search(r" by ([0-9]+)", state)
    if found is None:
        return None
    return Canceller.OWNER if found[1] == owner else Canceller.ADMINISTRATOR
