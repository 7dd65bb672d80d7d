"""Why `sbatch` refused a job, as a sentence for the user."""

from ood.help_topics import HelpTopic, Reason

LOST_ANSWERS = (
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Unexpected message received",
    "Communication connection failure",
)
REFUSALS = {
    HelpTopic.TOO_MUCH: {
        "Memory specification can not be satisfied": "{cluster} has no node with that much memory. "
        "Request less memory.",
        "More processors requested than permitted": "{cluster} does not allow that many cores. "
        "Request fewer cores.",
        "CPU count per node can not be satisfied": "{cluster} has no node with that many cores. "
        "Request fewer cores.",
        "Requested node configuration is not available": "{cluster} has no node with that many "
        "cores, that much memory or those GPUs. Request less.",
        "Requested time limit is invalid": "{cluster} does not allow jobs that long. Request less "
        "time.",
    },
    HelpTopic.GPU: {
        "Invalid generic resource": "{cluster} has no GPUs. Switch off “Use GPU?”.",
    },
    HelpTopic.NOT_ALLOWED: {
        "invalid partition specified": "The partition of {cluster} does not exist. Tell your "
        "administrator.",
        "Invalid account or account/partition": "You do not have permission to submit jobs to "
        "{cluster}. Ask your administrator for access.",
    },
    HelpTopic.UNDETERMINED: {
        "Unable to contact slurm controller": "The scheduler of {cluster} is not responding. Try "
        "again in a few minutes.",
    },
}
"""For each topic, parts of `sbatch`'s messages with a sentence. The first match counts."""


def answer_was_lost(stderr: str) -> bool:
    """Whether Slurm may have accepted the job although `sbatch` failed."""
    return any(part in stderr for part in LOST_ANSWERS)


def refusal(stderr: str, cluster: str) -> Reason:
    """Why `sbatch` refused a job, with Slurm's own message if it is not one of `REFUSALS`."""
    for topic, sentences in REFUSALS.items():
        for part, sentence in sentences.items():
            if part in stderr:
                return Reason(sentence.format(cluster=cluster), topic)
    first = next((line for line in stderr.splitlines() if line.strip()), "no reason given")
    message = first.removeprefix("sbatch: error:").strip()
    text = (
        f"{cluster} refused the job: {message}. Change the values in the form, or ask your "
        "administrator for help."
    )
    return Reason(text, HelpTopic.LAUNCH)
