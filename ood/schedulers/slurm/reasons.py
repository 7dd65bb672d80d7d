"""Why a job waits, in words for the user: Slurm's reasons (its man page squeue, JOB REASON CODES).

Pure: what has to be known of the partition and the queue comes in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ood.schedulers.base import Job, JobStatus, Partition, Queue
from ood.schedulers.slurm.squeue import IN_THE_QUEUE

TELL = "Ask your administrator."
REASONS = {
    "BeginTime": "It is not to start before the time it was submitted for.",
    "Cleaning": "It was requeued, and what is left of its last run is being cleared away.",
    "Dependency": "It waits for another job, which it was told to follow.",
    "DependencyNeverSatisfied": "It was told to follow a job that did not end as it should, so it "
    "never starts: cancel it.",
    "JobArrayTaskLimit": "As many tasks of this array run as it allows at a time.",
    "JobHeldUser": "You have held this job, or it was submitted to be held: it does not start "
    "until it is released.",
    "JobHeldAdmin": "An administrator holds this job. Ask them why, or cancel it.",
    "JobLaunchFailure": "It could not be started. Cancel it and launch it again.",
    "Licenses": "It waits for a licence that other jobs use.",
    "MaxMemPerLimit": "It asks for more memory than one job may have here: cancel it and ask for "
    "less.",
    "NodeDown": "The machine it needs is down. It starts when that is back.",
    "PartitionDown": "This back-end takes jobs, but does not start any at the moment. It starts "
    "when the administrator opens it again.",
    "PartitionInactive": "This back-end is closed at the moment. " + TELL,
    "PartitionNodeLimit": "It asks for more machines, or larger ones, than this back-end has: "
    "cancel it and ask for less.",
    "PartitionTimeLimit": "It asks for more time than this back-end allows: cancel it and ask for "
    "less.",
    "Prolog": "Its machine is being made ready.",
    "BadConstraints": "No machine of this back-end is as it asks for: cancel it and ask for less.",
    "InvalidAccount": "The account it was submitted under is not known here: cancel it. " + TELL,
    "InvalidQOS": "The quality of service it was submitted under is not known here: cancel it. "
    + TELL,
    "Constraints": "No machine of this back-end is as it asks for: cancel it and ask for less.",
    "DeadLine": "It can no longer end before the time it was to end by: cancel it.",
    "PartitionConfig": "It asks for more than this back-end allows: cancel it and ask for less.",
    "SchedDefer": "The scheduler looks at it later: it is busy.",
    "AccountNotAllowed": "Your account may not use this back-end: cancel it. " + TELL,
    "QOSNotAllowed": "Its quality of service may not use this back-end: cancel it. " + TELL,
}
AT_A_TIME = "It starts when a job of yours, or of your group, ends."
FAMILIES = (
    (
        re.compile(r"QOSMin.*"),
        "It asks for less than the least it may ask for here: cancel it and ask for more.",
    ),
    (
        re.compile(r"(Assoc|QOS)Max\w*(PerJob|PerNode)(Limit)?"),
        "It asks for more than one job of yours may have: cancel it and ask for less.",
    ),
    (
        re.compile(r"(Assoc|QOS|Max)\w*(Minutes|RunMins)\w*"),
        f"Your group has used up what it may for now. {TELL}",
    ),
    (
        re.compile(r"(Assoc|QOS|Max)\w*(Wall|Time)\w*"),
        "It asks for more time than you may use: cancel it and ask for less, or ask your "
        "administrator.",
    ),
    (re.compile(r"(Assoc|QOS|Max)\w*Mem\w*"), f"You use as much memory as you may. {AT_A_TIME}"),
    (
        re.compile(r"(Assoc|QOS|Max)\w*C(pu|PU)\w*"),
        f"You use as many cores as you may. {AT_A_TIME}",
    ),
    (re.compile(r"(Assoc|QOS|Max)\w*GRES\w*"), f"You use as many GPUs as you may. {AT_A_TIME}"),
    (re.compile(r"(Assoc|QOS|Max)\w*Job\w*"), f"You have as many jobs as you may. {AT_A_TIME}"),
    (
        re.compile(r"Assoc\w*|QOS\w*|Max\w*PerAccount|AccountingPolicy"),
        f"A limit of your account is reached. {AT_A_TIME}",
    ),
    (
        re.compile(r".*requeued[ _]held|job requeued in (held|special).*|JobHoldMaxRequeue"),
        "It could not be started, and is held. Cancel it and launch it again.",
    ),
    (
        re.compile(r"Nodes[ _]required[ _]for[ _]job[ _]are[ _]DOWN.*"),
        "The machines it needs are down, set aside for maintenance, or reserved. It starts when "
        "they are back.",
    ),
    (
        re.compile(r"Reservation.*"),
        "It waits for a reserved time to begin. If that is gone, cancel it.",
    ),
    (
        re.compile(r"uid \d+ not in group permitted.*"),
        f"You may not use this back-end: cancel it. {TELL}",
    ),
    (re.compile(r"BurstBuffer.*"), "Its data is being moved into place."),
    (
        re.compile(r"ReqNodeNotAvail.*"),
        "A machine that it needs is not available: down, or reserved for maintenance. It starts "
        "when that is back.",
    ),
)


def why_it_waits(job: Job, partitions: Sequence[Partition] = (), queue: Queue | None = None) -> str:
    """One or two sentences on why a job waits; empty for one that does not. `queue` is None
    where it may not be seen."""
    if job.status not in (JobStatus.QUEUED, JobStatus.HELD):
        return ""
    partition = next((each for each in partitions if each.name in job.partition.split(",")), None)
    if job.status is JobStatus.QUEUED and partition is not None:
        too_much = _too_much(job, partition)
        if too_much:
            return too_much
    reason = re.split(r"[,:(]", job.reason)[0].strip()  # "ReqNodeNotAvail, UnavailableNodes:n1"
    if reason in IN_THE_QUEUE:
        return " ".join(filter(None, (_for_others(job, partition), _place(job, queue))))
    if reason in REASONS:
        return REASONS[reason]
    for family, sentence in FAMILIES:
        if family.fullmatch(job.reason) or family.fullmatch(reason):
            return sentence
    return f"The scheduler’s reason: {job.reason}."


def _too_much(job: Job, partition: Partition) -> str:
    """What no machine of the partition will ever have."""
    if not partition.nodes or (job.nodes or 1) > 1:
        return ""
    for what, asked, most in (
        ("memory", job.memory_mib or 0, max(node.memory_mib for node in partition.nodes)),
        ("cores", job.cores or 0, max(node.cores for node in partition.nodes)),
        ("GPUs", job.gpus, max(node.gpus for node in partition.nodes)),
    ):
        if asked > most:
            return (
                f"Asks for more {what} than any node of this partition has: cancel and ask for "
                "less."
            )
    return ""


def _for_others(job: Job, partition: Partition | None) -> str:
    """What is missing now, when anything is."""
    if partition is None or not partition.nodes:
        return "Waiting for its turn."
    if not any(node.works for node in partition.nodes):
        return "No machine of this partition takes jobs at the moment. It starts when one does."
    best = max(partition.nodes, key=lambda node: (node.free_cores, node.free_memory_mib))
    cores, memory = job.cores or 0, job.memory_mib or 0
    if job.nodes in (None, 1):
        if cores > best.free_cores:
            return (
                f"Waiting for other jobs to finish: {_count(cores, 'core')} needed, "
                f"{best.free_cores} free."
            )
        most = max(node.free_memory_mib for node in partition.nodes)
        if memory > most:
            return (
                f"Waiting for other jobs to finish: {_gib(memory)} GiB of memory needed, "
                f"{_gib(most)} free."
            )
        free = max(node.free_gpus for node in partition.nodes)
        if job.gpus > free:
            return (
                f"Waiting for other jobs to finish: {_count(job.gpus, 'GPU')} needed, {free} free."
            )
    return "Waiting for its turn."


def _place(job: Job, queue: Queue | None) -> str:
    before = queue.before(job) if queue is not None else None
    if before is None:
        return ""
    if before == 0:
        return "It is the next in the queue."
    return f"{_count(before, 'job')} {'is' if before == 1 else 'are'} before it in the queue."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _gib(mib: int) -> str:
    return f"{mib / 1024:.3g}"
