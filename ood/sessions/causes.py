"""Why a job ended as it did, in words: what the scheduler says of it, and what its log shows."""

from __future__ import annotations

import re
from signal import Signals

from ood.schedulers.base import Canceller, Job, Outcome

OUT_OF_MEMORY = re.compile(
    r"slurmstepd: error: .*(oom[-_ ]kill|exceeded (job )?memory limit|memory limit .*exceeded)"
    r"|Exceeded job memory limit|DUE TO MEMORY",
    re.IGNORECASE,
)
NODE_FAILURES = frozenset({"NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL"})
YOU_CANCELLED = "You cancelled it."
LOG_CAUSES = (
    (
        re.compile(r"unauthorized: authentication required|invalid username/password", re.I),
        "The registry refused the user name or access token. Relaunch it with those it accepts.",
    ),
    (
        re.compile(r"manifest unknown|name unknown: repository name not known", re.I),
        "The registry has no such image or tag. Check the URL, and relaunch it.",
    ),
    (
        re.compile(
            r"(dial tcp|pinging container registry).*(refused|no route|timeout|no such host)"
        ),
        "The registry did not answer. Relaunch it later, or tell your administrator.",
    ),
    (
        re.compile(r"/safe_data(/\S*)?: (No such file or directory|Permission denied)"),
        "It did not find safe data: there is none of your project on the machine it ran on.",
    ),
    (
        re.compile(r"No space left on device|Disk quota exceeded"),
        "The disk is full. Remove files that you no longer need, and relaunch it.",
    ),
)


def ended_by_memory(job: Job, log_tail: str) -> bool:
    """Whether a job that the scheduler calls failed was ended for the memory it used. Where Slurm
    samples memory itself, it says so in the job's log only."""
    return job.outcome is Outcome.FAILED and bool(OUT_OF_MEMORY.search(log_tail))


def why_it_ended(job: Job, outcome: Outcome) -> str:
    """What the scheduler knows more than the outcome; empty when that says it all."""
    if job.state.split(" ")[0] in NODE_FAILURES:
        where = f"The machine that ran it ({job.host})" if job.host else "The machine that ran it"
        return f"{where} failed. Relaunch it."
    if outcome is Outcome.CANCELLED:
        if job.state.startswith("PREEMPTED"):
            return "A more urgent job took its place. Relaunch it."
        if job.cancelled_by is Canceller.ADMINISTRATOR:
            return "An administrator cancelled it."
        return YOU_CANCELLED if job.cancelled_by is Canceller.OWNER else ""
    if outcome is Outcome.FAILED and job.signal is not None:
        return f"It was ended by signal {job.signal}{_name(job.signal)}."
    return ""


def likely_cause(log_tail: str) -> str:
    """A known cause of failure that the end of a log shows; empty for none."""
    return next((said for cause, said in LOG_CAUSES if cause.search(log_tail)), "")


def _name(number: int) -> str:
    try:
        return f" ({Signals(number).name})"
    except ValueError:
        return ""
