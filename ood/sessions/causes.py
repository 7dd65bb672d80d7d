"""Why a job ended, as a sentence for the user, from the scheduler's answer and the job's log."""

import re
from signal import Signals

from ood.help_topics import NO_REASON, HelpTopic, Reason
from ood.schedulers.base import Canceller, Job, Outcome

OUT_OF_MEMORY = re.compile(
    r"slurmstepd: error: .*(oom[-_ ]kill|exceeded (job )?memory limit|memory limit .*exceeded)"
    r"|Exceeded job memory limit|DUE TO MEMORY",
    re.IGNORECASE,
)
NODE_FAILURES = frozenset({"NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL"})
YOU_CANCELLED = Reason("You cancelled this job.")
LOG_CAUSES = {
    "(?i:unauthorized: authentication required|invalid username/password)": Reason(
        "The registry refused the user name or access token. Relaunch the job and enter them "
        "again.",
        HelpTopic.REGISTRY_LOGIN,
    ),
    "(?i:manifest unknown|name unknown: repository name not known)": Reason(
        "The registry does not have this image or tag. Check the image URL, "
        "and launch the job again.",
        HelpTopic.IMAGE_NOT_FOUND,
    ),
    "(dial tcp|pinging container registry).*(refused|no route|timeout|no such host)": Reason(
        "The registry could not be reached. Relaunch the job later. If this "
        "happens again, tell your administrator.",
        HelpTopic.REGISTRY,
    ),
    r"/safe_data(/\S*)?: (No such file or directory|Permission denied)": Reason(
        "The job could not open your project’s safe data on the machine that it ran on.",
        HelpTopic.SAFE_DATA,
    ),
    "No space left on device|Disk quota exceeded": Reason(
        "The disk is full. Delete files that you no longer need, and relaunch the job.",
        HelpTopic.DISK_FULL,
    ),
}
"""Messages of other programs, as regular expressions, and their meaning. The first match counts."""


def ended_by_memory(job: Job, log_tail: str) -> bool:
    """Whether a job that the scheduler lists as failed was killed for its memory use. Some Slurm
    configurations report that only in the job's log."""
    return job.outcome is Outcome.FAILED and bool(OUT_OF_MEMORY.search(log_tail))


def why_it_ended(job: Job, outcome: Outcome) -> Reason:
    """What the scheduler knows besides the outcome; `NO_REASON` if nothing."""
    if job.state.split(" ")[0] in NODE_FAILURES:
        where = f"Node {job.host}" if job.host else "The node of this job"
        return Reason(f"{where} failed. Relaunch the job.", HelpTopic.MACHINE)
    if outcome is Outcome.CANCELLED:
        if job.state.startswith("PREEMPTED"):
            text = "A job of higher priority took its place. Relaunch the job."
            return Reason(text, HelpTopic.MACHINE)
        if job.cancelled_by is Canceller.ADMINISTRATOR:
            return Reason("An administrator cancelled this job.")
        return YOU_CANCELLED if job.cancelled_by is Canceller.OWNER else NO_REASON
    if outcome is Outcome.FAILED and job.signal is not None:
        name = next((f" ({each.name})" for each in Signals if each == job.signal), "")
        return Reason(f"It was killed by signal {job.signal}{name}.", HelpTopic.MACHINE)
    return NO_REASON


def likely_cause(log_tail: str) -> Reason:
    """A known cause of failure that the end of a log shows; `NO_REASON` if none."""
    causes = (reason for message, reason in LOG_CAUSES.items() if re.search(message, log_tail))
    return next(causes, NO_REASON)
