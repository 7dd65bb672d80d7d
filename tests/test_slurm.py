"""Slurm's answers, as its commands print them, and the commands that ask for them.

The answers are written as Slurm 22.05 prints them; where a whole command is needed, a script in
`bin` says what the real one would. The real Slurm is asked by the tests on the devcluster.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ood.config import Cluster
from ood.errors import LaunchFailed, SchedulerError
from ood.hosts.local import LocalHost
from ood.schedulers.base import Job, JobRequest, JobStatus, Outcome
from ood.schedulers.slurm import squeue as squeue_room
from ood.schedulers.slurm.refusals import refusal
from ood.schedulers.slurm.sacct import SACCT_FIELDS
from ood.schedulers.slurm.sacct import parse_sacct as parse_sacct_with
from ood.schedulers.slurm.scheduler import Slurm, sbatch_options
from ood.schedulers.slurm.squeue import SQUEUE_FIELDS, Marks
from ood.schedulers.slurm.values import parse_duration
from tests.helpers import NASTY

UNIT, RECORD = "\x1f", "\x1e"
MARKS = Marks(UNIT, RECORD)
REQUEST = JobRequest(
    content="#!/bin/bash\necho 'héllo $(id)'\n",
    workdir="/home/ada/a b",
    output_path="/home/ada/a b/out-%j.log",
    job_name="my job",
    comment="ood-session:1",
)


@pytest.fixture(autouse=True)
def marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what commands of ours print, who cannot know the marks."""
    monkeypatch.setattr(Marks, "fresh", lambda: MARKS)


def parse_squeue(printed: str) -> list[Job]:
    return squeue_room.parse_squeue(printed, MARKS)


def parse_sacct(printed: str) -> list[Job]:
    return parse_sacct_with(printed, MARKS)


def squeue(**values: str) -> str:
    """One record as `squeue --Format` prints it."""
    defaults = {
        "JobArrayID": "12",
        "Name": "hello",
        "UserName": "ada",
        "Account": "(null)",
        "Partition": "work",
        "State": "RUNNING",
        "Reason": "None",
        "NumNodes": "1",
        "NodeList": "node1",
        "NumCPUs": "2",
        "tres-alloc": "cpu=2,mem=1G,node=1,billing=2,gres/gpu=1",
        "TimeLimit": "1:00:00",
        "TimeUsed": "0:30",
        "TimeLeft": "59:30",
        "SubmitTime": "2026-11-23T12:00:00",
        "StartTime": "2026-11-23T12:00:01",
        "EndTime": "2026-11-23T13:00:01",
        "WorkDir": "/home/ada",
        "exit_code": "0",
        "PriorityLong": "4294901758",
        "Comment": "ood-session:1",
    }
    assert list(defaults) == SQUEUE_FIELDS.split(",")
    return UNIT.join((defaults | values).values()) + RECORD


def sacct(
    id: str = "12", name: str = "hello", state: str = "COMPLETED", code: str = "0:0", **values: str
) -> str:
    """One line as `sacct` prints it."""
    defaults = {
        "JobID": id,
        "User": "ada",
        "UID": "1000",
        "Account": "",
        "Partition": "work",
        "State": state,
        "ExitCode": code,
        "NNodes": "1",
        "NodeList": "node1",
        "AllocTRES": "billing=2,cpu=2,gres/gpu=1,mem=1G,node=1",
        "ReqTRES": "billing=2,cpu=2,gres/gpu=1,mem=1G,node=1",
        "Timelimit": "01:00:00",
        "Elapsed": "00:00:30",
        "Submit": "2026-11-23T12:00:00",
        "Start": "2026-11-23T12:00:01",
        "End": "2026-11-23T12:00:31",
        "WorkDir": "/home/ada",
        "Comment": "ood-session:1",
        "JobName": name,
    }
    assert list(defaults) == SACCT_FIELDS.split(",")
    return "".join(f"{value}{UNIT}" for value in (defaults | values).values()) + "\n"


# ---- squeue


def test_a_running_job() -> None:
    (job,) = parse_squeue(squeue() + "\n")
    assert (job.id, job.name, job.state, job.status) == (
        *("12", "hello", "RUNNING"),
        JobStatus.RUNNING,
    )
    assert (job.host, job.comment, job.reason) == ("node1", "ood-session:1", "")
    assert (job.time_limit, job.time_left) == (3600, 3570)
    assert (job.outcome, job.exit_code) == (None, None)


def test_no_jobs_is_an_answer() -> None:
    assert parse_squeue("") == parse_squeue("\n") == []


def test_the_header_of_a_named_cluster_is_no_job() -> None:
    header = "CLUSTER: alpha\n"
    assert parse_squeue(header) == []
    jobs = parse_squeue(f"{header}{squeue()}\n{squeue(JobArrayID='13')}\n")
    assert [job.id for job in jobs] == ["12", "13"]
    two = parse_squeue(f"{header}{squeue()}\nCLUSTER: beta\n{squeue(JobArrayID='14')}\n")
    assert [job.id for job in two] == ["12", "14"]


@pytest.mark.parametrize("id", ["12_[1-5]", "12_3", "12_[1,3-5%2]"])
def test_jobs_of_an_array(id: str) -> None:
    assert parse_squeue(squeue(JobArrayID=id))[0].id == id


@pytest.mark.parametrize("value", [v for v in NASTY if v == v.strip()], ids=ascii)
def test_a_name_or_comment_does_not_shift_the_columns(value: str) -> None:
    (job,) = parse_squeue(squeue(Name=value, Comment=value) + "\n")
    assert (job.name, job.comment, job.status) == (value, value, JobStatus.RUNNING)


def test_bytes_that_are_not_utf8_do_no_harm(tmp_path: Path) -> None:
    slurm = a_slurm(tmp_path, squeue=f"printf '{squeue(Name='caf')}' | sed 's/caf/caf\\xe9/'")
    (job,) = slurm.jobs()
    assert (job.id, job.name) == ("12", "caf\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize(
    "printed",
    [
        squeue()[:-1],
        squeue() + squeue()[:-20],
        squeue() + "slurm_load_jobs error: Unexpected message received",
        "Invalid job id specified",
        f"hello{RECORD}",
        squeue().replace(UNIT, " "),
        squeue(Name=f"one{UNIT}two"),
        squeue(JobArrayID=""),
        squeue(JobArrayID="N/A"),
        RECORD,
    ],
    ids=ascii,
)
def test_what_is_not_whole_is_no_answer(printed: str) -> None:
    with pytest.raises(SchedulerError):
        parse_squeue(printed)


@pytest.mark.parametrize(
    ("state", "reason", "status", "outcome"),
    [
        ("PENDING", "Resources", JobStatus.QUEUED, None),
        ("PENDING", "JobHeldUser", JobStatus.HELD, None),
        ("PENDING", "JobHeldAdmin", JobStatus.HELD, None),
        ("CONFIGURING", "None", JobStatus.QUEUED, None),
        ("COMPLETING", "None", JobStatus.RUNNING, None),
        ("SUSPENDED", "None", JobStatus.SUSPENDED, None),
        ("STOPPED", "None", JobStatus.SUSPENDED, None),
        ("REQUEUE_HOLD", "None", JobStatus.HELD, None),
        ("COMPLETED", "None", JobStatus.COMPLETED, Outcome.SUCCEEDED),
        ("FAILED", "NonZeroExitCode", JobStatus.COMPLETED, Outcome.FAILED),
        ("NODE_FAIL", "None", JobStatus.COMPLETED, Outcome.FAILED),
        ("CANCELLED", "None", JobStatus.COMPLETED, Outcome.CANCELLED),
        ("PREEMPTED", "None", JobStatus.COMPLETED, Outcome.CANCELLED),
        ("TIMEOUT", "TimeLimit", JobStatus.COMPLETED, Outcome.TIMED_OUT),
        ("DEADLINE", "None", JobStatus.COMPLETED, Outcome.TIMED_OUT),
        ("OUT_OF_MEMORY", "OutOfMemory", JobStatus.COMPLETED, Outcome.OUT_OF_MEMORY),
        ("A_NEW_STATE", "None", JobStatus.UNDETERMINED, None),
        ("", "None", JobStatus.UNDETERMINED, None),
    ],
)
def test_states(state: str, reason: str, status: JobStatus, outcome: Outcome | None) -> None:
    (job,) = parse_squeue(squeue(State=state, Reason=reason))
    assert (job.status, job.outcome) == (status, outcome)
    assert job.reason == ("" if reason == "None" else reason)


@pytest.mark.parametrize(
    ("wait_status", "code"), [("0", 0), ("256", 1), ("32512", 127), ("15", None), ("", None)]
)
def test_exit_codes_are_in_a_wait_status(wait_status: str, code: int | None) -> None:
    assert parse_squeue(squeue(State="FAILED", exit_code=wait_status))[0].exit_code == code
    assert parse_squeue(squeue(State="RUNNING", exit_code=wait_status))[0].exit_code is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:00", 0),
        ("59:30", 3570),
        ("1:00:00", 3600),
        ("2-03:04:05", 183_845),
        ("365-00:00:00", 31_536_000),
        ("UNLIMITED", None),
        ("NOT_SET", None),
        ("INVALID", None),
        ("N/A", None),
        ("(null)", None),
        ("", None),
        ("-5:00", None),
        ("1:2:3:4", None),
    ],
)
def test_durations(text: str, seconds: int | None) -> None:
    assert parse_duration(text) == seconds
    (job,) = parse_squeue(squeue(TimeLimit=text, TimeLeft=text))
    assert (job.time_limit, job.time_left) == (seconds, seconds)


# ---- sacct


@pytest.mark.parametrize(
    ("state", "code", "outcome", "exit_code"),
    [
        ("COMPLETED", "0:0", Outcome.SUCCEEDED, 0),
        ("FAILED", "3:0", Outcome.FAILED, 3),
        ("FAILED", "0:9", Outcome.FAILED, None),
        ("CANCELLED by 1000", "0:15", Outcome.CANCELLED, None),
        ("CANCELLED+", "0:0", Outcome.CANCELLED, None),
        ("TIMEOUT", "0:0", Outcome.TIMED_OUT, None),
        ("OUT_OF_MEMORY", "0:125", Outcome.OUT_OF_MEMORY, None),
        ("NODE_FAIL", "", Outcome.FAILED, None),
    ],
)
def test_accounting(state: str, code: str, outcome: Outcome, exit_code: int | None) -> None:
    (job,) = parse_sacct(sacct(state=state, code=code))
    assert (job.id, job.status, job.outcome, job.exit_code) == (
        *("12", JobStatus.COMPLETED),
        *(outcome, exit_code),
    )
    assert job.host == "node1"


@pytest.mark.parametrize(
    "name",
    ["two words", "it's", "a|b", "tab\there", "a\u2028b", "a\x85b", "two\nlines", "\nfirst"],
)
def test_names_in_accounting(name: str) -> None:
    (job,) = parse_sacct(sacct(name=name))
    assert (job.name, job.outcome) == (name, Outcome.SUCCEEDED)


@pytest.mark.parametrize(
    "printed",
    [
        sacct()[:-9],
        "slurmdbd: down\n",
        "12|a|b|c|d\n",
        f"12{UNIT}x\n",
        sacct()[:-12] + "\n",
        f"x{sacct()}",
        sacct() + "lost",
    ],
)
def test_garbled_accounting_is_no_answer(printed: str) -> None:
    with pytest.raises(SchedulerError, match="cannot read"):
        parse_sacct(printed)


# ---- What sbatch is asked, and why it says no


def test_options_of_a_plain_request() -> None:
    assert sbatch_options(REQUEST, None) == [
        "--parsable",
        "--job-name=my job",
        "--chdir=/home/ada/a b",
        "--output=/home/ada/a b/out-%%j.log",
        "--comment=ood-session:1",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=1",
        "--no-requeue",
    ]


@pytest.mark.parametrize(
    ("asked", "partition", "options"),
    [
        ({"cores": 4}, None, {"--cpus-per-task=4"}),
        ({"memory_gib": 8}, None, {"--mem=8G"}),
        ({"gpus_per_node": 2}, None, {"--gpus-per-node=2"}),
        ({"wall_time": 3600}, None, {"--time=60"}),
        ({"wall_time": 61}, None, {"--time=2"}),
        ({}, "lab", {"--partition=lab"}),
        ({"queue_name": "gpu"}, "lab", {"--partition=gpu"}),
        ({"native": ["--exclusive", "-A", "x y"]}, None, {"--exclusive", "-A", "x y"}),
    ],
)
def test_options_of_what_is_asked_for(
    asked: dict[str, Any], partition: str | None, options: set[str]
) -> None:
    plain = sbatch_options(REQUEST, None)
    found = sbatch_options(replace(REQUEST, **asked), partition)
    assert set(found) - set(plain) == options


@pytest.mark.parametrize("native", [["--nodes=2"], ["--nodes", "2"], ["-N2"], ["-N", "2"]])
def test_an_app_may_ask_for_several_nodes(native: list[str]) -> None:
    found = sbatch_options(replace(REQUEST, native=native), None)
    assert "--ntasks=1" not in found
    assert found[-len(native) :] == native


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "sbatch: error: Memory specification can not be satisfied\n"
            "sbatch: error: Batch job submission failed: Requested node configuration is not "
            "available",
            "Alpha has no node with that much memory. Request less memory.",
        ),
        (
            "sbatch: error: CPU count per node can not be satisfied\nsbatch: error: Batch job ...",
            "Alpha has no node with that many cores. Request fewer cores.",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested node configuration is not "
            "available",
            "Alpha has no node with that many cores, that much memory or those GPUs. Request less.",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested time limit is invalid "
            "(missing or exceeds some limit)",
            "Alpha does not allow jobs that long. Request less time.",
        ),
        ("sbatch: error: Invalid generic resource (gres) specification", "Alpha has no GPUs."),
        ("sbatch: error: invalid partition specified: lab", "Tell your administrator."),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition "
            "combination specified",
            "You do not have permission to submit jobs to Alpha.",
        ),
        (
            "\nsbatch: error: Projects may not run on {days} like this\nsbatch: error: more",
            "Alpha refused the job: Projects may not run on {days} like this. Change the values in "
            "the form, or ask your administrator for help.",
        ),
        ("", "Alpha refused the job: no reason given."),
    ],
)
def test_a_refusal_is_one_sentence(said: str, sentence: str) -> None:
    found = refusal(said, "Alpha")
    assert sentence in found.text
    assert found.topic is not None
    assert "\n" not in found.text


# ---- The commands


def a_slurm(directory: Path, named: str | None = None, **commands: str) -> Slurm:
    """A Slurm whose commands are these shell scripts."""
    found = directory / "bin"
    found.mkdir()
    for name, script in commands.items():
        (found / name).write_text(f"#!/bin/bash\n{script}\n")
        (found / name).chmod(0o700)
    job = {"adapter": "slurm", "bin": str(found), "cluster": named, "conf": "/etc/s.conf"}
    cluster = Cluster.model_validate(
        {"id": "alpha", "v2": {"metadata": {"title": "Alpha"}, "job": job}}
    )
    assert cluster.job is not None
    return Slurm(cluster, cluster.job, LocalHost())


RECORDS = 'printf "%s\\0" "$SLURM_CONF" "$LC_ALL" "$@" > {0}/args; cat > {0}/stdin; '


def test_submit_hands_over_the_script_and_the_options(tmp_path: Path) -> None:
    slurm = a_slurm(tmp_path, "owens", sbatch=RECORDS.format(shlex.quote(str(tmp_path))) + "echo 7")
    assert slurm.submit(REQUEST) == "7"
    assert (tmp_path / "stdin").read_text() == REQUEST.content
    given = (tmp_path / "args").read_text().split("\0")[:-1]
    assert given == ["/etc/s.conf", "", "-M", "owens", *sbatch_options(REQUEST, None)]


def test_submit_passes_the_users_environment_on_and_nothing_of_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"LANG": "de_DE.UTF-8", "LC_ALL": "fr_FR.UTF-8", "MY_OWN": "1", "TZ": "Asia/Tokyo"}
    dropped = ["XDG_RUNTIME_DIR", "DISPLAY", "SSH_AUTH_SOCK", "SBATCH_WAIT", "OOD_PORTAL_CONFIG"]
    for name, value in (kept | dict.fromkeys(dropped, "1")).items():
        monkeypatch.setenv(name, value)
    printed = tmp_path / "env"
    a_slurm(tmp_path, sbatch=f"env > {shlex.quote(str(printed))}; echo 7").submit(REQUEST)
    found = dict(line.split("=", 1) for line in printed.read_text().splitlines() if "=" in line)
    assert found.items() >= kept.items()
    assert not found.keys() & set(dropped)


def test_an_overridden_command_is_used(tmp_path: Path) -> None:
    script = tmp_path / "my sbatch"
    script.write_text("#!/bin/sh\necho 8\n")
    script.chmod(0o700)
    job = {"adapter": "slurm", "bin": "/nowhere", "bin_overrides": {"sbatch": str(script)}}
    cluster = Cluster.model_validate({"id": "alpha", "v2": {"job": job}})
    assert cluster.job is not None
    assert Slurm(cluster, cluster.job, LocalHost()).submit(REQUEST) == "8"


@pytest.mark.parametrize(
    ("printed", "id"),
    [
        ("12", "12"),
        ("12;owens", "12"),
        ("Welcome to Alpha!\\nYou have 5 hours left\\n12;owens", "12"),
        ("1234+0", "1234+0"),
    ],
)
def test_the_id_of_a_submitted_job(tmp_path: Path, printed: str, id: str) -> None:
    assert a_slurm(tmp_path, sbatch=f"printf '{printed}\\n'").submit(REQUEST) == id


@pytest.mark.parametrize("printed", ["", "Submitted batch job 12", "12 -rf", "-12", "12\\nbye"])
def test_an_id_that_is_none_is_no_answer(tmp_path: Path, printed: str) -> None:
    with pytest.raises(SchedulerError, match="cannot read"):
        a_slurm(tmp_path, sbatch=f"printf '%b\\n' '{printed}'").submit(REQUEST)


def test_a_refused_job_says_why(tmp_path: Path) -> None:
    said = "sbatch: error: Memory specification can not be satisfied"
    with pytest.raises(LaunchFailed, match="Request less memory") as refused:
        a_slurm(tmp_path, sbatch=f"echo '{said}' >&2; exit 1").submit(REQUEST)
    assert refused.value.detail == said


@pytest.mark.parametrize(
    "said",
    [
        "Batch job submission failed: Socket timed out on send/recv operation",
        "Batch job submission failed: Zero Bytes were transmitted or received",
        "Batch job submission failed: Unexpected message received",
    ],
)
def test_a_lost_answer_is_not_a_refusal(tmp_path: Path, said: str) -> None:
    """The controller may have the job: a `LaunchFailed` would throw its card away."""
    with pytest.raises(SchedulerError):
        a_slurm(tmp_path, sbatch=f"echo 'sbatch: error: {said}' >&2; exit 1").submit(REQUEST)


def test_squeue_is_asked_for_this_user_only(tmp_path: Path) -> None:
    slurm = a_slurm(
        tmp_path,
        squeue=RECORDS.format(shlex.quote(str(tmp_path))) + f"printf %s {shlex.quote(squeue())}",
    )
    assert [job.id for job in slurm.jobs()] == ["12"]
    given = (tmp_path / "args").read_text().split("\0")[2:-1]
    assert given[given.index("--user") + 1] == LocalHost().user
    assert given[-1].count(UNIT) == SQUEUE_FIELDS.count(",")
    assert given[-1].endswith(f"Comment:{RECORD}")


def test_no_answer_may_have_exit_code_0(tmp_path: Path) -> None:
    down = "echo 'sacct: error: Problem talking to the database: Connection refused' >&2"
    slurm = a_slurm(
        tmp_path, squeue="echo 'slurm_load_jobs error: Socket timed out' >&2; exit 0", sacct=down
    )
    for method, *arguments in (["jobs"], ["ended", ["12"]], ["recent"]):
        with pytest.raises(SchedulerError, match="scheduler is not responding"):
            getattr(slurm, str(method))(*arguments)


def test_warnings_do_not_spoil_an_answer(tmp_path: Path) -> None:
    warns = "echo 'COMMAND: error: Ignoring obsolete FastSchedule=1 option.' >&2; "
    commands = {
        name: f"{warns.replace('COMMAND', name)}printf %s {shlex.quote(rows)}"
        for name, rows in (("squeue", ""), ("sacct", sacct()))
    }
    slurm = a_slurm(tmp_path, **commands)
    assert (slurm.jobs(), len(slurm.ended(["12"]))) == ([], 1)


def test_recent_jobs_where_only_short_periods_may_be_asked_for(tmp_path: Path) -> None:
    """MaxQueryTimeRange in slurmdbd.conf."""
    refuses = "echo 'sacct: error: Too wide of a date range in query' >&2; exit 95"
    script = f"[[ $* == *now-1hours* ]] || {{ {refuses}; }}; printf %s {shlex.quote(sacct())}"
    assert [job.id for job in a_slurm(tmp_path, sacct=script).recent()] == ["12"]


@pytest.mark.parametrize(
    "script",
    [
        "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
        "echo 'Invalid job id specified' >&2; exit 1",
        "kill -9 $$",
    ],
)
def test_a_scheduler_that_fails_has_not_said_no_jobs(tmp_path: Path, script: str) -> None:
    slurm = a_slurm(tmp_path, squeue=script, sacct=script)
    with pytest.raises(SchedulerError, match="scheduler is not responding"):
        slurm.jobs()
    with pytest.raises(SchedulerError, match="scheduler is not responding"):
        slurm.ended(["12"])


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ([], None),
        ([sacct()], Outcome.SUCCEEDED),
        ([sacct(state="NODE_FAIL"), sacct()], Outcome.SUCCEEDED),
        ([sacct(state="NODE_FAIL"), sacct(state="FAILED", code="2:0")], Outcome.FAILED),
        ([sacct(state="REQUEUED"), sacct(state="RUNNING")], None),
        ([sacct(state="CANCELLED by 0"), sacct(state="PENDING")], None),
        ([sacct(state="RUNNING")], None),
    ],
)
def test_the_last_life_of_a_requeued_job_counts(
    tmp_path: Path, lines: list[str], outcome: Outcome | None
) -> None:
    ended = a_slurm(tmp_path, sacct=f"printf %s {shlex.quote(''.join(lines))}").ended(["12"])
    done = [job.outcome for job in ended if job.outcome]
    assert done == ([outcome] if outcome else [])


def test_no_accounting_is_no_proof(tmp_path: Path) -> None:
    said = "Slurm accounting storage is disabled"
    assert a_slurm(tmp_path, sacct=f"echo '{said}' >&2; exit 1").ended(["12"]) == []


@pytest.mark.parametrize("id", ["--user=root", "12 13", "", "12;13", "$(id)", "12_[$(id)]"])
def test_only_numbers_reach_the_commands(tmp_path: Path, id: str) -> None:
    slurm = a_slurm(tmp_path, scancel=f"touch {tmp_path}/ran", sacct=f"touch {tmp_path}/ran")
    assert slurm.ended([id]) == []
    with pytest.raises(SchedulerError, match="not a valid job ID"):
        slurm.cancel(id)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("id", "told"),
    [
        ("12", "12"),
        ("12_3", "12_3"),
        ("12_[4-9%2]", "12_[4-9]"),
        ("12+1", "12"),
        ("12_[1,0-8:4]", "12_[1,0,4,8]"),
    ],
)
def test_cancel(tmp_path: Path, id: str, told: str) -> None:
    slurm = a_slurm(tmp_path, scancel=RECORDS.format(shlex.quote(str(tmp_path))))
    slurm.cancel(id)
    assert (tmp_path / "args").read_text().split("\0")[2:-1] == [told]


def test_cancel_of_a_forgotten_job_is_no_error(tmp_path: Path) -> None:
    said = "scancel: error: Kill job error on job id 12: Invalid job id specified"
    a_slurm(tmp_path, scancel=f"echo '{said}' >&2; exit 1").cancel("12")


def test_cancel_that_is_refused_says_so(tmp_path: Path) -> None:
    said = "scancel: error: Kill job error on job id 12: Access/permission denied"
    with pytest.raises(SchedulerError, match="refused to cancel job 12"):
        a_slurm(tmp_path, scancel=f"echo '{said}' >&2; exit 1").cancel("12")
