"""What several versions of Slurm really printed is read right, and the reasons said in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ood.errors import SchedulerError
from ood.help_topics import HelpTopic
from ood.schedulers.base import (
    Canceller,
    Job,
    JobStatus,
    Node,
    NodeNames,
    Outcome,
    Partition,
    Queue,
)
from ood.schedulers.slurm.reasons import why_it_waits
from ood.schedulers.slurm.sacct import parse_sacct
from ood.schedulers.slurm.sinfo import others_are_hidden, parse_nodes, parse_partitions, parse_sinfo
from ood.schedulers.slurm.squeue import Marks, parse_queue, parse_squeue
from ood.schedulers.slurm.values import parse_gpus, parse_mib, parse_time, parse_tres
from tests import recorded_slurm as recorded
from tests.helpers import job

MARKS = Marks("\x1f", "\x1e")
MIDNIGHT = 1_795_478_400  # 2026-11-24T00:00:00Z


def squeue(records: list[str]) -> dict[str, Job]:
    return {job.id: job for job in parse_squeue("".join(records), MARKS)}


def sacct(records: list[str]) -> dict[str, Job]:
    return {job.id: job for job in parse_sacct("".join(records), MARKS)}


OLD, NEW = squeue(recorded.SQUEUE_22_05), squeue(recorded.SQUEUE_25_11)
OLD_ACCOUNTS, NEW_ACCOUNTS = sacct(recorded.SACCT_22_05), sacct(recorded.SACCT_25_11)


def test_a_running_job() -> None:
    job = OLD["10"]
    assert (job.name, job.user, job.account, job.partition) == ("run1", "alice", "proj", "main")
    assert (job.status, job.outcome, job.state) == (JobStatus.RUNNING, None, "RUNNING")
    assert (job.nodes, job.host, job.cores, job.memory_mib, job.gpus) == (1, "vm", 1, 1500, 1)
    assert (job.time_limit, job.time_used, job.time_left) == (1800, 5, 1795)
    assert job.submitted_at == job.started_at == MIDNIGHT - 593
    assert job.ended_at is None, "that is when its time will be over"
    assert (job.comment, job.work_dir) == ("", "/home/alice")
    assert NEW["10"].status is JobStatus.SUSPENDED


@pytest.mark.parametrize("jobs", [OLD, NEW], ids=["22.05", "25.11"])
def test_exit_codes_and_signals(jobs: dict[str, Job]) -> None:
    assert (jobs["3"].outcome, jobs["3"].exit_code, jobs["3"].signal) == (Outcome.FAILED, 130, None)
    assert (jobs["4"].outcome, jobs["4"].exit_code, jobs["4"].signal) == (Outcome.FAILED, None, 9)
    cancelled = jobs["26" if jobs is OLD else "24"]
    assert (cancelled.outcome, cancelled.exit_code) == (Outcome.CANCELLED, None)


def test_jobs_that_wait() -> None:
    array = OLD["14_[3-5%2]"]
    assert (array.status, array.host, array.started_at) == (JobStatus.QUEUED, "", None)
    assert OLD["18_[0-40:2]"].status is JobStatus.HELD
    part = OLD["28+1"]
    assert (part.cores, part.memory_mib, part.started_at) == (2, 1024, MIDNIGHT)
    assert OLD["24"].partition == "main,gpu,long"
    held = NEW["13"]
    assert (held.status, held.time_limit, held.time_left) == (JobStatus.HELD, None, None)


def test_names_and_comments_with_line_ends_or_without_anything() -> None:
    assert (OLD["5"].name, OLD["5"].comment) == ("nl\nname", "com\nment")
    assert (OLD["7"].name, OLD["7"].status) == ("", JobStatus.COMPLETED)
    assert OLD_ACCOUNTS["5"].name == "nl\nname"


def test_a_name_with_the_marks_in_it_is_harmless_when_they_cannot_be_guessed() -> None:
    forged = "us\x1fname\x1e13\x1froot"
    printed = recorded.SQUEUE_22_05[0].replace("\x1f", "\x1fk3n9").replace("\x1e", "\x1ek3n9")
    (found,) = parse_squeue(printed.replace("run1", forged), Marks("\x1fk3n9", "\x1ek3n9"))
    assert found.name == forged
    with pytest.raises(SchedulerError):
        parse_squeue(recorded.SQUEUE_22_05[0].replace("run1", "a\x1fb"), MARKS)
    assert Marks.fresh() != Marks.fresh()


def test_accounts() -> None:
    assert OLD_ACCOUNTS["3"].exit_code == 2, "it was 130: up to 25.05 the accounts lose the 128"
    assert NEW_ACCOUNTS["3"].exit_code == 130
    running = OLD_ACCOUNTS["10"]
    assert (running.status, running.ended_at, running.gpus) == (JobStatus.RUNNING, None, 1)
    assert (running.time_limit, running.time_used, running.cores) == (1800, 58, 1)
    cancelled = OLD_ACCOUNTS["26"]
    assert (cancelled.outcome, cancelled.cancelled_by) == (Outcome.CANCELLED, Canceller.OWNER)
    never_ran = OLD_ACCOUNTS["28+1"]
    assert (never_ran.host, never_ran.started_at, never_ran.cores) == ("", None, 2)
    assert OLD_ACCOUNTS["11"].status is JobStatus.QUEUED, "requeued"
    assert (OLD_ACCOUNTS["11"].time_limit, OLD_ACCOUNTS["11"].memory_mib) == (None, 1536)
    assert OLD_ACCOUNTS["31"].time_limit is None, "Partition_Limit"
    assert NEW_ACCOUNTS["22"].memory_mib == 8192


def test_who_cancelled_it() -> None:
    line = recorded.SACCT_22_05[3]
    assert "CANCELLED by 12001" in line
    (by_root,) = parse_sacct(line.replace("CANCELLED by 12001", "CANCELLED by 0"), MARKS)
    assert by_root.cancelled_by is Canceller.ADMINISTRATOR
    (by_nobody,) = parse_sacct(line.replace("CANCELLED by 12001", "CANCELLED"), MARKS)
    assert by_nobody.cancelled_by is None


def test_nodes() -> None:
    nodes = parse_sinfo("".join(recorded.SINFO), MARKS)
    assert set(nodes) == {"main", "gpu"}
    old, draining, down, new, unknown = nodes["main"]
    assert old == Node("vm", True, 16, 9, 64_000, 55_844, gpus=3, free_gpus=2)
    assert new == old
    assert [each.works for each in (draining, down, unknown)] == [False, False, False]
    assert (draining.free_cores, draining.free_memory_mib, draining.free_gpus) == (0, 0, 0)
    absent, planned = nodes["gpu"]
    assert (absent.works, absent.gpus) == (False, 2)
    assert (planned.works, planned.gpus, planned.free_gpus) == (True, 8, 5)


def test_names_of_nodes() -> None:
    printed = (
        "NodeName=g1 Arch=x86_64 CPUTot=8 NodeAddr=10.0.0.7 NodeHostName=gpu01 Version=22.05.8 "
        "OS=Linux 6.1 #1 SMP  Reason=it is NodeName=g9 \n"
        "NodeName=n2 NodeAddr=n2 NodeHostName=n2 State=CLOUD\n"
    )
    assert parse_nodes(f"CLUSTER: alpha\n{printed}") == [
        NodeNames("g1", ("g1", "gpu01", "10.0.0.7")),
        NodeNames("n2", ("n2",)),
    ]
    with pytest.raises(SchedulerError):
        parse_nodes("Node g3 not found\n")


def test_partitions() -> None:
    main, gpu = parse_partitions("".join(recorded.PARTITIONS), {})
    assert (main.name, main.is_default) == ("main", True)
    assert (main.max_time, main.max_cores, main.max_memory_mib) == (8 * 3600, None, None)
    assert (gpu.name, gpu.is_default) == ("gpu", False)
    assert (gpu.max_time, gpu.max_cores, gpu.max_memory_mib) == (48 * 3600, 4, 8000)
    (closed,) = parse_partitions("CLUSTER: a\nPartitionName=x MaxTime=UNLIMITED State=DOWN\n", {})
    assert closed.max_time is None
    with pytest.raises(SchedulerError):
        parse_partitions("slurm_load_partitions error: gone\n", {})


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("PrivateData             = none", False),
        ("PrivateData             = usage,users", False),
        ("PrivateData             = jobs,usage", True),
        ("", True),
    ],
)
def test_whether_the_jobs_of_others_may_be_seen(line: str, hidden: bool) -> None:
    assert others_are_hidden(f"MinJobAge               = 300 sec\n{line}\n") is hidden


MORE_MIB = (("0", 0), ("UNLIMITED", None), ("", None), ("1024K", 1))


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("512M", 512),
        ("1.50G", 1536),
        ("2T", 2_097_152),
        ("62.50G", 64_000),
        ("8000", 8000),
        *MORE_MIB,
    ],
)
def test_memory(text: str, mib: int | None) -> None:
    assert parse_mib(text) == mib


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("(null)", 0),
        ("gpu:2", 2),
        ("gpu:a100:2(S:0-1),gpu:1", 3),
        ("gpu:(null):3(IDX:0,4-5)", 3),
        ("gpu:no_consume:2", 2),
        ("shard:a100:5(S:0),gpu:v100:1(S:1)", 1),
        ("gpu:0,shard:0,craynetwork:0", 0),
    ],
)
def test_gpus(text: str, gpus: int) -> None:
    assert parse_gpus(text) == gpus


def test_resources_and_times() -> None:
    assert parse_tres("cpu=4,mem=2G,node=1,gres/gpu:a100=2") == (4, 2048, 2)
    assert parse_tres("") == (None, None, 0)
    for nothing in ("N/A", "Unknown", "None", "NONE", ""):
        assert parse_time(nothing) is None


# ---- Why a job waits

FREE = Node("n1", True, 8, 2, 16_000, 4000, gpus=2, free_gpus=0)
FULL = Node("n2", True, 16, 0, 32_000, 8000)
WORK = Partition("work", nodes=(FREE, FULL))


def waiting(reason: str, **facts: object) -> Job:
    return replace(job("7", JobStatus.QUEUED, reason=reason), partition="work", **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cores": 4}, "Waiting for other jobs to finish: 4 cores needed, 2 free."),
        ({"cores": 1, "memory_mib": 9000}, "8.79 GiB of memory needed, 7.81 free."),
        ({"cores": 1, "gpus": 1}, "Waiting for other jobs to finish: 1 GPU needed, 0 free."),
        ({"cores": 1}, "Waiting for its turn."),
        ({"cores": 17}, "The job requests more cores than any node of this partition has"),
        (
            {"memory_mib": 32_001},
            "more memory than any node of this partition has",
        ),
        ({"gpus": 3}, "The job requests more GPUs than any node of this partition has"),
        ({"cores": 17, "nodes": 2}, "Waiting for its turn."),
    ],
    ids=str,
)
def test_what_is_missing(asked: dict[str, object], words: str) -> None:
    assert words in why_it_waits(waiting("Resources", **asked), [WORK]).text
    assert why_it_waits(waiting("Resources", **asked)).text == "Waiting for its turn."


def test_a_partition_whose_machines_are_all_away() -> None:
    away = replace(WORK, nodes=(replace(FREE, works=False),))
    found = why_it_waits(waiting("Resources"), [away])
    assert "No node of this partition accepts jobs" in found.text
    assert found.topic is HelpTopic.CLOSED


def test_the_place_in_the_queue() -> None:
    printed = "".join(
        f"{id}\x1f{partition}\x1f{priority}\x1f{reason}\x1e\n"
        for id, partition, priority, reason in [
            ("9", "work", 100, "Priority"),
            ("7", "work", 50, "Resources"),
            ("5", "work", 50, "Priority"),
            ("6", "work", 50, "JobHeldUser"),
            ("4", "other", 900, "Priority"),
            ("8_[1-3]", "work", 10, "None"),
        ]
    )
    queue = parse_queue(printed, MARKS)

    def place(id: str) -> int | None:
        return queue.before(replace(waiting("Priority"), id=id))

    assert [place(id) for id in ("9", "5", "7", "8_[1-3]", "6")] == [0, 1, 2, 3, None]
    words = why_it_waits(waiting("Priority"), [], queue).text
    assert words == "Waiting for its turn. 2 jobs are ahead of it in the queue."
    first = why_it_waits(replace(waiting("Priority"), id="9"), [], queue).text
    assert first == "Waiting for its turn. It is next in the queue."
    assert why_it_waits(waiting("Priority"), [], Queue(())).text == "Waiting for its turn."


REASONS = {
    "JobHeldUser": "You held this job",
    "JobHeldAdmin": "An administrator held",
    "job requeued in held state": "could not be started and is now held",
    "launch failed requeued held": "could not be started and is now held",
    "Dependency": "Waiting for another job",
    "DependencyNeverSatisfied": "will never start. Cancel it",
    "BeginTime": "a later start time",
    "PartitionTimeLimit": "more time than this back-end allows",
    "PartitionNodeLimit": "more nodes, or larger nodes",
    "PartitionDown": "not starting jobs at the moment",
    "ReqNodeNotAvail, UnavailableNodes:n01": "A node that the job needs is down or reserved",
    "ReqNodeNotAvail, Reserved for maintenance": "down or reserved",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        "The nodes that the job needs are down"
    ),
    "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved": "The nodes that the job needs are down",
    "QOSMaxCpuPerUserLimit": "all the cores that you are allowed",
    "QOSGrpMemLimit": "all the memory that you are allowed",
    "AssocGrpGRES": "all the GPUs that you are allowed",
    "AssocMaxJobsLimit": "the maximum number of jobs that you are allowed",
    "MaxGRESPerAccount": "all the GPUs that you are allowed",
    "AssocGrpCPUMinutesLimit": "allowance of computing time",
    "QOSMaxWallDurationPerJobLimit": "requests more",
    "QOSGrpWallLimit": "requests more time",
    "QOSMaxMemoryPerJob": "more than you are allowed for one job",
    "QOSMinGRES": "less than this back-end’s minimum",
    "AssocGrpBilling": "Your account has reached a limit",
    "MaxCpuRunMinsPerUser": "allowance of computing time",
    "MaxMemPerLimit": "more memory than this back-end allows for one job",
    "Licenses": "licence",
    "JobArrayTaskLimit": "maximum number of tasks",
    "Reservation": "Waiting for a reservation",
    "Reservation X was deleted": "Waiting for a reservation",
    "uid 5 not in group permitted to use this partition (p). groups allowed: g": "have access",
    "SomethingNew": "Slurm’s reason: SomethingNew.",
    "34": "Slurm’s reason: 34.",
}


@pytest.mark.parametrize(("reason", "words"), REASONS.items(), ids=list(REASONS))
def test_reasons_in_words(reason: str, words: str) -> None:
    found = why_it_waits(waiting(reason)).text
    assert words in found
    assert found.endswith(".")
