"""Watching sessions: what the portal remembers of each, and how it finds out how they are.

What a card says rests on two things: what the scheduler says of the job, and the traces that the
job left in its context directory. Those of an unsynched back-end are looked at in the background.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from ood.apps.definition import AppDefinition
from ood.background import Answer, BackgroundQuestions, Question
from ood.config import Cluster
from ood.errors import FileFailed, NotFound, ServiceNotThere
from ood.hosts.base import Host
from ood.schedulers.base import Job, JobStatus, Scheduler
from ood.schedulers.monitor import JobMonitor, Snapshot, snapshot_of, survey
from ood.sessions.card import Card, compose
from ood.sessions.context import ContextDirectory
from ood.sessions.job_report import (
    NO_TRACES,
    Traces,
    Wanted,
    look_at,
    remove_secrets,
    secret_file,
    traces_in,
)
from ood.sessions.places import Listing, Place
from ood.sessions.record import SessionRecord
from ood.sessions.service import Service, service_at
from ood.sessions.session import Session
from ood.sessions.status import Verdict, judge, judge_completed
from ood.sessions.store import SessionStore

TRACES_SECONDS = 3.0
"""For how long what was found on an unsynched back-end is good."""


log = logging.getLogger(__name__)


class Watch:
    """The sessions of one user. `home_on` is the host with the home directory that the jobs of a
    cluster find. Not safe for two threads: the board locks."""

    def __init__(
        self,
        user: str,
        store: SessionStore,
        clusters: Mapping[str, Cluster],
        apps: Mapping[str, AppDefinition],
        questions: BackgroundQuestions,
        scheduler: Callable[[Cluster], Scheduler],
        home_on: Callable[[Cluster], Host],
        is_silent: Callable[[Service], bool] = lambda _: False,
    ) -> None:
        self.user = user
        self.store = store
        self.monitors = {
            id: JobMonitor(user, cluster, scheduler, questions) for id, cluster in clusters.items()
        }
        self._clusters = clusters
        self._apps = apps
        self._home_on = home_on
        self._is_silent = is_silent
        self._sessions: dict[str, Session] = {}
        self._wanted: dict[str, list[str]] = {}  # by scheduler: ids of jobs

    def monitor(self, cluster_id: str) -> JobMonitor:
        """Raises `NotFound`."""
        try:
            return self.monitors[cluster_id]
        except KeyError:
            raise NotFound(f"The cluster {cluster_id} is no longer set up here.") from None

    def is_elsewhere(self, record: SessionRecord) -> bool:
        """Whether a session's job leaves its traces on an unsynched back-end."""
        cluster = self._clusters.get(record.cluster_id)
        return cluster is not None and cluster.home == "unsynched"

    def place(self, record: SessionRecord) -> Place:
        """Where the job of a session finds its context directory, and leaves its traces."""
        if not self.is_elsewhere(record):
            return self.store.place(record)
        host = self._home_on(self._clusters[record.cluster_id])
        return Place(host, self.store.relative_path(record))

    def remove_secrets(self, record: SessionRecord) -> None:
        """Remove what secrets a job has not removed, whatever may be remembered of them."""
        place = self.place(record)
        remove_secrets(place, traces_in(Listing(place), NO_TRACES, "", self._secret_files(record)))

    def service(self, record: SessionRecord, status: JobStatus) -> Service:
        """Where the service of a session is. Raises what `Board.service` does."""
        app = self._apps.get(record.app_name)
        if app is None or app.manifest.service is None:
            raise NotFound("There is nothing to connect to in this session.")
        session = self.session(record)
        traces = session.traces
        # While the scheduler is silent, the service goes on where it was last seen.
        there = status in (JobStatus.RUNNING, JobStatus.UNDETERMINED) and session.node
        if not there or not traces.connected:
            raise ServiceNotThere(f"{app.manifest.service.title} is not running.")
        connection = None if traces.connection_changed else traces.connection
        return service_at(connection, session.node, self.user, record, app.manifest.service)

    def _secret_files(self, record: SessionRecord) -> tuple[str, ...]:
        app = self._apps.get(record.app_name)
        return tuple(secret_file(field.name) for field in app.secrets) if app else ()

    def session(self, record: SessionRecord) -> Session:
        found = self._sessions.get(record.id)
        if found is None:
            app = self._apps.get(record.app_name)
            found = Session(ContextDirectory(self.store, record, app))
            self._sessions[record.id] = found
        return found

    def look(self, records: list[SessionRecord]) -> list[Card]:
        """The cards of all sessions: ask all clusters of those that have not ended, then make the
        cards of what they answered."""
        ids = {record.id for record in records}
        self._sessions = {id: known for id, known in self._sessions.items() if id in ids}
        live: dict[str, list[SessionRecord]] = {}
        for record in records:
            if self.session(record).card is None:
                live.setdefault(record.cluster_id, []).append(record)
        self._wanted = {}
        for id in live.keys() & self._clusters.keys():
            wanted = self._wanted.setdefault(self._clusters[id].scheduler_key, [])
            wanted.extend(record.job_id for record in live[id] if record.job_id is not None)
        asked = {
            id: self.ask_jobs(id)
            for id, theirs in live.items()
            if id in self._clusters and not all(record.cache_completed for record in theirs)
        }
        elsewhere = {
            id: self._ask_traces(id, theirs)
            for id, theirs in live.items()
            if self.is_elsewhere(theirs[0])
        }
        snapshots = {id: snapshot_of(each.answer()) for id, each in asked.items()}
        for id, traces in elsewhere.items():
            self._take_traces(live[id], traces.answer())
        return [self._card(record, snapshots.get(record.cluster_id)) for record in records]

    def ask_jobs(self, cluster_id: str) -> Question[Snapshot]:
        """Ask for the user's jobs on a cluster, with or without sessions."""
        monitor = self.monitors[cluster_id]
        wanted = self._wanted.get(monitor.cluster.scheduler_key, [])
        return monitor.ask("jobs", lambda last: survey(monitor.scheduler(), wanted, last))

    def _ask_traces(
        self, cluster_id: str, records: list[SessionRecord]
    ) -> Question[dict[str, Traces]]:
        """Ask for what jobs have left on an unsynched back-end."""
        wanted = []
        for record in records:
            session = self.session(record)
            session.context.look(Listing(self.store.place(record)))
            wanted.append(
                Wanted(
                    record.id,
                    self.store.relative_path(record),
                    session.context.log_name,
                    self._secret_files(record),
                    session.over_since is not None,
                )
            )
        cluster = self._clusters[cluster_id]
        return self.monitors[cluster_id].ask(
            f"traces on {cluster_id}",
            lambda last: look_at(self._home_on(cluster), wanted, last),
            TRACES_SECONDS,
        )

    def _take_traces(self, records: list[SessionRecord], answer: Answer[dict[str, Traces]]) -> None:
        for record in records:
            session = self.session(record)
            if answer.value is not None and record.id in answer.value:
                looked_at = answer.asked_at if answer.problem is None else session.looked_at
                session.saw(answer.value[record.id], looked_at)

    def _card(self, record: SessionRecord, snapshot: Snapshot | None) -> Card:
        session = self.session(record)
        if session.card is not None:
            return session.card
        context = session.context
        if not self.is_elsewhere(record):
            # After the scheduler was asked: a job that it says has ended has left all by then.
            place = self.store.place(record)
            listing = Listing(place)
            context.look(listing)
            found = traces_in(listing, session.traces, context.log_name, self._secret_files(record))
            session.saw(found, time.monotonic())
        traces = session.traces
        job: Job | None = None
        if context.facts.outcome is not None:
            known = context.facts
            verdict = Verdict(JobStatus.COMPLETED, known.outcome, known.exit_code, known.reason)
        elif record.cache_completed:  # by Open OnDemand, which keeps no outcome
            cancelled_here = context.facts.cancelled_at is not None
            verdict = judge_completed(
                traces.exit_code, traces.failure, traces.log_tail, cancelled_here
            )
        else:
            if snapshot is None:
                missing = NotFound(f"The cluster {record.cluster_id} is no longer set up here.")
                snapshot = Snapshot(time.monotonic(), {}, problem=missing)
            record, job, verdict = self._ask(record, session, snapshot)
        if job is not None:
            session.node = job.host
        card = self._compose(record, session, job, verdict)
        if card.status is JobStatus.COMPLETED:
            try:
                if not self.is_elsewhere(record):
                    session.traces = remove_secrets(self.store.place(record), session.traces)
                if session.is_final(card, snapshot, elsewhere=self.is_elsewhere(record)):
                    card = session.card = self._finish(card, session)
            except FileFailed as error:  # a full disk: shown all the same, written down later
                log.warning("end of %s not written down: %s", record.id, error.detail)
        return card

    def _compose(
        self, record: SessionRecord, session: Session, job: Job | None, verdict: Verdict
    ) -> Card:
        service: Service | None = None
        if verdict.status is not JobStatus.COMPLETED:
            with suppress(NotFound, ServiceNotThere):
                service = self.service(record, verdict.status)
        return compose(
            record,
            self._clusters.get(record.cluster_id),
            self._apps.get(record.app_name),
            session.context,
            session.traces,
            job,
            verdict,
            self.store.context_directory(record),
            service,
            service is not None and self._is_silent(service),
        )

    def _ask(
        self, record: SessionRecord, session: Session, snapshot: Snapshot
    ) -> tuple[SessionRecord, Job | None, Verdict]:
        """Gather the evidence for a session that is not known to have ended, and judge it."""
        traces = session.traces
        if record.job_id is None and not session.launching:
            record = self._repair(record, traces, snapshot)
        job = snapshot.find(record.job_id) if record.job_id is not None else None
        verdict = judge(session.evidence(record, job, snapshot))
        if job is not None and verdict.status in (JobStatus.QUEUED, JobStatus.HELD):
            verdict = replace(verdict, reason=self.monitors[record.cluster_id].why(job))
        return record, job, verdict

    def _repair(self, record: SessionRecord, traces: Traces, snapshot: Snapshot) -> SessionRecord:
        """Find the job of a launch that broke off between the submission and its record."""
        job_id = snapshot.by_comment(record.comment) or traces.started_job
        if job_id is None:
            return record
        log.info("session %s of %s: found its job %s again", record.id, self.user, job_id)
        repaired = replace(record, job_id=job_id)
        self.store.write(repaired)
        return repaired

    def _finish(self, card: Card, session: Session) -> Card:
        """Write down once and for all how a session ended. Raises `FileFailed`."""
        context = session.context
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
