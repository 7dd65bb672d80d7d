"""Parsing the output of `sacct`: how jobs ended, on clusters with an accounting database.

The formats follow Slurm's src/sacct/print.c, versions 22.05 to 25.11. Up to 25.05, sacct subtracts
128 from exit codes of 128 and more.
"""

import re

from ood.schedulers.base import Canceller, Job, JobStatus, Outcome, not_understood
from ood.schedulers.slurm.squeue import HAS_EXIT_CODE, Marks, parse_exit_status
from ood.schedulers.slurm.states import status_of
from ood.schedulers.slurm.values import parse_duration, parse_number, parse_time, parse_tres

SACCT_FIELDS = (
    "JobID,User,UID,Account,Partition,State,ExitCode,NNodes,NodeList,AllocTRES,ReqTRES,Timelimit,"
    "Elapsed,Submit,Start,End,WorkDir,Comment,JobName"
)


def parse_sacct(printed: str, marks: Marks) -> list[Job]:
    """Parse the SACCT_FIELDS of jobs. Raises `SchedulerError`.

    With `--duplicates`, a requeued job appears once for each run, the last run last.
    """
    # A mark ends each field, and a mark with a line end each record. Names and comments may contain
    # line ends themselves.
    *fields, rest = printed.split(marks.unit)
    width = SACCT_FIELDS.count(",") + 1
    if rest.strip() or len(fields) % width:
        raise not_understood(printed)
    return [_job(fields[at : at + width]) for at in range(0, len(fields), width)]


def _job(fields: list[str]) -> Job:
    row = dict(zip(SACCT_FIELDS.split(","), fields, strict=True))
    row["JobID"] = row["JobID"].removeprefix("\n")
    if not row["JobID"][:1].isdigit():
        raise not_understood(str(fields))
    state = row["State"]
    status, outcome = status_of(state)
    code, signal = parse_exit_status(row["ExitCode"]) if outcome in HAS_EXIT_CODE else (None, None)
    cores, memory, gpus = parse_tres(row["AllocTRES"] or row["ReqTRES"])
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
        time_limit=parse_duration(row["Timelimit"]),
        time_used=parse_duration(row["Elapsed"]),
        submitted_at=parse_time(row["Submit"]),
        started_at=parse_time(row["Start"]),
        ended_at=parse_time(row["End"]) if status is JobStatus.COMPLETED else None,
        work_dir=row["WorkDir"],
        comment=row["Comment"],
        cancelled_by=_canceller(state, row["UID"]) if outcome is Outcome.CANCELLED else None,
    )


def _canceller(state: str, owner: str) -> Canceller | None:
    """Who cancelled the job, by a state such as `CANCELLED by 1000`; None if it names nobody."""
    found = re.search(r" by ([0-9]+)", state)
    if found is None:
        return None
    return Canceller.OWNER if found[1] == owner else Canceller.ADMINISTRATOR
