"""The record of a session, a JSON file in Open OnDemand's format (apps/dashboard,
app/models/batch_connect/session.rb). Users can change it, so every value is checked.

It is `~/ondemand/data/sys/dashboard/batch_connect/db/<session id>`, mode 0600.
"""

import json
import re
from dataclasses import asdict, dataclass, replace

from ood.schedulers.base import SESSION_COMMENT, Submission
from ood.sessions.checked_json import integer, mapping, text

SESSION_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TOKEN = re.compile(r"(sys|usr|dev)(/[A-Za-z0-9_][A-Za-z0-9_.-]*){1,3}")
CLUSTER = re.compile(r"[A-Za-z0-9_.-]+")
JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+\[\]-]{0,63}")


@dataclass(frozen=True)
class SessionRecord:
    """Times are in seconds since the epoch. `job_id` is None until the scheduler has accepted the
    job."""

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
        """The comment of the job, by which its session is found."""
        return f"{SESSION_COMMENT}{self.id}"

    def submission(self, job_name: str = "") -> Submission | None:
        """What identifies its job; None if the scheduler has not accepted one."""
        if self.job_id is None:
            return None
        return Submission(self.job_id, self.comment, self.created_at, job_name)

    def completed(self, at: int) -> "SessionRecord":
        return replace(self, cache_completed=True, completed_at=at)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def parse_record(name: str, data: bytes) -> SessionRecord | None:
    """Read a record from the contents of the file `name`; None if it is not valid."""
    found = mapping(data)
    cluster, token = text(found.get("cluster_id"), 100), text(found.get("token"), 200)
    created, job = integer(found.get("created_at")), found.get("job_id")
    job_id = None if job is None else text(str(job) if isinstance(job, int) else job, 100)
    if found.get("id") != name or not SESSION_ID.fullmatch(name) or created is None:
        return None
    if not CLUSTER.fullmatch(cluster) or not TOKEN.fullmatch(token):
        return None
    if job_id is not None and not JOB_ID.fullmatch(job_id):
        return None
    return SessionRecord(
        id=name,
        cluster_id=cluster,
        job_id=job_id,
        created_at=created,
        token=token,
        title=text(found.get("title"), 200) or token,
        script_type=text(found.get("script_type"), 50) or "basic",
        cache_completed=bool(found.get("cache_completed")) or None,
        completed_at=integer(found.get("completed_at")),
    )
