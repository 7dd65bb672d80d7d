"""The Slurm of one cluster, asked as one user."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from ood.config import Cluster, JobSettings
from ood.errors import CommandFailed, CommandTimedOut, HostError, LaunchFailed, SchedulerError
from ood.help_topics import Reason
from ood.hosts.base import Command, Host
from ood.schedulers.base import SILENCE, Job, JobRequest, Partition, Queue, Scheduler
from ood.schedulers.slurm.reasons import why_it_waits
from ood.schedulers.slurm.refusals import answer_was_lost, refusal
from ood.schedulers.slurm.sacct import parse_sacct, sacct_options
from ood.schedulers.slurm.sinfo import (
    others_are_hidden,
    parse_partitions,
    parse_sinfo,
    sinfo_options,
)
from ood.schedulers.slurm.squeue import (
    Marks,
    parse_queue,
    parse_squeue,
    queue_options,
    squeue_options,
)
from ood.schedulers.slurm.values import ENVIRONMENT

# Seconds. Without munge, for one, every client hangs for minutes.
TIMEOUT = 10.0
LOOK_TIMEOUT = 5.0
"""For what only asks."""
ALL_TIMEOUT = 20.0
"""For what asks about everybody's jobs."""
RECENT = "now-24hours"
JOB_ID = re.compile(r"[0-9]+(_[0-9]+|\+[0-9]+)?")
TASKS = re.compile(r"([0-9]+)_\[([0-9,:-]+)(?:%[0-9]+)?\]")
MAX_TASKS = 10_000


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
            why = refusal(error.stderr, self._cluster.label)
            raise LaunchFailed(why.text, error.stderr, topic=why.topic) from error
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

    def jobs(self, *, everyones: bool = False) -> list[Job]:
        whose = [] if everyones else ["--user", self._host.user]
        timeout = ALL_TIMEOUT if everyones else LOOK_TIMEOUT
        marks = Marks.fresh()
        argv = squeue_options(marks, "--states=all", *whose)
        return parse_squeue(self._look("squeue", argv, timeout=timeout), marks)

    def ended(self, job_ids: Iterable[str]) -> list[Job]:
        # An id from a record that was written by hand may be anything.
        known = [job_id for job_id in job_ids if JOB_ID.fullmatch(job_id)]
        if not known:
            return []
        # A requeued job has a line for each of its lives, the last one last.
        lives = self._accounts("--duplicates", "-j", ",".join(sorted(known)))
        return list({job.id: job for job in lives}.values())

    def recent(self) -> list[Job]:
        return self._accounts("--user", self._host.user, "--starttime", RECENT)

    def partitions(self) -> list[Partition]:
        marks = Marks.fresh()
        nodes = parse_sinfo(self._look("sinfo", sinfo_options(marks)), marks)
        argv = ["--all", "--oneliner", "show", "partition"]
        return parse_partitions(self._look("scontrol", argv), nodes)

    def queue(self) -> Queue | None:
        if others_are_hidden(self._look("scontrol", ["show", "config"])):
            return None
        marks = Marks.fresh()
        argv = queue_options(marks)
        return parse_queue(self._look("squeue", argv, timeout=ALL_TIMEOUT), marks)

    def why(self, job: Job, partitions: Sequence[Partition], queue: Queue | None) -> Reason:
        return why_it_waits(job, partitions, queue)

    def start_on_node(self, job_id: str, node: str, argv: Sequence[str]) -> Command:
        if not JOB_ID.fullmatch(job_id):
            raise SchedulerError(f"“{job_id}” is not the number of a job.")
        options = [
            f"--jobid={job_id}",
            f"--nodelist={node}",
            "--nodes=1",
            "--ntasks=1",
            "--overlap",  # beside what the job itself runs, which has all that was asked for
            "--mpi=none",
            "--chdir=/",
            "--quiet",
        ]
        line, env = self._command("srun", [*options, *argv])
        return self._host.start(line, env=env)

    def cancel(self, job_id: str) -> None:
        if not JOB_ID.fullmatch(job_id) and not TASKS.fullmatch(job_id):
            raise SchedulerError(f"“{job_id}” is not the number of a job.")
        try:
            self._run("scancel", [for_scancel(job_id)])
        except CommandFailed as error:
            if "Invalid job id" in error.stderr:  # it has ended and been forgotten
                return
            raise SchedulerError(
                f"{self._cluster.label} refused to cancel job {job_id}. Try again, or tell your "
                "administrator.",
                error.stderr,
            ) from error

    def _accounts(self, *filters: str) -> list[Job]:
        marks = Marks.fresh()
        try:
            return parse_sacct(self._look("sacct", sacct_options(marks, *filters)), marks)
        except SchedulerError as error:
            if "accounting storage is disabled" in error.detail:
                return []
            raise

    def _look(self, command: str, argv: list[str], timeout: float = LOOK_TIMEOUT) -> str:
        """Ask for something that changes nothing. Raises `SchedulerError` when nobody answers."""
        try:
            return self._run(command, argv, timeout=timeout, env=ENVIRONMENT)
        except CommandFailed as error:
            raise self._silent(error) from error

    def _run(
        self,
        command: str,
        argv: list[str],
        input: bytes = b"",
        timeout: float = TIMEOUT,
        env: Mapping[str, str] | None = None,
    ) -> str:
        line, settings = self._command(command, argv)
        env = {**settings, **(env or {})}
        try:
            done = self._host.run(line, input=input, env=env, timeout=timeout)
        except CommandTimedOut as error:
            raise self._silent(error) from error
        return done.text

    def _command(self, command: str, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """The words of one of Slurm's commands, and what is added to its environment."""
        path = self._job.bin_overrides.get(command)
        if path is None:
            path = f"{self._job.bin}/{command}" if self._job.bin else command
        named = ["-M", self._job.cluster] if self._job.cluster else []
        settings = {"LC_ALL": "C.UTF-8"}
        if self._job.conf:
            settings["SLURM_CONF"] = self._job.conf
        return [path, *named, *argv], settings

    @staticmethod
    def _silent(error: HostError) -> SchedulerError:
        return SchedulerError(SILENCE, f"{error.message} {error.detail}")


def for_scancel(job_id: str) -> str:
    """The id of a job as `scancel` takes it: not always as squeue prints it."""
    tasks = TASKS.fullmatch(job_id)
    if tasks is None:
        return job_id.partition("+")[0]  # the parts of a heterogeneous job live together
    stepped = ",".join(map(_spelt_out, tasks[2].split(",")))
    return f"{tasks[1]}_[{stepped}]"


def _spelt_out(tasks: str) -> str:
    """`0-8:4` as `0,4,8`."""
    found = re.fullmatch(r"([0-9]+)-([0-9]+):([0-9]+)", tasks)
    if found is None:
        return tasks
    first, last, step = (int(number) for number in found.groups())
    return ",".join(map(str, range(first, last + 1, step or 1)[:MAX_TASKS]))


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
