"""Slurm, by its command line: each command beside the parser of its answer.

Formats are asked for field by field, with separators that cannot be typed, so that neither a
user's SQUEUE_FORMAT nor a job name with spaces gets between the columns.
"""

from __future__ import annotations

import math
import re

from ood.config import Cluster, JobSettings
from ood.errors import CommandFailed, CommandTimedOut, HostError, LaunchFailed, SchedulerError
from ood.hosts.base import Host
from ood.schedulers.base import Job, JobRequest, JobStatus, Outcome, Scheduler
from ood.schedulers.slurm_refusals import answer_was_lost, refusal

# Seconds. Without munge, for one, every client hangs for minutes.
TIMEOUT = 10.0
LOOK_TIMEOUT = 5.0
"""For `squeue` and `sacct`, which pages wait for."""
UNIT = "\x1f"  # ends a field
RECORD = "\x1e"  # ends a job
JOB_ID = re.compile(r"[0-9]+(_[0-9]+|\+[0-9]+)?")

SQUEUE_FIELDS = (
    "JobArrayID",
    "Name",
    "State",
    "Reason",
    "NodeList",
    "TimeLimit",
    "TimeLeft",
    "exit_code",
    "Comment",
)
SACCT_FIELDS = ("JobID", "JobName", "State", "ExitCode", "NodeList")

HELD_REASONS = frozenset({"JobHeldUser", "JobHeldAdmin"})
STATUSES = {
    "PENDING": JobStatus.QUEUED,
    "CONFIGURING": JobStatus.QUEUED,
    "REQUEUED": JobStatus.QUEUED,
    "REQUEUE_FED": JobStatus.QUEUED,
    "REQUEUE_HOLD": JobStatus.HELD,
    "RESV_DEL_HOLD": JobStatus.HELD,
    "SPECIAL_EXIT": JobStatus.HELD,
    "RUNNING": JobStatus.RUNNING,
    "COMPLETING": JobStatus.RUNNING,
    "RESIZING": JobStatus.RUNNING,
    "SIGNALING": JobStatus.RUNNING,
    "STAGE_OUT": JobStatus.RUNNING,
    "SUSPENDED": JobStatus.SUSPENDED,
    "STOPPED": JobStatus.SUSPENDED,
}
OUTCOMES = {
    "COMPLETED": Outcome.SUCCEEDED,
    "FAILED": Outcome.FAILED,
    "NODE_FAIL": Outcome.FAILED,
    "BOOT_FAIL": Outcome.FAILED,
    "LAUNCH_FAILED": Outcome.FAILED,
    "RECONFIG_FAIL": Outcome.FAILED,
    "CANCELLED": Outcome.CANCELLED,
    "PREEMPTED": Outcome.CANCELLED,
    "REVOKED": Outcome.CANCELLED,
    "TIMEOUT": Outcome.TIMED_OUT,
    "DEADLINE": Outcome.TIMED_OUT,
    "OUT_OF_MEMORY": Outcome.OUT_OF_MEMORY,
}


class Slurm(Scheduler):
    """The Slurm of one cluster, asked as the user of `host`."""

    def __init__(self, cluster: Cluster, job: JobSettings, host: Host) -> None:
        self._cluster = cluster
        self._job = job
        self._host = host

    def submit(self, request: JobRequest) -> str:
        argv = sbatch_options(request, self._cluster.partition)
        try:
            printed = self._run("sbatch", argv, input=request.content.encode())
        except CommandFailed as error:
            if answer_was_lost(error.stderr):
                raise self._silent(error) from error
            raise LaunchFailed(refusal(error.stderr, self._cluster.label), error.stderr) from error
        # "12" or "12;cluster", after anything a site's plugin may print
        lines = printed.split("\n")
        job_id = (lines[-2] if len(lines) > 1 else lines[-1]).partition(";")[0].strip()
        if not JOB_ID.fullmatch(job_id):
            raise SchedulerError(
                f"The scheduler of {self._cluster.label} gave an answer the portal does not "
                "understand. Tell your administrator.",
                detail=printed[:500],
            )
        return job_id

    def jobs(self) -> list[Job]:
        last = len(SQUEUE_FIELDS) - 1
        fields = ",".join(
            f"{name}:{RECORD if at == last else UNIT}" for at, name in enumerate(SQUEUE_FIELDS)
        )
        argv = ["--noheader", "--states=all", "--user", self._host.user, "--Format", fields]
        try:
            return parse_squeue(self._run("squeue", argv, timeout=LOOK_TIMEOUT))
        except CommandFailed as error:
            raise self._silent(error) from error

    def ended(self, job_id: str) -> Job | None:
        if not JOB_ID.fullmatch(job_id):  # from a record that was written by hand
            return None
        argv = ["--noheader", "--parsable2", "--allocations", "--duplicates", "-j", job_id]
        argv += [f"--delimiter={UNIT}", f"--format={','.join(SACCT_FIELDS)}"]
        try:
            jobs = parse_sacct(self._run("sacct", argv, timeout=LOOK_TIMEOUT))
        except CommandFailed as error:
            if "accounting storage is disabled" in error.stderr:
                return None
            raise self._silent(error) from error
        # A requeued job has a line for each of its lives, the last one last.
        return jobs[-1] if jobs and jobs[-1].status is JobStatus.COMPLETED else None

    def cancel(self, job_id: str) -> None:
        if not JOB_ID.fullmatch(job_id):
            raise SchedulerError(f"“{job_id}” is not the number of a job.")
        try:
            self._run("scancel", [job_id])
        except CommandFailed as error:
            if "Invalid job id" in error.stderr:  # it has ended and been forgotten
                return
            raise SchedulerError(
                f"{self._cluster.label} refused to cancel job {job_id}. Try again, or tell your "
                "administrator.",
                error.stderr,
            ) from error

    def _run(
        self, command: str, argv: list[str], input: bytes = b"", timeout: float = TIMEOUT
    ) -> str:
        path = self._job.bin_overrides.get(command)
        if path is None:
            path = f"{self._job.bin}/{command}" if self._job.bin else command
        named = ["-M", self._job.cluster] if self._job.cluster else []
        env = {"LC_ALL": "C.UTF-8"}
        if self._job.conf:
            env["SLURM_CONF"] = self._job.conf
        try:
            return self._host.run([path, *named, *argv], input=input, env=env, timeout=timeout).text
        except CommandTimedOut as error:
            raise self._silent(error) from error

    def _silent(self, error: HostError) -> SchedulerError:
        return SchedulerError(
            f"The scheduler of {self._cluster.label} does not answer right now.",
            f"{error.message} {error.detail}",
        )


def sbatch_options(request: JobRequest, partition: str | None) -> list[str]:
    """The options of `sbatch` for a request; the script itself goes in on standard input."""
    options = [
        "--parsable",
        f"--job-name={request.job_name}",
        f"--chdir={request.workdir}",
        # In a file name, Slurm reads %j and its like.
        f"--output={request.output_path.replace('%', '%%')}",
        f"--comment={request.comment}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={request.cores}",
        # A job that ran half way must not start again by itself.
        "--no-requeue",
    ]
    if request.memory_gib is not None:
        options.append(f"--mem={request.memory_gib}G")
    if request.gpus_per_node:
        options.append(f"--gpus-per-node={request.gpus_per_node}")
    if request.wall_time is not None:
        options.append(f"--time={math.ceil(request.wall_time / 60)}")
    if queue := request.queue_name or partition:
        options.append(f"--partition={queue}")
    return [*options, *request.native]


def parse_squeue(printed: str) -> list[Job]:
    """Parse the answer to `squeue --Format` with SQUEUE_FIELDS.

    Raises `SchedulerError` for anything but whole records: a garbled answer must not look like
    "no jobs".
    """
    *records, rest = printed.split(RECORD)
    if any(not line.startswith("CLUSTER:") for line in rest.split("\n") if line.strip()):
        raise SchedulerError("The scheduler's answer was cut short.", rest[:500])
    jobs = []
    for record in records:
        fields = record.lstrip("\n").split(UNIT)
        if fields[0].startswith("CLUSTER:"):
            fields[0] = fields[0].partition("\n")[2]
        if len(fields) != len(SQUEUE_FIELDS) or not fields[0][:1].isdigit():
            raise SchedulerError("The scheduler's answer was garbled.", record[:500])
        row = dict(zip(SQUEUE_FIELDS, (value.strip() for value in fields), strict=True))
        status, outcome = _status(row["State"], row["Reason"])
        jobs.append(
            Job(
                id=row["JobArrayID"],
                name=row["Name"],
                state=row["State"],
                status=status,
                outcome=outcome,
                exit_code=_wait_status(row["exit_code"]) if outcome else None,
                reason="" if row["Reason"] == "None" else row["Reason"],
                host=row["NodeList"],
                comment=row["Comment"],
                time_limit=parse_duration(row["TimeLimit"]),
                time_left=parse_duration(row["TimeLeft"]),
            )
        )
    return jobs


def parse_sacct(printed: str) -> list[Job]:
    """Parse the answer to `sacct --parsable2` with SACCT_FIELDS. Job names end no line early."""
    jobs = []
    for line in printed.rstrip("\n").split("\n") if printed else ():
        fields = line.split(UNIT)
        if len(fields) != len(SACCT_FIELDS):
            raise SchedulerError("The scheduler's accounting gave a garbled answer.", line[:500])
        row = dict(zip(SACCT_FIELDS, fields, strict=True))
        status, outcome = _status(row["State"], "")
        code, _, signal = row["ExitCode"].partition(":")
        known = outcome is not None and code.isdigit() and signal in ("", "0")
        jobs.append(
            Job(
                id=row["JobID"],
                name=row["JobName"],
                state=row["State"],
                status=status,
                outcome=outcome,
                exit_code=int(code) if known else None,
                host=row["NodeList"],
            )
        )
    return jobs


def parse_duration(text: str) -> int | None:
    """Seconds of `[days-]hours:minutes:seconds` or `minutes:seconds`; None: there is no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not found:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _status(state: str, reason: str) -> tuple[JobStatus, Outcome | None]:
    word = state.split(" ")[0].rstrip("+")  # "CANCELLED by 1000", "CANCELLED+"
    if word in OUTCOMES:
        return JobStatus.COMPLETED, OUTCOMES[word]
    if word == "PENDING" and reason in HELD_REASONS:
        return JobStatus.HELD, None
    return STATUSES.get(word, JobStatus.UNDETERMINED), None


def _wait_status(text: str) -> int | None:
    """The exit code in a wait(2) status, as squeue prints it; None when a signal ended the job."""
    if not text.isdigit() or int(text) & 0x7F:
        return None
    return int(text) >> 8
