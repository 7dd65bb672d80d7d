"""The record of a session: Open OnDemand's own JSON file, one a session.

`~/ondemand/data/sys/dashboard/batch_connect/db/<session id>`, mode 0600 (apps/dashboard,
app/models/batch_connect/session.rb). The file is the user's: nothing in it is believed unchecked.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

SESSION_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TOKEN = re.compile(r"(sys|usr|dev)(/[A-Za-z0-9_][A-Za-z0-9_.-]*){1,3}")
CLUSTER = re.compile(r"[A-Za-z0-9_.-]+")
JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+\[\]-]{0,63}")


@dataclass(frozen=True)
class SessionRecord:
    """Times are in seconds since the epoch. `job_id` is None from before the submission until the
    scheduler's answer is written down."""

    id: str
    cluster_id: str
    job_id: str | None
    created_at: int
    token: str
    title: str
    script_type: str = "basic"
    cache_completed: bool | None = None
    completed_at: int | None = None

    @property
    def app_name(self) -> str:
        return self.token.partition("/")[2]

    @property
    def comment(self) -> str:
        """What the job's comment says, by which a job finds its session again."""
        return f"ood-session:{self.id}"

    def completed(self, at: int) -> SessionRecord:
        return replace(self, cache_completed=True, completed_at=at)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def parse_record(name: str, data: bytes) -> SessionRecord | None:
    """Read a record from the file called `name`; None when it is not one."""
    try:
        found: Any = json.loads(data)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("id") != name or not SESSION_ID.fullmatch(name):
        return None
    cluster, token = str(found.get("cluster_id") or ""), str(found.get("token") or "")
    job_id, created = found.get("job_id"), found.get("created_at")
    if not CLUSTER.fullmatch(cluster) or not TOKEN.fullmatch(token):
        return None
    if not isinstance(created, int) or not (job_id is None or JOB.fullmatch(str(job_id))):
        return None
    completed_at = found.get("completed_at")
    return SessionRecord(
        id=name,
        cluster_id=cluster,
        job_id=None if job_id is None else str(job_id),
        created_at=created,
        token=token,
        title=str(found.get("title") or token)[:200],
        script_type=str(found.get("script_type") or "basic"),
        cache_completed=bool(found.get("cache_completed")) or None,
        completed_at=completed_at if isinstance(completed_at, int) else None,
    )
