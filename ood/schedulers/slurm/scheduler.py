"""One cluster's Slurm, used through its commands."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from ood.config import Cluster, JobSettings
from ood.errors import CommandFailed, CommandTimedOut, HostError, LaunchFailed, SchedulerError
from ood.help_topics import Reason
from ood.hosts.base import Command, Host
from ood.schedulers import base
from ood.schedulers.base import NO_ANSWER, Job, JobRequest, NodeNames, Partition, Queue
from ood.schedulers.slurm import sacct, sinfo, squeue
from ood.schedulers.slurm.reasons import why_it_waits
from ood.schedulers.slurm.refusals import answer_was_lost, refusal
from ood.schedulers.slurm.squeue import Marks
from ood.schedulers.slurm.values import ENVIRONMENT

# Seconds. Slurm's own commands can hang for minutes, for example when munge does not run.
CHANGE_TIMEOUT = 10.0
QUERY_TIMEOUT = 5.0
EVERYONES_TIMEOUT = 20.0  # for queries about all users' jobs
MAX_OUTPUT = 32 * 2**20  # bytes: squeue prints about 300 for a job
RECENT = ("now-24hours", "now-23hours", "now-1hours")
"""Since when recent jobs are listed. MaxQueryTimeRange of slurmdbd may allow only a later time."""
TOO_WIDE = "Too wide of a date range"
FAILED = re.compile(r"^(sacct: error: |slurm_load_\w+ error: )", re.MULTILINE)
"""What commands print that got no answer, some of them with exit code 0."""
SLURM_JOB_ID = re.compile(r"[0-9]+(_[0-9]+|\+[0-9]+)?")
TASKS = re.compile(r"([0-9]+)_\[([0-9,:-]+)(?:%[0-9]+)?\]")
NODES = re.compile(r"-N|--nodes\b")
MAX_TASKS = 10_000
OF_A_LOGIN = """
    SSH_AGENT_PID SSH_ASKPASS SSH_AUTH_SOCK SSH_CLIENT SSH_CONNECTION SSH_ORIGINAL_COMMAND SSH_TTY
    XDG_RUNTIME_DIR XDG_SEAT XDG_SESSION_CLASS XDG_SESSION_ID XDG_SESSION_TYPE XDG_VTNR
    DBUS_SESSION_BUS_ADDRESS DBUS_SYSTEM_BUS_ADDRESS DISPLAY WAYLAND_DISPLAY XAUTHORITY
    INVOCATION_ID JOURNAL_STREAM NOTIFY_SOCKET LISTEN_FDS LISTEN_PID LISTEN_FDNAMES STY TMUX
    TMUX_PANE"""
"""Variables that mean nothing outside the login, or the service, that submits a job."""


class Slurm(base.Scheduler):
    """Slurm as the user of `host`."""

    def __init__(self, cluster: Cluster, job: JobSettings, host: Host) -> None:
        self._cluster = cluster
        self._job = job
        self._host = host
        self._env = {"SLURM_CONF": job.conf} if job.conf else {}

    def submit(self, request: JobRequest) -> str:
        argv = sbatch_options(request, self._cluster.partition)
        argv = [
            "env",
            *(f"-u{name}" for name in OF_A_LOGIN.split()),
            *self._command("sbatch", argv),
        ]
        try:
            printed = self._run(argv, input=request.content.encode())
        except CommandFailed as error:
            if answer_was_lost(error.stderr):
                raise _no_answer(error) from error
            reason = refusal(error.stderr, self._cluster.label)
            raise LaunchFailed(reason.text, error.stderr, topic=reason.topic) from error
        # "12" or "12;cluster", after anything that a site's plugin printed
        lines = printed.split("\n")
        job_id = (lines[-2] if len(lines) > 1 else lines[-1]).partition(";")[0].strip()
        if not SLURM_JOB_ID.fullmatch(job_id):
            raise base.not_understood(printed)
        return job_id

    def jobs(self, *, everyones: bool = False) -> list[Job]:
        whose = [] if everyones else ["--user", self._host.user]
        timeout = EVERYONES_TIMEOUT if everyones else QUERY_TIMEOUT
        options = ["--all", "--states=all", *whose]
        found = self._list("squeue", squeue.SQUEUE_FIELDS, *options, timeout=timeout)
        return squeue.parse_squeue(*found)

    def ended(self, job_ids: Iterable[str]) -> list[Job]:
        # Users can edit session records, so an ID may be anything.
        known = [job_id for job_id in job_ids if SLURM_JOB_ID.fullmatch(job_id)]
        if not known:
            return []
        # Accounting may also hold other jobs with the same IDs, from before they were used again.
        ids = ",".join(sorted(known))
        runs = self._accounting("--duplicates", "--user", self._host.user, "-j", ids)
        # Of a requeued job, the last run counts.
        return list({(job.id, job.name, job.comment): job for job in runs}.values())

    def recent(self) -> list[Job]:
        for start in RECENT:
            try:
                return self._accounting("--user", self._host.user, "--starttime", start)
            except SchedulerError as error:
                if TOO_WIDE not in error.detail:
                    raise
        return []

    def partitions(self) -> list[Partition]:
        nodes = self._list("sinfo", sinfo.SINFO_FIELDS, "--all", "--Node", "--exact")
        printed = self._query("scontrol", ["--all", "--oneliner", "show", "partition"])
        return sinfo.parse_partitions(printed, sinfo.parse_sinfo(*nodes))

    def queue(self) -> Queue | None:
        if sinfo.others_are_hidden(self._query("scontrol", ["show", "config"])):
            return None
        options = ["--states=PENDING"]
        found = self._list("squeue", squeue.QUEUE_FIELDS, *options, timeout=EVERYONES_TIMEOUT)
        return squeue.parse_queue(*found)

    def nodes_of(self, job_host: str) -> list[NodeNames]:
        return sinfo.parse_nodes(
            self._query("scontrol", ["--all", "--oneliner", "show", "node", job_host])
        )

    def why_it_waits(
        self, job: Job, partitions: Sequence[Partition], queue: Queue | None
    ) -> Reason:
        return why_it_waits(job, partitions, queue)

    def start_on_node(self, job_id: str, node: str, argv: Sequence[str]) -> Command:
        if not SLURM_JOB_ID.fullmatch(job_id):
            raise base.invalid_job_id(job_id)
        options = [
            f"--jobid={job_id}",
            f"--nodelist={node}",
            "--nodes=1",
            "--ntasks=1",
            "--overlap",  # share the resources that the job's script uses
            "--mpi=none",
            "--chdir=/",
            "--quiet",
        ]
        return self._host.start(self._command("srun", [*options, *argv]), env=self._env)

    def version(self) -> str:
        """What `sbatch` says of its version. Raises `SchedulerError` and `HostError`."""
        return self._query("sbatch", ["--version"]).strip()

    def run_on_node(self, argv: Sequence[str], seconds: int) -> str:
        """Run a command in a small job that starts within `seconds`. Return what it prints. Raises
        `SchedulerError` and `HostError`."""
        partition = [f"--partition={self._cluster.partition}"] if self._cluster.partition else []
        options = [*partition, f"--immediate={seconds}", "--time=1", "--ntasks=1", "--chdir=/"]
        return self._query("srun", [*options, "--quiet", *argv], timeout=seconds + CHANGE_TIMEOUT)

    def cancel(self, job_id: str) -> None:
        if not SLURM_JOB_ID.fullmatch(job_id) and not TASKS.fullmatch(job_id):
            raise base.invalid_job_id(job_id)
        try:
            self._run(self._command("scancel", [for_scancel(job_id)]))
        except CommandFailed as error:
            if "Invalid job id" in error.stderr:  # Slurm has purged the record of the ended job
                return
            raise SchedulerError(
                f"{self._cluster.label} refused to cancel job {job_id}. Try again, or tell your "
                "administrator.",
                error.stderr,
            ) from error

    def _accounting(self, *filters: str) -> list[Job]:
        """Jobs from the accounting database; empty if the cluster has none."""
        marks = Marks.fresh()
        argv = ["--noheader", "--parsable", "--allocations", f"--delimiter={marks.unit}"]
        argv += [*filters, f"--format={sacct.SACCT_FIELDS}"]
        try:
            return sacct.parse_sacct(self._query("sacct", argv), marks)
        except SchedulerError as error:
            if "accounting storage is disabled" in error.detail:
                return []
            raise

    def _list(
        self, command: str, fields: str, *options: str, timeout: float = QUERY_TIMEOUT
    ) -> tuple[str, Marks]:
        """Run `squeue` or `sinfo`. Returns its output, and the marks that separate the fields."""
        marks = Marks.fresh()
        argv = ["--noheader", *options, "--Format", marks.format_of(fields)]
        return self._query(command, argv, timeout), marks

    def _query(self, command: str, argv: list[str], timeout: float = QUERY_TIMEOUT) -> str:
        """Run a command that changes nothing. Raises `SchedulerError` if it fails."""
        try:
            return self._run(self._command(command, argv), timeout=timeout, env=ENVIRONMENT)
        except CommandFailed as error:
            raise _no_answer(error) from error

    def _run(
        self,
        argv: list[str],
        input: bytes = b"",
        timeout: float = CHANGE_TIMEOUT,
        env: Mapping[str, str] | None = None,
    ) -> str:
        env = {**self._env, **(env or {})}
        try:
            result = self._host.run(
                argv, input=input, env=env, timeout=timeout, max_output=MAX_OUTPUT
            )
        except CommandTimedOut as error:
            raise _no_answer(error) from error
        stderr = result.stderr.decode("utf-8", "replace")
        if not result.stdout.strip() and FAILED.search(stderr):
            raise SchedulerError(NO_ANSWER, stderr)
        return result.text

    def _command(self, command: str, argv: Sequence[str]) -> list[str]:
        """The command line of one of Slurm's commands."""
        path = self._job.bin_overrides.get(command)
        if path is None:
            path = f"{self._job.bin}/{command}" if self._job.bin else command
        return [path, *(["-M", self._job.cluster] if self._job.cluster else []), *argv]


def _no_answer(error: HostError) -> SchedulerError:
    return SchedulerError(NO_ANSWER, f"{error.message} {error.detail}")


def for_scancel(job_id: str) -> str:
    """Convert a job ID printed by `squeue` into one that `scancel` accepts."""
    tasks = TASKS.fullmatch(job_id)
    if tasks is None:
        return job_id.partition("+")[0]  # a heterogeneous job is cancelled as a whole
    return f"{tasks[1]}_[{','.join(map(_without_step, tasks[2].split(',')))}]"


def _without_step(tasks: str) -> str:
    """`0,4,8` for `0-8:4`."""
    found = re.fullmatch(r"([0-9]+)-([0-9]+):([0-9]+)", tasks)
    if found is None:
        return tasks
    first, last, step = (int(number) for number in found.groups())
    return ",".join(map(str, range(first, last + 1, step or 1)[:MAX_TASKS]))


def sbatch_options(request: JobRequest, partition: str | None) -> list[str]:
    """The options of `sbatch` for a request. Its script goes to standard input."""
    options = [
        "--parsable",
        f"--job-name={request.job_name}",
        f"--chdir={request.workdir}",
        # Slurm replaces %j and the like in file names.
        f"--output={request.output_path.replace('%', '%%')}",
        f"--comment={request.comment}",
        "--nodes=1",
        # With one task, Slurm would ignore an app's request for several nodes.
        *([] if any(NODES.match(option) for option in request.native) else ["--ntasks=1"]),
        f"--cpus-per-task={request.cores}",
        # Slurm must not restart a job after a failure of its node.
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
