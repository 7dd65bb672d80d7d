"""Why a Slurm job waits, as a sentence for the user. squeue(1) lists Slurm's own words under JOB
REASON CODES."""

import re
from collections.abc import Sequence

from ood.help_topics import HelpTopic, Reason
from ood.schedulers.base import Job, JobStatus, Partition, Queue
from ood.schedulers.slurm.squeue import IN_THE_QUEUE

ASK = "Cancel the job and ask your administrator for help."
LESS = "Cancel the job and launch it again with less."
WHEN_FREE = "The job starts when another job of yours, or of your group, ends."
REASONS = {
    HelpTopic.WAITING: {
        "BeginTime": "The job is scheduled for a later start time.",
        "BurstBuffer.*": "The job’s data is being staged in.",
        "Cleaning": "The job was requeued, and its previous run is still being cleaned up.",
        "Dependency": "Waiting for another job, which this job depends on.",
        "Licenses": "Waiting for a licence that other jobs are using.",
        "Prolog": "The node is being prepared for the job.",
        "SchedDefer": "The scheduler is busy and will consider the job later.",
    },
    HelpTopic.HELD: {
        "JobHeldUser": "You held this job, or it was submitted on hold. Release it, or cancel "
        "it and launch it again.",
        "JobHeldAdmin": "An administrator held this job. Ask them why, or cancel it.",
        r".*requeued[ _]held|job requeued in (held|special).*|JobHoldMaxRequeue": "The job could "
        "not be started and is now held. Cancel it and launch it again.",
    },
    HelpTopic.LAUNCH: {
        "DependencyNeverSatisfied": "A job that this job depends on failed, so this job will "
        "never start. Cancel it.",
        "JobLaunchFailure": "The job could not be started. Cancel it and launch it again.",
    },
    HelpTopic.CLOSED: {
        "NodeDown": "The node that the job needs is down. The job starts when the node is "
        "available again.",
        r"Nodes[ _]required[ _]for[ _]job[ _]are[ _]DOWN.*": "The nodes that the job needs are "
        "down, reserved or under maintenance. The job starts when they are available.",
        "PartitionDown": "This back-end is not starting jobs at the moment. The job starts when "
        "an administrator reopens it.",
        "PartitionInactive": "This back-end is closed at the moment. Ask your administrator when "
        "it will reopen.",
        "ReqNodeNotAvail.*": "A node that the job needs is down or reserved. The job starts when "
        "the node is available.",
        "Reservation.*": "Waiting for a reservation to begin. If the reservation was deleted, "
        "cancel the job.",
    },
    HelpTopic.NOT_ALLOWED: {
        "AccountNotAllowed": f"Your account does not have access to this back-end. {ASK}",
        "InvalidAccount": f"Slurm does not know the account of this job. {ASK}",
        "InvalidQOS": f"Slurm does not know the quality of service (QOS) of this job. {ASK}",
        "QOSNotAllowed": f"This back-end does not allow the job’s quality of service (QOS). {ASK}",
        r"uid \d+ not in group permitted.*": f"You do not have access to this back-end. {ASK}",
    },
    HelpTopic.TOO_MUCH: {
        "(Bad)?Constraints": f"No node of this back-end has what the job requests. {LESS}",
        "DeadLine": "The job can no longer finish before its deadline. Cancel it.",
        "MaxMemPerLimit": "The job requests more memory than this back-end allows for one job. "
        f"{LESS}",
        "PartitionConfig": f"The job requests more than this back-end allows. {LESS}",
        "PartitionNodeLimit": "The job requests more nodes, or larger nodes, than this back-end "
        f"has. {LESS}",
        "PartitionTimeLimit": f"The job requests more time than this back-end allows. {LESS}",
        "QOSMin.*": "The job requests less than this back-end’s minimum. Cancel the job "
        "and launch it again with more.",
        r"(Assoc|QOS)Max\w*(PerJob|PerNode)(Limit)?": "The job requests more than you are "
        f"allowed for one job. {LESS}",
        r"(Assoc|QOS|Max)\w*(Wall|Time)\w*": "The job requests more time than you are allowed. "
        f"{LESS}",
    },
    HelpTopic.YOUR_LIMITS: {
        "JobArrayTaskLimit": "This job array is already running its maximum number of tasks.",
        r"(Assoc|QOS|Max)\w*(Minutes|RunMins)\w*": "Your group has used its allowance of "
        "computing time. Ask your administrator for more.",
        r"(Assoc|QOS|Max)\w*Mem\w*": "You are using all the memory that you are allowed. "
        f"{WHEN_FREE}",
        r"(Assoc|QOS|Max)\w*C(pu|PU)\w*": "You are using all the cores that you are allowed. "
        f"{WHEN_FREE}",
        r"(Assoc|QOS|Max)\w*GRES\w*": "You are using all the GPUs that you are allowed. "
        f"{WHEN_FREE}",
        r"(Assoc|QOS|Max)\w*Job\w*": "You have the maximum number of jobs that you are allowed. "
        f"{WHEN_FREE}",
        r"Assoc\w*|QOS\w*|Max\w*PerAccount|AccountingPolicy": "Your account has reached a limit. "
        f"{WHEN_FREE}",
    },
}
"""For each topic, Slurm's words as regular expressions, with a sentence. The first match counts."""


def why_it_waits(
    job: Job, partitions: Sequence[Partition] = (), queue: Queue | None = None
) -> Reason:
    """Why a queued or held job waits. `queue` is None if the user may not see it."""
    partition = next((each for each in partitions if each.name in job.partition.split(",")), None)
    too_much = _too_much(job, partition) if job.status is JobStatus.QUEUED else ""
    if too_much:
        return Reason(too_much, HelpTopic.TOO_MUCH)
    word = re.split(r"[,:(]", job.reason)[0].strip()  # "ReqNodeNotAvail, UnavailableNodes:n1"
    if word in IN_THE_QUEUE:
        missing = _not_free(job, partition)
        text = f"{missing.text} {_position(job, queue)}".strip()
        return Reason(text, missing.topic)
    for topic, sentences in REASONS.items():
        for pattern, sentence in sentences.items():
            if re.fullmatch(pattern, job.reason) or re.fullmatch(pattern, word):
                return Reason(sentence, topic)
    return Reason(f"Slurm’s reason: {job.reason}.", HelpTopic.WAITING)


def _too_much(job: Job, partition: Partition | None) -> str:
    """Why no node of the partition is large enough for the job; empty if one may be."""
    if partition is None or not partition.nodes or (job.nodes or 1) > 1:
        return ""
    for what, asked, most in (
        ("memory", job.memory_mib or 0, max(node.memory_mib for node in partition.nodes)),
        ("cores", job.cores or 0, max(node.cores for node in partition.nodes)),
        ("GPUs", job.gpus, max(node.gpus for node in partition.nodes)),
    ):
        if asked > most:
            return f"The job requests more {what} than any node of this partition has. {LESS}"
    return ""


def _not_free(job: Job, partition: Partition | None) -> Reason:
    """What the job needs that is not free now, if that is known."""
    turn = Reason("Waiting for its turn.", HelpTopic.WAITING)
    if partition is None or not partition.nodes:
        return turn
    if not any(node.works for node in partition.nodes):
        text = "No node of this partition accepts jobs at the moment. The job starts when one does."
        return Reason(text, HelpTopic.CLOSED)
    if job.nodes not in (None, 1):
        return turn
    best = max(partition.nodes, key=lambda node: (node.free_cores, node.free_memory_mib))
    memory = max(node.free_memory_mib for node in partition.nodes)
    gpus = max(node.free_gpus for node in partition.nodes)
    if (job.cores or 0) > best.free_cores:
        needed = f"{_count(job.cores or 0, 'core')} needed, {best.free_cores} free"
    elif (job.memory_mib or 0) > memory:
        needed = f"{_gib(job.memory_mib or 0)} GiB of memory needed, {_gib(memory)} free"
    elif job.gpus > gpus:
        needed = f"{_count(job.gpus, 'GPU')} needed, {gpus} free"
    else:
        return turn
    return Reason(f"Waiting for other jobs to finish: {needed}.", HelpTopic.WAITING)


def _position(job: Job, queue: Queue | None) -> str:
    before = queue.before(job) if queue is not None else None
    if before is None:
        return ""
    if before == 0:
        return "It is next in the queue."
    return f"{_count(before, 'job')} {'is' if before == 1 else 'are'} ahead of it in the queue."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _gib(mib: int) -> str:
    return f"{mib / 1024:.3g}"
