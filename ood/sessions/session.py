"""What the portal remembers of one session while its record exists."""

import time
from dataclasses import dataclass

from ood.schedulers.base import Job, Outcome
from ood.schedulers.monitor import Snapshot
from ood.sessions.card import Card
from ood.sessions.context_directory import PortalFiles
from ood.sessions.job_report import NO_REPORT, JobReport
from ood.sessions.record import SessionRecord
from ood.sessions.status import Evidence

ACCOUNTING_DELAY = 10.0  # seconds from the end of a job until accounting knows of it


@dataclass
class Session:
    """Times are monotonic, except `cancelled_at` (seconds since the epoch).

    Only the thread that updates the cards changes these fields, except the second group, which the
    user's actions set.
    """

    files: PortalFiles
    report: JobReport = NO_REPORT
    reported_at: float = float("-inf")  # when the report was read
    over_since: float | None = None  # according to the last card
    node: str = ""  # where the scheduler runs the job
    card: Card | None = None  # once it no longer changes

    launching: bool = False
    submitted_at: float | None = None
    cancelled_at: int | None = None
    removed: bool = False

    def take_report(self, report: JobReport, read_at: float) -> None:
        self.report = report
        self.reported_at = max(self.reported_at, read_at)

    @property
    def cancelled_here(self) -> bool:
        """Whether the user pressed Cancel."""
        return self.cancelled_at is not None or self.files.facts.cancelled_at is not None

    def evidence(self, record: SessionRecord, job: Job | None, snapshot: Snapshot) -> Evidence:
        """What is known of a session that may still be running."""
        fresh = self.launching or (
            self.submitted_at is not None and self.submitted_at >= snapshot.asked_at
        )
        return Evidence(
            job=job,
            silence=snapshot.problem.message if snapshot.problem else "",
            exit_code=self.report.exit_code,
            failure=self.report.failure,
            log_tail=self.report.log_tail,
            connected=self.report.connected,
            submitted=record.job_id is not None,
            fresh=fresh,
            age=time.time() - record.created_at,
            cancelled_here=self.cancelled_here,
        )

    def is_final(self, card: Card, snapshot: Snapshot | None, *, unsynched: bool) -> bool:
        """Whether nothing more can become known of a session that has ended."""
        now = time.monotonic()
        if self.over_since is None:
            self.over_since = now
        if unsynched and (self.report.secrets or self.reported_at == float("-inf")):
            return False  # the next report removes secrets
        if snapshot is None or self.files.facts.outcome is not None:
            return True
        if self.reported_at < snapshot.answered_at:
            return False  # the job may have written something since
        # Accounting, where there is any, knows a moment later who cancelled the job.
        complete = card.outcome is not Outcome.CANCELLED or card.reason
        return bool(complete) or now - self.over_since > ACCOUNTING_DELAY
