"""A job card: what a page shows of one session."""

from dataclasses import dataclass

from ood.help_topics import HelpTopic
from ood.schedulers.base import JobStatus, Outcome
from ood.sessions.record import SessionRecord


@dataclass(frozen=True)
class Card:
    """One session as its page shows it. `displayed` and `parameters` are (label, value); durations
    are in seconds. `result` is the job's own sentence about what it did. `topic` is the part of the
    troubleshooting page about the session, None if all is well.

    `files_on` is the ID of the cluster with the job's files, empty if that is the portal host.
    `service_title` is empty for an app without a service. `connect_path` is the path that Connect
    opens, empty while there is nothing to connect to. `silent`: the service does not answer.
    """

    record: SessionRecord
    cluster_title: str
    status: JobStatus
    outcome: Outcome | None
    exit_code: int | None
    reason: str
    topic: HelpTopic | None
    host: str
    time_limit: int | None
    time_left: int | None
    starts_at: int | None
    context_directory: str
    files_on: str
    displayed: tuple[tuple[str, str], ...]
    parameters: tuple[tuple[str, str], ...]
    log_name: str
    log_tail: str
    outputs: str
    result: str
    cancelling: bool
    service_title: str = ""
    connection_timeout: int | None = None
    connect_path: str = ""
    silent: bool = False
