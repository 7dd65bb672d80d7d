"""Updating the cards of a user's sessions.

A card shows what the scheduler says about the job and what the job reports in its context
directory. Reports on an unsynched back-end are read in the background.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from ood.apps.definition import AppDefinition
from ood.background import BackgroundQuestions, Question
from ood.config import Cluster
from ood.errors import FileFailed, HostError, NotFound, SchedulerError, ServiceNotThere
from ood.help_topics import Reason
from ood.hosts.base import Host
from ood.schedulers.base import Job, JobStatus, NodeNames, Scheduler, Submission
from ood.schedulers.monitor import JobMonitor, Snapshot, snapshot_of
from ood.sessions.card import Card
from ood.sessions.context_directory import ContextDirectory, Listing, PortalFiles
from ood.sessions.job_report import (
    NO_REPORT,
    JobReport,
    ReportRequest,
    read_report,
    read_reports,
    remove_secrets,
    secret_file,
    unread,
)
from ood.sessions.record import SessionRecord
from ood.sessions.service import Service, service_at
from ood.sessions.session import Session
from ood.sessions.status import Verdict, judge, judge_completed
from ood.sessions.store import SessionStore

REPORT_SECONDS = 3.0
"""For how long a report from an unsynched back-end is used."""

log = logging.getLogger(__name__)


class Watch:
    """The sessions of one user. `files_host` returns the host with the files of a cluster's jobs.

    Only one thread at a time may call `update`. All threads may call the other methods.
    """

    def __init__(
        self,
        user: str,
        store: SessionStore,
        clusters: Mapping[str, Cluster],
        apps: Mapping[str, AppDefinition],
        questions: BackgroundQuestions,
        scheduler: Callable[[Cluster], Scheduler],
        files_host: Callable[[Cluster], Host],
        is_silent: Callable[[Service], bool] = lambda _: False,
    ) -> None:
        self.user = user
        self.store = store
        self.questions = questions
        self.monitors = {
            id: JobMonitor(user, cluster, scheduler, questions) for id, cluster in clusters.items()
        }
        self._clusters = clusters
        self._apps = apps
        self._files_host = files_host
        self._is_silent = is_silent
        self._lock = threading.Lock()  # guards `_sessions`
        self._sessions: dict[str, Session] = {}
        # By scheduler key; always replaced as a whole.
        self._submissions: dict[str, list[Submission]] = {}

    def monitor(self, cluster_id: str) -> JobMonitor:
        """Raises `NotFound`."""
        try:
            return self.monitors[cluster_id]
        except KeyError:
            raise _not_configured(cluster_id) from None

    def job_directory(self, record: SessionRecord) -> ContextDirectory:
        """The context directory that the job uses, on its own back-end if that is unsynched."""
        cluster = self._clusters.get(record.cluster_id)
        if cluster is None or not cluster.unsynched:
            return self.store.directory(record)
        return ContextDirectory(self._files_host(cluster), self.store.relative_path(record))

    def remove_secrets(self, record: SessionRecord) -> None:
        """Remove the secrets that a job has left, whether or not a report listed them."""
        directory = self.job_directory(record)
        try:
            report = read_report(Listing(directory), NO_REPORT, "", self._secret_files(record))
            remove_secrets(directory, report)
        except FileFailed as error:
            log.warning("could not remove the secrets of session %s: %s", record.id, error.detail)

    def service(self, record: SessionRecord, status: JobStatus) -> Service:
        """Where the service of a session is. Raises what `Board.service` does."""
        app = self._apps.get(record.app_name)
        if app is None or app.manifest.service is None:
            raise NotFound("This session has nothing to connect to.")
        session = self.session(record)
        report = session.report
        # While the scheduler does not answer, use the node that it named last.
        runs = status in (JobStatus.RUNNING, JobStatus.UNDETERMINED) and session.node
        if not runs or not report.connected:
            raise ServiceNotThere(f"{app.manifest.service.title} is not running.")
        connection = None if report.connection_changed else report.connection
        nodes = [NodeNames(session.node, (session.node,))]
        if connection is not None and not connection.is_on(session.node):
            # The job runs on several nodes, or its node has a host name that Slurm does not use.
            nodes = self.monitor(record.cluster_id).nodes_of(session.node).answer().demand()
        return service_at(connection, nodes, self.user, record, app.manifest.service)

    def session(self, record: SessionRecord, *, launching: bool = False) -> Session:
        with self._lock:
            found = self._sessions.get(record.id)
            if found is None:
                app = self._apps.get(record.app_name)
                files = PortalFiles(self.store.directory(record), app)
                found = Session(files, self._clusters.get(record.cluster_id))
                self._sessions[record.id] = found
            found.launching |= launching
            return found

    def submission(self, record: SessionRecord) -> Submission | None:
        """What identifies the job of a session; None if the scheduler has not accepted one."""
        return record.submission(self.session(record).files.job_name)

    def ask_jobs(self, cluster_id: str) -> Question[Snapshot]:
        """Ask for the user's jobs on a cluster, with and without sessions."""
        monitor = self.monitors[cluster_id]
        return monitor.jobs(self._submissions.get(monitor.cluster.scheduler_key, []))

    def update(self) -> list[Card]:
        """Query schedulers and reports, and return the cards of all sessions, newest first.

        This also records the job of an interrupted launch, cancellations, and how sessions ended,
        and removes the secrets that jobs have left.
        """
        began = time.monotonic()
        records = self.store.records()
        self._forget_others({record.id for record in records}, began)
        live: dict[str, list[SessionRecord]] = {}
        for record in records:
            if self.session(record).card is None:
                live.setdefault(record.cluster_id, []).append(record)
        submissions: dict[str, list[Submission]] = {}
        for id in live.keys() & self._clusters.keys():
            theirs = map(self.submission, live[id])
            submissions.setdefault(self._clusters[id].scheduler_key, []).extend(
                filter(None, theirs)
            )
        self._submissions = submissions
        jobs = {
            id: self.ask_jobs(id)
            for id, records_there in live.items()
            if id in self._clusters and not all(each.cache_completed for each in records_there)
        }
        reports = {
            id: self._ask_reports(id, records_there)
            for id, records_there in live.items()
            if self.session(records_there[0]).unsynched
        }
        snapshots = {id: snapshot_of(question.answer()) for id, question in jobs.items()}
        for id, question in reports.items():
            answer = question.answer()
            for record in live[id]:
                report = (answer.value or {}).get(record.id)
                if report is not None:
                    read_at = answer.asked_at if answer.problem is None else float("-inf")
                    self.session(record).take_report(report, read_at)
        return [self._card(record, snapshots.get(record.cluster_id)) for record in records]

    def _forget_others(self, ids: set[str], began: float) -> None:
        """Forget sessions without a record, except those launched since the records were listed."""
        with self._lock:
            self._sessions = {
                id: known
                for id, known in self._sessions.items()
                if id in ids or known.launching or (known.submitted_at or 0.0) >= began
            }

    def _secret_files(self, record: SessionRecord) -> tuple[str, ...]:
        app = self._apps.get(record.app_name)
        return tuple(secret_file(field.name) for field in app.secrets) if app else ()

    def _ask_reports(
        self, cluster_id: str, records: list[SessionRecord]
    ) -> Question[dict[str, JobReport]]:
        """Ask for the reports of jobs on an unsynched back-end."""
        requests = []
        for record in records:
            session = self.session(record)
            try:
                session.files.update(Listing(session.files.directory))
                session.unread = False
            except FileFailed as error:
                log.warning("could not read session %s: %s", record.id, error.detail)
                session.unread = True
            requests.append(
                ReportRequest(
                    record.id,
                    self.store.relative_path(record),
                    session.files.log_name,
                    self._secret_files(record),
                    session.seen_completed_at is not None,
                )
            )
        cluster = self._clusters[cluster_id]
        return self.monitors[cluster_id].ask(
            f"reports on {cluster_id}",
            lambda last: read_reports(self._files_host(cluster), requests, last),
            REPORT_SECONDS,
        )

    def _card(self, record: SessionRecord, snapshot: Snapshot | None) -> Card:
        session = self.session(record)
        if session.card is not None:
            return session.card
        files = session.files
        if not session.unsynched:
            # After the scheduler's answer: a job that it lists as ended has reported everything.
            try:
                listing = Listing(files.directory)
                files.update(listing)
                secrets = self._secret_files(record)
                report = read_report(listing, session.report, files.log_name, secrets)
            except FileFailed as error:
                report = unread(session.report, error)
            session.unread = bool(report.unread)
            session.take_report(report, time.monotonic())
        self._record_cancellation(record, session)
        job: Job | None = None
        facts, report = files.facts, session.report
        if facts.outcome is not None:
            reason = Reason(facts.reason, facts.topic)
            verdict = Verdict(JobStatus.COMPLETED, facts.outcome, facts.exit_code, reason)
        elif record.cache_completed:  # set by Open OnDemand, which records no outcome
            verdict = judge_completed(report, session.cancelled_here)
        else:
            if snapshot is None:
                problem = _not_configured(record.cluster_id)
                snapshot = Snapshot(time.monotonic(), {}, problem=problem)
            if record.job_id is None and not session.launching:
                record = self._repair_launch(record, session, snapshot)
            submission = self.submission(record)
            job = snapshot.find(submission) if submission is not None else None
            verdict = judge(session.evidence(record, job, snapshot))
            if job is not None and verdict.status in (JobStatus.QUEUED, JobStatus.HELD):
                verdict = replace(
                    verdict, reason=self.monitors[record.cluster_id].why_it_waits(job)
                )
        if job is not None:
            session.node = job.host
        service = None
        if verdict.status is not JobStatus.COMPLETED:
            with suppress(NotFound, ServiceNotThere, SchedulerError, HostError):
                service = self.service(record, verdict.status)
        silent = service is not None and self._is_silent(service)
        card = session.make_card(record, job, verdict, service, silent)
        if card.status is JobStatus.COMPLETED:
            try:
                if not session.unsynched and not session.unread:
                    session.report = remove_secrets(files.directory, report)
                if session.is_final(card, snapshot):
                    card = session.card = self._record_end(card, session)
            except FileFailed as error:  # a full disk, for example: the next update tries again
                log.warning("could not record how %s ended: %s", record.id, error.detail)
        return card

    def _repair_launch(
        self, record: SessionRecord, session: Session, snapshot: Snapshot
    ) -> SessionRecord:
        """Find the job of a launch that was interrupted after submitting it."""
        job_id = snapshot.by_comment(record.comment) or session.report.started_job
        if job_id is None:
            return record
        log.info("found job %s of session %s of %s again", job_id, record.id, self.user)
        return self._write(replace(record, job_id=job_id), session)

    def _record_cancellation(self, record: SessionRecord, session: Session) -> None:
        if session.cancelled_at is None or session.files.facts.cancelled_at is not None:
            return
        if session.unread:  # portal.json may hold more than is known
            return
        try:
            if session.files.exist:
                session.files.add_facts(cancelled_at=session.cancelled_at)
        except FileFailed as error:  # the job is cancelled, which matters more
            log.warning("could not record that %s was cancelled: %s", record.id, error.detail)

    def _record_end(self, card: Card, session: Session) -> Card:
        """Record how a session ended, for good. Raises `FileFailed`."""
        files = session.files
        if files.exist and files.facts.outcome is None:
            files.add_facts(
                outcome=card.outcome,
                exit_code=card.exit_code,
                reason=card.reason,
                topic=card.topic,
                host=card.host,
                time_limit=card.time_limit,
            )
        if card.record.cache_completed:
            return card
        return replace(card, record=self._write(card.record.completed(int(time.time())), session))

    def _write(self, record: SessionRecord, session: Session) -> SessionRecord:
        """Write a record, and remove it if the user has deleted the session meanwhile."""
        self.store.write(record)
        if session.removed:
            with suppress(HostError):
                self.store.remove(record)
        return record


def _not_configured(cluster_id: str) -> NotFound:
    return NotFound(
        f"The back-end “{cluster_id}” is no longer configured in this portal. Tell your "
        "administrator."
    )
