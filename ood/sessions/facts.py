"""What jobs and the portal write down beside Open OnDemand's files, and how it is read.

In the job context directory: `started.json` and `outcome.json` are written by the job,
`portal.json` by the portal. All are the user's to change, so every key is checked.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from ood.schedulers.base import Outcome

STARTED = "started.json"
OUTCOME = "outcome.json"
PORTAL = "portal.json"
MAX_SIZE = 65_536  # bytes of any of them


@dataclass(frozen=True)
class Facts:
    """What the portal remembers of a session. Times are in seconds (since the epoch).

    `withheld` names the secret fields that were filled in: they are asked for again at a relaunch.
    """

    withheld: tuple[str, ...] = ()
    cancelled_at: int | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    reason: str = ""
    host: str = ""
    time_limit: int | None = None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def parse_facts(data: bytes | None) -> Facts:
    found = _mapping(data)
    outcome = found.get("outcome")
    withheld = found.get("withheld")
    return Facts(
        withheld=tuple(map(str, withheld)) if isinstance(withheld, list) else (),
        cancelled_at=_whole(found.get("cancelled_at")),
        outcome=Outcome(outcome) if outcome in set(Outcome) else None,
        exit_code=_whole(found.get("exit_code")),
        reason=str(found.get("reason") or "")[:1000],
        host=str(found.get("host") or "")[:200],
        time_limit=_whole(found.get("time_limit")),
    )


def parse_exit_code(data: bytes | None) -> tuple[int, int | None] | None:
    """`(exit code, end)` of outcome.json; None when it is not there or makes no sense."""
    found = _mapping(data)
    code = _whole(found.get("exit_code"))
    return None if code is None else (code, _whole(found.get("ended_at")))


def parse_started_job(data: bytes | None) -> str | None:
    """The job id in started.json."""
    job_id = _mapping(data).get("job_id")
    return job_id if isinstance(job_id, str) and job_id else None


def _mapping(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
