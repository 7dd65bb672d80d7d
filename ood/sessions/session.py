"""What the portal remembers of one session while its record is there."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ood.schedulers.base import Job, Outcome
from ood.schedulers.monitor import Snapshot
from ood.sessions.card import Card
from ood.sessions.context import ContextDirectory
from ood.sessions.job_report import NO_TRACES, Traces
from ood.sessions.record import SessionRecord
from ood.sessions.status import Evidence

TOLD_AFTER = 10.0  # seconds from the end of a job until accounting has heard of it


@dataclass
class Session:
    """Times are monotonic."""

    context: ContextDirectory
    launching: bool = False
    submitted_at: float | None = None
    traces: Traces = NO_TRACES
    looked_at: float = float("-inf")  # when the traces were
    over_since: float | None = None  # by what the last card said
    node: str = ""  # where the scheduler runs the job
    card: Card | None = None  # once it does not change any more

    def saw(self, traces: Traces, looked_at: float) -> None:
        """Take what the job has left, as it was at that time."""
        self.traces = traces
        self.looked_at = max(self.looked_at, looked_at)

    def evidence(self, record: SessionRecord, job: Job | None, snapshot: Snapshot) -> Evidence:
        """What is known of a session that is not known to have ended."""
        fresh = self.launching or (
            self.submitted_at is not None and self.submitted_at >= snapshot.asked_at
        )
        return Evidence(
            job=job,
            silence=snapshot.problem.message if snapshot.problem else "",
            exit_code=self.traces.exit_code,
            failure=self.traces.failure,
            log_tail=self.traces.log_tail,
            connected=self.traces.connected,
            submitted=record.job_id is not None,
            fresh=fresh,
            age=time.time() - record.created_at,
            cancelled_here=self.context.facts.cancelled_at is not None,
        )

    def is_final(self, card: Card, snapshot: Snapshot | None, *, elsewhere: bool) -> bool:
        """Whether nothing more will come to be known of a session that has ended. `elsewhere`: its
        job leaves its traces on an unsynched back-end."""
        now = time.monotonic()
        if self.over_since is None:
            self.over_since = now
        seen = self.looked_at > float("-inf")
        if elsewhere and (self.traces.secrets or not seen):
            return False  # secrets are removed at the next look there
        if snapshot is None or self.context.facts.outcome is not None:
            return True
        if self.looked_at < snapshot.answered_at:
            return False  # it may have left something since
        # Who cancelled it, accounting says a moment later, where there is any.
        told = card.outcome is not Outcome.CANCELLED or card.reason
        return bool(told) or now - self.over_since > TOLD_AFTER
