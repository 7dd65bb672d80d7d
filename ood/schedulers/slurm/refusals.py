"""What `sbatch` prints when it fails, in words for the user."""

from ood.help_topics import HelpTopic, Reason

LOST_ANSWERS = (
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Unexpected message received",
    "Communication connection failure",
)
"""What `sbatch` prints when Slurm may have accepted the job although `sbatch` failed."""
REFUSALS = {
    HelpTopic.TOO_MUCH: {
        "Memory specification can not be satisfied": "{cluster} has no node with that much memory. "
        "Ask for less memory.",
        "More processors requested than permitted": "{cluster} does not allow that many cores. "
        "Ask for fewer cores.",
        "CPU count per node can not be satisfied": "{cluster} has no node with that many cores. "
        "Ask for fewer cores.",
        "Requested node configuration is not available": "{cluster} has no node with that many "
        "cores, that much memory or those GPUs. Ask for less.",
        "Requested time limit is invalid": "{cluster} does not allow jobs that long. Ask for less "
        "time.",
    },
    HelpTopic.GPU: {
        "Invalid generic resource": "{cluster} has no GPUs. Switch off “Use GPU?”.",
    },
    HelpTopic.NOT_ALLOWED: {
        "invalid partition specified": "The partition of {cluster} does not exist. Tell your "
        "administrator.",
        "Invalid account or account/partition": "You may not submit jobs to {cluster}. Ask your "
        "administrator for access.",
    },
    HelpTopic.UNDETERMINED: {
        "Unable to contact slurm controller": "The scheduler of {cluster} does not answer. Try "
        "again in a few minutes.",
    },
}
"""A sentence for each of `sbatch`'s, by topic. The first that matches counts."""


def answer_was_lost(stderr: str) -> bool:
    """Whether Slurm may have accepted the job although `sbatch` failed."""
    return any(said in stderr for said in LOST_ANSWERS)


def refusal(stderr: str, cluster: str) -> Reason:
    """Why `sbatch` refused a job, in its own words if they are not known here."""
    for topic, sentences in REFUSALS.items():
        for said, sentence in sentences.items():
            if said in stderr:
                return Reason(sentence.format(cluster=cluster), topic)
    first = next((line for line in stderr.splitlines() if line.strip()), "no reason given")
    said = first.removeprefix("sbatch: error:").strip()
    text = f"{cluster} refused the job: {said}. Change the form, or ask your administrator."
    return Reason(text, HelpTopic.LAUNCH)
