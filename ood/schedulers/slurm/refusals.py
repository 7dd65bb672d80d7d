"""What `sbatch` says when it fails, in words for the user."""

from __future__ import annotations

LOST_ANSWERS = (
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Unexpected message received",
    "Communication connection failure",
)
"""What `sbatch` says when the job may have been accepted all the same."""
REFUSALS = (
    (
        "Memory specification can not be satisfied",
        "{cluster} has no machine with that much memory. Ask for less memory.",
    ),
    (
        "More processors requested than permitted",
        "{cluster} does not allow that many cores. Ask for fewer cores.",
    ),
    (
        "CPU count per node can not be satisfied",
        "{cluster} has no machine with that many cores. Ask for fewer cores.",
    ),
    (
        "Requested node configuration is not available",
        "{cluster} has no machine with that many cores, that much memory or those GPUs. "
        "Ask for less.",
    ),
    (
        "Requested time limit is invalid",
        "{cluster} does not allow jobs that long. Ask for less time.",
    ),
    ("Invalid generic resource", "{cluster} has no GPUs. Switch off “Use GPU?”."),
    (
        "invalid partition specified",
        "{cluster} is not set up right: its partition does not exist. Tell your administrator.",
    ),
    (
        "Invalid account or account/partition",
        "You may not submit jobs to {cluster}. Ask your administrator for access.",
    ),
    (
        "Unable to contact slurm controller",
        "The scheduler of {cluster} does not answer. Try again in a few minutes.",
    ),
)


def answer_was_lost(stderr: str) -> bool:
    """Whether the job may have been accepted although `sbatch` failed."""
    return any(said in stderr for said in LOST_ANSWERS)


def refusal(stderr: str, cluster: str) -> str:
    """One sentence for what `sbatch` said; its own words when they are not known."""
    for said, sentence in REFUSALS:
        if said in stderr:
            return sentence.format(cluster=cluster)
    first = next((line for line in stderr.splitlines() if line.strip()), "no reason given")
    said = first.removeprefix("sbatch: error:").strip()
    return f"{cluster} refused the job: {said}. Change the form, or ask your administrator."
