"""What the portal remembers about one session while its record exists."""

import time
from dataclasses import dataclass

from ood.config import Cluster
from ood.help_topics import HelpTopic
from ood.schedulers.base import Job, JobStatus, Outcome
from ood.schedulers.monitor import Snapshot
from ood.sessions.card import Card
from ood.sessions.context_directory import PortalFiles
from ood.sessions.job_report import NO_REPORT, JobReport
from ood.sessions.record import SessionRecord
from ood.sessions.service import Service
from ood.sessions.status import Evidence, Verdict

ACCOUNTING_DELAY = 10.0  # seconds from the end of a job until accounting knows of it


@dataclass
class Session:
    """`cluster` is None if it is no longer configured. Times are monotonic, except `cancelled_at`
    (seconds since the epoch). The user's actions set the second group of fields. Only the thread
    that updates the cards sets the others."""

    files: PortalFiles
    cluster: Cluster | None
    report: JobReport = NO_REPORT
    reported_at: float = float("-inf")  # when the report was read
    unread: bool = False  # whether the portal's own files could not be read now
    seen_completed_at: float | None = None  # when a card first showed that the job had ended
    node: str = ""  # on which the scheduler runs the job
    card: Card | None = None  # once it no longer changes

    launching: bool = False
    submitted_at: float | None = None
    cancelled_at: int | None = None
    removed: bool = False

    def take_report(self, report: JobReport, read_at: float) -> None:
        self.report = report
        if not report.unread:
            self.reported_at = max(self.reported_at, read_at)

    @property
    def unsynched(self) -> bool:
        return self.cluster is not None and self.cluster.unsynched

    @property
    def cancelled_here(self) -> bool:
        """Whether the user pressed Cancel."""
        return self.cancelled_at is not None or self.files.facts.cancelled_at is not None

    def evidence(self, record: SessionRecord, job: Job | None, snapshot: Snapshot) -> Evidence:
        """What is known about a session that may still be running."""
        problem = snapshot.problem or (snapshot.accounting if record.job_id is not None else None)
        return Evidence(
            job=job,
            problem=problem.message if problem is not None else "",
            report=self.report,
            submitted=record.job_id is not None,
            fresh=self.launching or (self.submitted_at or 0.0) >= snapshot.asked_at,
            age=time.time() - record.created_at,
            cancelled_here=self.cancelled_here,
        )

    def make_card(
        self,
        record: SessionRecord,
        job: Job | None,
        verdict: Verdict,
        service: Service | None,
        silent: bool,
    ) -> Card:
        """The card. `service` is None if it is not running. `silent`: it does not answer."""
        files, facts, cluster = self.files, self.files.facts, self.cluster
        options = files.app.manifest.service if files.app is not None else None
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
            starts_at=job.started_at if job and verdict.status is JobStatus.QUEUED else None,
            context_directory=(facts.directory if self.unsynched else "") or files.directory.path,
            files_on=record.cluster_id if self.unsynched else "",
            displayed=files.values(display=True),
            parameters=files.values(display=False),
            log_name=files.log_name,
            log_tail=self.report.log_tail,
            outputs=self.report.outputs,
            result=self.report.result,
            cancelling=facts.cancelled_at is not None and verdict.outcome is None,
            service_title=options.title if options else "",
            connection_timeout=options.connection_timeout if options else None,
            connect_path=f"{service.prefix}{options.path}" if service and options else "",
            silent=silent,
        )

    def is_final(self, card: Card, snapshot: Snapshot | None) -> bool:
        """Whether the card of a session that has ended will not change any more."""
        now = time.monotonic()
        self.seen_completed_at = self.seen_completed_at or now
        if self.unread or self.report.unread:
            return False
        if self.unsynched and (self.report.secrets or self.reported_at == float("-inf")):
            return False  # the next report removes secrets
        if snapshot is None or self.files.facts.outcome is not None:
            return True
        if self.reported_at < snapshot.answered_at:
            return False  # the job may have written something since
        # Accounting, where there is any, knows a moment later who cancelled the job.
        complete = card.outcome is not Outcome.CANCELLED or bool(card.reason)
        return complete or now - self.seen_completed_at > ACCOUNTING_DELAY
