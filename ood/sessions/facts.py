"""Files in the job context directory that Open OnDemand does not have.

The job writes `started.json` and `outcome.json`, the portal writes `portal.json`. The user can
change all of them, so every key is checked.
"""

import json
from dataclasses import asdict, dataclass

from ood.help_topics import HelpTopic, known_topic
from ood.schedulers.base import Outcome
from ood.sessions.checked_json import integer, mapping, text
from ood.sessions.record import JOB

STARTED = "started.json"
OUTCOME = "outcome.json"
PORTAL = "portal.json"
MAX_SIZE = 65_536  # bytes of each file


@dataclass(frozen=True)
class Facts:
    """What portal.json says about a session.

    `withheld` names the secret fields that the user filled in: a relaunch asks for them again.
    `cancelled_at` is in seconds since the epoch, `time_limit` in seconds. `topic` is the help for
    the session's end. `directory` is where the job's files are on an unsynched back-end.
    """

    withheld: tuple[str, ...] = ()
    cancelled_at: int | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    reason: str = ""
    host: str = ""
    time_limit: int | None = None
    directory: str = ""
    topic: HelpTopic | None = None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def parse_facts(data: bytes | None) -> Facts:
    found = mapping(data)
    outcome = found.get("outcome")
    withheld = found.get("withheld")
    return Facts(
        withheld=tuple(map(str, withheld)) if isinstance(withheld, list) else (),
        cancelled_at=integer(found.get("cancelled_at")),
        outcome=Outcome(outcome) if outcome in list(Outcome) else None,
        exit_code=integer(found.get("exit_code")),
        reason=text(found.get("reason"), 1000),
        host=text(found.get("host"), 200),
        time_limit=integer(found.get("time_limit")),
        directory=text(found.get("directory"), 4096),
        topic=known_topic(found.get("topic")),
    )


def parse_exit_code(data: bytes | None) -> int | None:
    """The exit code in outcome.json; None if it is missing or not a number."""
    return integer(mapping(data).get("exit_code"))


def parse_started_job(data: bytes | None) -> str | None:
    """The job ID in started.json; None if it is missing or not valid."""
    job_id = text(mapping(data).get("job_id"), 100)
    return job_id if JOB.fullmatch(job_id) else None
