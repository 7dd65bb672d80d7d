"""The board: all the job cards of one user, and the one look behind them.

However many tabs and pages ask, files are looked at once in `SECONDS` and the scheduler is asked
through the shared monitor.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from ood.apps.definition import AppDefinition
from ood.config import Cluster
from ood.errors import (
    FileFailed,
    HostError,
    NotFound,
    PortalError,
    ServiceNotThere,
    ServiceRefused,
)
from ood.schedulers.base import Job, JobStatus, Scheduler
from ood.schedulers.monitor import JobMonitor, Snapshot
from ood.sessions.card import Card
from ood.sessions.context import ContextDirectory
from ood.sessions.record import SessionRecord
from ood.sessions.service import Service, service_at
from ood.sessions.status import Evidence, Verdict, judge, judge_completed
from ood.sessions.store import SessionStore

SECONDS = 2.0
ENDED_AGAIN_AFTER = 15.0  # seconds before accounting is asked again about the same job

log = logging.getLogger(__name__)


@dataclass
class _Session:
    """What the board remembers of a session while its record is there. Times are monotonic."""

    context: ContextDirectory
    launching: bool = False
    submitted_at: float | None = None
    ended: Job | None = None
    ended_asked_at: float = float("-inf")
    node: str = ""  # where the scheduler runs the job
    card: Card | None = None  # once completed: it does not change any more


class Board:
    """All sessions of one user."""

    def __init__(
        self,
        user: str,
        store: SessionStore,
        clusters: Mapping[str, Cluster],
        apps: Mapping[str, AppDefinition],
        monitor: JobMonitor,
        scheduler: Callable[[Cluster], Scheduler],
        is_silent: Callable[[Service], bool] = lambda _: False,
    ) -> None:
        self.user = user
        self.store = store
        self.scheduler = scheduler
        self._clusters = clusters
        self._apps = apps
        self._monitor = monitor
        self._is_silent = is_silent
        self._lock = threading.RLock()
        self._sessions: dict[str, _Session] = {}
        self._cards: list[Card] = []
        self._looked_at = float("-inf")

    def look(self) -> list[Card]:
        """All cards, newest first, at most `SECONDS` old."""
        with self._lock:
            if time.monotonic() - self._looked_at >= SECONDS:
                records = self.store.records()
                ids = {record.id for record in records}
                self._sessions = {id: known for id, known in self._sessions.items() if id in ids}
                snapshots: dict[str, Snapshot] = {}
                self._cards = [self._card(record, snapshots) for record in records]
                self._looked_at = time.monotonic()
            return self._cards

    def find(self, session_id: str) -> Card:
        """One card. Raises `NotFound`, the same for no such session and somebody else's."""
        for card in self.look():
            if card.record.id == session_id:
                return card
        raise NotFound("There is no such session. It may have been deleted in another window.")

    def context(self, session_id: str) -> ContextDirectory:
        """The job context directory of a session. Raises `NotFound`."""
        with self._lock:
            return self._session(self.find(session_id).record).context

    def service(self, session_id: str) -> Service:
        """Where the service of a session is.

        Raises `NotFound`, `ServiceNotThere` when there is nothing to connect to, and
        `ServiceRefused` when the job says something that cannot be believed.
        """
        card = self.find(session_id)
        with self._lock:
            return self._service(card.record, self._session(card.record), card.status)

    def begin(self, record: SessionRecord) -> None:
        """A launch begins: the job files are there, the job is not submitted yet."""
        with self._lock:
            self._session(record).launching = True
            self.store.write(record)
            self._look_again()

    def submitted(self, record: SessionRecord) -> None:
        """A launch ended: with a job id, or with none known."""
        with self._lock:
            session = self._session(record)
            session.launching = False
            if record.job_id is not None:
                session.submitted_at = time.monotonic()
                self.store.write(record)
            self._look_again()

    def discard(self, record: SessionRecord) -> None:
        """Remove all traces of a launch that was refused or could not be written."""
        with self._lock:
            self._look_again()
            try:
                self.store.discard_context(record)
                self.store.remove(record)
            except HostError as error:  # its card then says that the launch was interrupted
                log.warning("traces of %s are left: %s %s", record.id, error, error.detail)

    def cancel(self, session_id: str) -> None:
        """Cancel a session's job. Raises `SchedulerError` or `HostError` when that cannot be."""
        card = self.find(session_id)
        if card.status is JobStatus.COMPLETED:
            return
        if card.record.job_id is None:
            raise PortalError("The scheduler has not accepted this job yet. Try again in a minute.")
        self._cancel_job(card.record)
        with self._lock:
            self._look_again()
            try:
                self._session(card.record).context.add_facts(cancelled_at=int(time.time()))
            except FileFailed as error:  # it is cancelled, which matters more
                log.warning("cancel of %s not written down: %s", session_id, error.detail)

    def delete(self, session_id: str) -> None:
        """Remove a card; its files stay. A job that has not ended is cancelled first."""
        card = self.find(session_id)
        reachable = card.record.job_id is not None and card.record.cluster_id in self._clusters
        if card.status is not JobStatus.COMPLETED and reachable:
            self._cancel_job(card.record)
        with self._lock:
            context = self._session(card.record).context
            context.look()
            context.remove_secrets()
            self.store.remove(card.record)
            self._look_again()

    def _cancel_job(self, record: SessionRecord) -> None:
        assert record.job_id is not None
        self.scheduler(self._cluster(record.cluster_id)).cancel(record.job_id)
        log.info("%s cancelled job %s on %s", self.user, record.job_id, record.cluster_id)

    def _cluster(self, cluster_id: str) -> Cluster:
        try:
            return self._clusters[cluster_id]
        except KeyError:
            raise NotFound(f"The cluster {cluster_id} is no longer set up here.") from None

    # From here on `self._lock` is held.

    def _look_again(self) -> None:
        self._looked_at = float("-inf")

    def _session(self, record: SessionRecord) -> _Session:
        found = self._sessions.get(record.id)
        if found is None:
            app = self._apps.get(record.app_name)
            found = _Session(ContextDirectory(self.store, record, app))
            self._sessions[record.id] = found
        return found

    def _card(self, record: SessionRecord, snapshots: dict[str, Snapshot]) -> Card:
        session = self._session(record)
        if session.card is not None:
            return session.card
        context = session.context
        # The scheduler first: a job that it says has ended has left all its traces by then.
        snapshot = None if record.cache_completed else self._snapshot(record.cluster_id, snapshots)
        context.look()
        job: Job | None = None
        if context.facts.outcome is not None:
            known = context.facts
            verdict = Verdict(JobStatus.COMPLETED, known.outcome, known.exit_code, known.reason)
        elif snapshot is None:  # completed by Open OnDemand, which keeps no outcome
            cancelled_here = context.facts.cancelled_at is not None
            verdict = judge_completed(context.exit_code, context.failure, cancelled_here)
        else:
            record, job, verdict = self._ask(record, session, snapshot)
        if job is not None:
            session.node = job.host
        card = self._compose(record, session, job, verdict)
        if card.status is JobStatus.COMPLETED:
            try:
                card = session.card = self._finish(card, context)
            except FileFailed as error:  # a full disk: shown all the same, written down later
                log.warning("end of %s not written down: %s", record.id, error.detail)
        return card

    def _ask(
        self, record: SessionRecord, session: _Session, snapshot: Snapshot
    ) -> tuple[SessionRecord, Job | None, Verdict]:
        """Gather the evidence for a session that is not known to have ended, and judge it."""
        context = session.context
        if record.job_id is None and not session.launching:
            record = self._repair(record, context, snapshot)
        job = snapshot.jobs.get(record.job_id) if record.job_id is not None else None
        fresh = session.launching or (
            session.submitted_at is not None and session.submitted_at >= snapshot.asked_at
        )
        exit_code = context.exit_code
        if job is None and exit_code is None and record.job_id is not None and not fresh:
            job = self._ended(record, session, snapshot)
        evidence = Evidence(
            job=job,
            silence=snapshot.problem.message if snapshot.problem else "",
            exit_code=exit_code,
            failure=context.failure,
            connected=context.connected,
            submitted=record.job_id is not None,
            fresh=fresh,
            age=time.time() - record.created_at,
            cancelled_here=context.facts.cancelled_at is not None,
        )
        return record, job, judge(evidence)

    def _snapshot(self, cluster_id: str, snapshots: dict[str, Snapshot]) -> Snapshot:
        """The user's jobs on a cluster; the same ones for all cards of one look."""
        if cluster_id not in snapshots:
            try:
                cluster = self._cluster(cluster_id)
                snapshots[cluster_id] = self._monitor.look(
                    self.user, cluster_id, lambda: self.scheduler(cluster)
                )
            except NotFound as error:
                snapshots[cluster_id] = Snapshot(time.monotonic(), {}, error)
        return snapshots[cluster_id]

    def _repair(
        self, record: SessionRecord, context: ContextDirectory, snapshot: Snapshot
    ) -> SessionRecord:
        """Find the job of a launch that broke off between the submission and its record."""
        found = snapshot.by_comment(record.comment)
        job_id = found.id if found is not None else context.started_job
        if job_id is None:
            return record
        log.info("session %s of %s: found its job %s again", record.id, self.user, job_id)
        repaired = replace(record, job_id=job_id)
        self.store.write(repaired)
        return repaired

    def _ended(self, record: SessionRecord, session: _Session, snapshot: Snapshot) -> Job | None:
        """Ask accounting for a job that the queue no longer lists."""
        now = time.monotonic()
        if snapshot.problem is not None or now - session.ended_asked_at < ENDED_AGAIN_AFTER:
            return session.ended
        session.ended_asked_at = now
        assert record.job_id is not None
        try:
            session.ended = self.scheduler(self._cluster(record.cluster_id)).ended(record.job_id)
        except PortalError as error:
            log.warning("job %s of %s: %s %s", record.job_id, self.user, error, error.detail)
        return session.ended

    def _service(self, record: SessionRecord, session: _Session, status: JobStatus) -> Service:
        app = self._apps.get(record.app_name)
        if app is None or app.manifest.service is None:
            raise NotFound("There is nothing to connect to in this session.")
        context = session.context
        # While the scheduler is silent, the service goes on where it was last seen.
        there = status in (JobStatus.RUNNING, JobStatus.UNDETERMINED) and session.node
        if not there or not context.connected:
            raise ServiceNotThere(f"{app.manifest.service.title} is not running.")
        connection = None if context.connection_changed else context.connection
        return service_at(connection, session.node, self.user, record, app.manifest.service)

    def _compose(
        self, record: SessionRecord, session: _Session, job: Job | None, verdict: Verdict
    ) -> Card:
        context = session.context
        cluster = self._clusters.get(record.cluster_id)
        app = self._apps.get(record.app_name)
        options = app.manifest.service if app is not None else None
        service: Service | None = None
        if options is not None and verdict.status is not JobStatus.COMPLETED:
            with suppress(ServiceNotThere, ServiceRefused):
                service = self._service(record, session, verdict.status)
        return Card(
            record=record,
            cluster_title=cluster.label if cluster else record.cluster_id,
            status=verdict.status,
            outcome=verdict.outcome,
            exit_code=verdict.exit_code,
            reason=verdict.reason,
            host=(job.host if job else "") or context.facts.host,
            time_limit=(job.time_limit if job else None) or context.facts.time_limit,
            time_left=job.time_left if job else None,
            context_directory=self.store.context_directory(record),
            parameters=context.parameters,
            log_name=context.log_name,
            log_tail=context.log_tail,
            outputs=context.outputs,
            cancelling=context.facts.cancelled_at is not None and verdict.outcome is None,
            service_title=options.title if options is not None else "",
            connection_timeout=options.connection_timeout if options is not None else None,
            connect_path=f"{service.prefix}{options.path}" if service and options else "",
            silent=service is not None and self._is_silent(service),
        )

    def _finish(self, card: Card, context: ContextDirectory) -> Card:
        """Write down once and for all how a session ended, and leave no secret behind."""
        context.remove_secrets()
        if context.there and context.facts.outcome is None:
            context.add_facts(
                outcome=card.outcome,
                exit_code=card.exit_code,
                reason=card.reason,
                host=card.host,
                time_limit=card.time_limit,
            )
        if card.record.cache_completed:
            return card
        record = card.record.completed(int(time.time()))
        self.store.write(record)
        return replace(card, record=record)
