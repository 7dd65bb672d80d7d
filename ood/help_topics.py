"""The parts of the troubleshooting page, and reasons that link to them.

A sentence for the user can name its topic. No code derives a topic from the words of a sentence.
"""

from dataclasses import dataclass
from enum import StrEnum


class HelpTopic(StrEnum):
    """A part of the troubleshooting page, by its anchor."""

    WAITING = "waiting"
    TOO_MUCH = "too-much"
    YOUR_LIMITS = "your-limits"
    HELD = "held"
    CLOSED = "closed"
    NOT_ALLOWED = "not-allowed"
    LAUNCH = "launch"
    REGISTRY_LOGIN = "registry-login"
    IMAGE_NOT_FOUND = "image-not-found"
    REGISTRY = "registry"
    SAFE_DATA = "safe-data"
    DISK_FULL = "disk-full"
    CONTAINER = "container"
    GPU = "gpu"
    TOOLS = "tools"
    SERVICE = "service"
    FAILED = "failed"
    TIME_LIMIT = "time-limit"
    OUT_OF_MEMORY = "out-of-memory"
    MACHINE = "machine"
    UNKNOWN = "unknown"
    UNDETERMINED = "undetermined"
    ACCOUNT = "account"
    HOST = "host"
    SIGNED_OUT = "signed-out"
    FILES = "files"
    PORTAL = "portal"


def known_topic(word: object) -> HelpTopic | None:
    """The topic with this name; None if there is no such topic."""
    return next((topic for topic in HelpTopic if topic == word), None)


@dataclass(frozen=True)
class Reason:
    """A sentence for the user, with its topic. False if there is no sentence."""

    text: str = ""
    topic: HelpTopic | None = None

    def __bool__(self) -> bool:
        return bool(self.text)


NO_REASON = Reason()
