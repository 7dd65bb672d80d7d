"""A job card: what a page shows of one session."""

from __future__ import annotations

from dataclasses import dataclass

from ood.schedulers.base import JobStatus, Outcome
from ood.sessions.record import SessionRecord


@dataclass(frozen=True)
class Card:
    """One session as its page shows it. `parameters` are (label, value); times are in seconds.

    `service_title` is empty for an app without a service. `connect_path` is where Connect leads,
    empty while nothing can be connected to; `silent`: it is there and does not answer.
    """

    record: SessionRecord
    cluster_title: str
    status: JobStatus
    outcome: Outcome | None
    exit_code: int | None
    reason: str
    host: str
    time_limit: int | None
    time_left: int | None
    context_directory: str
    parameters: tuple[tuple[str, str], ...]
    log_name: str
    log_tail: str
    outputs: str
    cancelling: bool
    service_title: str = ""
    connection_timeout: int | None = None
    connect_path: str = ""
    silent: bool = False
