"""Which part of the troubleshooting page is about what a page says.

The sentences are our own (those of `ces/bin` and of app templates come by way of a job's `failure`
file), so they are known by their words; a test holds this list to all of them.
"""

from __future__ import annotations

import re

from ood.schedulers.base import JobStatus, Outcome
from ood.sessions.card import Card

SENTENCES = tuple(
    (topic, re.compile(words))
    for topic, words in (
        ("registry-login", r"registry (\S+ )?refuse[sd]|registry user name|registry \S+ is empty"),
        (
            "image-not-found",
            r"registry (\S+ )?has no (such )?image|There is no \S+ image|The image \S+ is not on|"
            r"which registry it is|name of an image",
        ),
        ("registry", r"registry (\S+ )?(did not answer|cannot be)|could not pull"),
        ("disk-full", r"disk is full|no room for|make room|cannot be made on"),
        ("safe-data", r"safe data|project director"),
        ("tools", r"not installed on|The runner is|podman does not work|Your home directory '"),
        ("gpu", r"No GPU|has no GPU|for a licence|as many GPUs"),
        ("out-of-memory", r"needed more memory than|more memory than it asked"),
        (
            "container",
            r"could not start it|command could not be run|command line is wrong|Usage: |"
            r"quote is not closed|this is not (NAME=value|UTF-8)|ended with exit code",
        ),
        ("service", r"did not answer within|does not answer at the moment|already using port"),
        ("machine", r"^The machine .*failed|ended by signal|Ended by |more urgent job"),
        (
            "too-much",
            r"[Aa]sks? for (more|less|fewer|no more)|no machine (with|of this back-end)|can no "
            r"longer end|less than the least",
        ),
        ("your-limits", r"[Aa]s (many|much) .* as (you may|it allows)|used up|limit of your acc"),
        ("not-allowed", r"[Yy]ou may not|may not use|not known here|does not exist|for access"),
        (
            "closed",
            r"(is|are) down|takes no|No machine .* takes jobs|closed at the|not start any|is not "
            r"available|reserved time",
        ),
        ("launch", r"launch was interrupted|could not be (copied|written|started)|refused the job"),
        ("held", r"\bheld\b|\bholds this\b|released"),
        (
            "waiting",
            r"[Ww]ait(s|ing)\b|next in the queue|moved into place|made ready|busy|not to start|"
            r"requeued|to follow|scheduler’s reason",
        ),
        ("undetermined", r"scheduler (of .* )?does not answer|no longer lists"),
        ("host", r"cannot be reached|did not answer|dropped"),
    )
)
"""The first that matches counts."""

OUTCOMES = {
    Outcome.TIMED_OUT: "time-limit",
    Outcome.OUT_OF_MEMORY: "out-of-memory",
    Outcome.UNKNOWN: "unknown",
}
CODES = {
    "host-unreachable": "host",
    "command-timed-out": "host",
    "host": "host",
    "host-refused": "host",
    "sign-in-expired": "signed-out",
    "stale-form": "signed-out",
    "scheduler": "undetermined",
    "service-not-there": "service",
    "service-refused": "service",
    "file-refused": "files",
    "internal": "portal",
    "config": "portal",
}
"""By the `code` of an error, where its sentence is not known."""


def topic_of(sentence: str, code: str = "") -> str:
    """The topic of a sentence, or else of an error's code; empty when there is none."""
    found = (topic for topic, words in SENTENCES if words.search(sentence))
    return next(found, CODES.get(code, ""))


def topic_of_card(card: Card) -> str:
    """The topic of what a card says; empty when all is well."""
    if card.outcome in OUTCOMES:
        return OUTCOMES[card.outcome]
    if card.outcome is Outcome.FAILED:
        return topic_of(card.reason) or "failed"
    if card.status is JobStatus.UNDETERMINED:
        return "undetermined"
    if card.status is JobStatus.HELD:
        return topic_of(card.reason) or "held"
    if card.silent:
        return "service"
    return topic_of(card.reason)
