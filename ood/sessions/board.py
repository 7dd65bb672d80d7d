"""The board: all job cards of one user.

A background thread updates the cards, at most once in `CARDS_SECONDS` for all pages together. So no
page waits long for a slow home directory.
"""

import logging
import re
import time
from collections.abc import Callable

from ood.background import Question
from ood.errors import HostError, HostUnreachable, NotFound, PortalError
from ood.schedulers.base import JobStatus, Submission
from ood.schedulers.monitor import Snapshot, snapshot_of
from ood.sessions.card import Card
from ood.sessions.context_directory import ContextDirectory, PortalFiles
from ood.sessions.record import SessionRecord
from ood.sessions.service import Service
from ood.sessions.watch import Watch

CARDS_SECONDS = 2.0
PATIENCE = 10.0  # seconds to wait for the cards, which includes the wait for schedulers
HOME_DID_NOT_ANSWER = HostUnreachable(
    "Your home directory did not answer in time. Try again in a moment."
)
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")

log = logging.getLogger(__name__)


class Board:
    """For all threads."""

    def __init__(self, watch: Watch) -> None:
        self.user = watch.user
        self.store = watch.store
        self.monitors = watch.monitors
        self._watch = watch
        self._key = (watch.user, "cards")

    def cards(self) -> list[Card]:
        """All cards, newest first. Raises `PortalError` if the home directory cannot be reached."""
        return self._ask_cards().answer().demand()

    def find(self, session_id: str) -> Card:
        """One card. Raises `NotFound`, also for another user's session."""
        for card in self.cards():
            if card.record.id == session_id:
                return card
        raise NotFound("Session not found. It may have been deleted in another window.")

    def portal_files(self, session_id: str) -> PortalFiles:
        """The portal's own files of a session. Raises `NotFound`."""
        return self._watch.session(self.find(session_id).record).files

    def job_directory(self, record: SessionRecord) -> ContextDirectory:
        """The context directory that a session's job uses."""
        return self._watch.job_directory(record)

    def submission(self, record: SessionRecord) -> Submission | None:
        """What identifies the job of a session; None if the scheduler has not accepted one."""
        return self._watch.submission(record)

    def service(self, session_id: str) -> Service:
        """The service of a session. Raises `NotFound`, `ServiceNotThere` if it is not running, and
        `ServiceRefused` if connection.yml cannot be trusted. Raises `SchedulerError` or `HostError`
        if the scheduler does not say which hosts the job runs on."""
        card = self.find(session_id)
        return self._watch.service(card.record, card.status)

    def ask_jobs(self, cluster_id: str) -> Question[Snapshot]:
        """Ask for the user's jobs on a cluster, with and without sessions."""
        return self._watch.ask_jobs(cluster_id)

    def host_of_job(self, cluster_id: str, job_id: str) -> str:
        """The host that a job of the user runs on, according to the scheduler. Empty if the job is
        not running, or runs on several hosts. Raises `PortalError` if the scheduler fails."""
        snapshot = snapshot_of(self.ask_jobs(cluster_id).answer())
        if snapshot.problem is not None:
            raise snapshot.problem
        job = snapshot.listed(Submission(job_id))
        if job is None or job.status not in (JobStatus.RUNNING, JobStatus.SUSPENDED):
            return ""
        return job.host if HOST_NAME.fullmatch(job.host) else ""

    def begin(self, record: SessionRecord) -> None:
        """Start a launch: the job files exist, but the job has not been submitted."""
        self._watch.session(record, launching=True)
        self.store.write(record)
        self._outdate()

    def submitted(self, record: SessionRecord) -> None:
        """End a launch. The record has a job ID, unless it is not known."""
        session = self._watch.session(record)
        try:
            if record.job_id is not None:
                self.store.write(record)
                session.submitted_at = time.monotonic()
        finally:
            session.launching = False
            self._outdate()

    def discard(self, record: SessionRecord) -> None:
        """Remove all files of a launch that was refused or could not be written."""
        session = self._watch.session(record)
        session.removed, session.launching = True, False
        home = self.store.directory(record)
        job_directory = self.job_directory(record)
        steps: list[Callable[[], None]] = [home.remove, lambda: self.store.remove(record)]
        if job_directory != home:
            steps.insert(0, job_directory.remove)
        for remove in steps:
            try:
                remove()
            except HostError as error:  # a card that stays says that the launch was interrupted
                log.warning("could not remove session %s: %s %s", record.id, error, error.detail)
        self._outdate()

    def cancel(self, session_id: str) -> None:
        """Cancel a session's job. Raises `SchedulerError` or `HostError` when that fails."""
        card = self.find(session_id)
        if card.status is JobStatus.COMPLETED:
            return
        if card.record.job_id is None:
            raise PortalError("The scheduler has not accepted this job yet. Try again in a minute.")
        if self._cancel_job(card.record):
            self._watch.session(card.record).cancelled_at = int(time.time())
        self._outdate()
        self._ask_cards().answer()  # records the cancellation

    def delete(self, session_id: str) -> None:
        """Cancel the job if it has not ended, and remove the card. The files stay."""
        card = self.find(session_id)
        record = card.record
        session = self._watch.session(record)
        reachable = record.job_id is not None and record.cluster_id in self.monitors
        if card.status is not JobStatus.COMPLETED and reachable:
            self._cancel_job(record)
        if session.card is None:
            self._watch.remove_secrets(record)
        session.removed = True
        self.store.remove(record)
        self._outdate()

    def _cancel_job(self, record: SessionRecord) -> bool:
        """Cancel the job of a session, if the scheduler lists it: another job, even of another
        user, may have its ID now. Return whether it does."""
        submission = self._watch.submission(record)
        assert submission is not None
        monitor = self._watch.monitor(record.cluster_id)
        scheduler = monitor.scheduler()
        if Snapshot(0, {job.id: job for job in scheduler.jobs()}).listed(submission) is None:
            return False
        scheduler.cancel(submission.job_id)
        monitor.outdate()
        log.info("%s cancelled job %s on %s", self.user, record.job_id, record.cluster_id)
        return True

    def _ask_cards(self) -> Question[list[Card]]:
        return self._watch.questions.ask(
            self._key,
            lambda _: self._watch.update(),
            HOME_DID_NOT_ANSWER,
            CARDS_SECONDS,
            PATIENCE,
            0,
        )

    def _outdate(self) -> None:
        self._watch.questions.outdate(self._key)
