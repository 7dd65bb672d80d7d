"""A job card: what a page shows of one session."""

from dataclasses import dataclass

from ood.apps.definition import AppDefinition
from ood.config import Cluster
from ood.help_topics import HelpTopic
from ood.schedulers.base import Job, JobStatus, Outcome
from ood.sessions.context_directory import PortalFiles
from ood.sessions.job_report import JobReport
from ood.sessions.record import SessionRecord
from ood.sessions.service import Service
from ood.sessions.status import Verdict


@dataclass(frozen=True)
class Card:
    """One session as its page shows it. `displayed` and `parameters` are (label, value); times are
    in seconds. `result` is the job's own sentence about what it did. `topic` is the part of the
    troubleshooting page about it, None if all is well.

    `files_on` is the cluster with the job's files, empty when that is the portal host.
    `service_title` is empty for an app without a service. `connect_path` is where Connect leads,
    empty while nothing can be connected to; `silent`: it is there and does not answer.
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


def compose(
    record: SessionRecord,
    cluster: Cluster | None,
    app: AppDefinition | None,
    files: PortalFiles,
    report: JobReport,
    job: Job | None,
    verdict: Verdict,
    service: Service | None,
    silent: bool,
) -> Card:
    """The card for what is known of a session. `service` is None while there is none to connect to;
    `silent`: it does not answer."""
    facts = files.facts
    options = app.manifest.service if app is not None else None
    unsynched = cluster is not None and cluster.unsynched
    waits = verdict.status is JobStatus.QUEUED and job is not None
    return Card(
        record=record,
        cluster_title=cluster.label if cluster else record.cluster_id,
        status=verdict.status,
        outcome=verdict.outcome,
        exit_code=verdict.exit_code,
        reason=verdict.reason.text,
        topic=verdict.topic or (HelpTopic.SERVICE if silent else None),
        host=(job.host if job else "") or facts.host,
        time_limit=(job.time_limit if job else None) or facts.time_limit,
        time_left=job.time_left if job else None,
        starts_at=job.started_at if job is not None and waits else None,
        context_directory=(facts.directory if unsynched else "") or files.directory.path,
        files_on=record.cluster_id if unsynched else "",
        displayed=files.values(display=True),
        parameters=files.values(display=False),
        log_name=files.log_name,
        log_tail=report.log_tail,
        outputs=report.outputs,
        result=report.result,
        cancelling=facts.cancelled_at is not None and verdict.outcome is None,
        service_title=options.title if options is not None else "",
        connection_timeout=options.connection_timeout if options is not None else None,
        connect_path=f"{service.prefix}{options.path}" if service and options else "",
        silent=silent,
    )
