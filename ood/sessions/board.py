"""The board: all the job cards of one user, and the one look behind them.

However many tabs and pages ask, files are looked at once in `SECONDS`. Schedulers, and the files on
unsynched back-ends, are asked in the background, so that one that is slow holds up no other.
"""

from __future__ import annotations

import logging
import re
import threading
import time

from ood.background import Question
from ood.errors import FileFailed, HostError, NotFound, PortalError
from ood.schedulers.base import JobStatus
from ood.schedulers.monitor import Snapshot, snapshot_of
from ood.sessions.card import Card
from ood.sessions.context import ContextDirectory
from ood.sessions.places import Place
from ood.sessions.record import SessionRecord
from ood.sessions.service import Service
from ood.sessions.watch import Watch

SECONDS = 2.0
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")

log = logging.getLogger(__name__)


class Board:
    """All sessions of one user. Safe for all threads."""

    def __init__(self, watch: Watch) -> None:
        self.user = watch.user
        self.store = watch.store
        self.monitors = watch.monitors
        self._watch = watch
        self._lock = threading.RLock()
        self._cards: list[Card] = []
        self._looked_at = float("-inf")

    def look(self) -> list[Card]:
        """All cards, newest first, at most `SECONDS` old."""
        with self._lock:
            if time.monotonic() - self._looked_at >= SECONDS:
                self._cards = self._watch.look(self.store.records())
                self._looked_at = time.monotonic()
            return self._cards

    def find(self, session_id: str) -> Card:
        """One card. Raises `NotFound`, the same for no such session and somebody else's."""
        for card in self.look():
            if card.record.id == session_id:
                return card
        raise NotFound("There is no such session. It may have been deleted in another window.")

    def context(self, session_id: str) -> ContextDirectory:
        """The portal's part of a job context directory. Raises `NotFound`."""
        with self._lock:
            return self._watch.session(self.find(session_id).record).context

    def place(self, record: SessionRecord) -> Place:
        """Where the job of a session finds its context directory, and leaves its traces."""
        return self._watch.place(record)

    def service(self, session_id: str) -> Service:
        """Where the service of a session is.

        Raises `NotFound`, `ServiceNotThere` when there is nothing to connect to, and
        `ServiceRefused` when the job says something that cannot be believed.
        """
        card = self.find(session_id)
        with self._lock:
            return self._watch.service(card.record, card.status)

    def ask_jobs(self, cluster_id: str) -> Question[Snapshot]:
        """Ask for the user's jobs on a cluster, with or without sessions."""
        with self._lock:
            return self._watch.ask_jobs(cluster_id)

    def host_of_job(self, cluster_id: str, job_id: str) -> str:
        """The host that a job of the user's runs on, by the scheduler's word; empty when it does
        not run, or on several. Raises the scheduler's problem when it does not answer."""
        snapshot = snapshot_of(self.ask_jobs(cluster_id).answer())
        if snapshot.problem is not None:
            raise snapshot.problem
        job = snapshot.find(job_id)
        on_it = job is not None and job.status in (JobStatus.RUNNING, JobStatus.SUSPENDED)
        return job.host if on_it and job is not None and HOST_NAME.fullmatch(job.host) else ""

    def begin(self, record: SessionRecord) -> None:
        """A launch begins: the job files are there, the job is not submitted yet."""
        with self._lock:
            self._watch.session(record).launching = True
            self.store.write(record)
            self._look_again()

    def submitted(self, record: SessionRecord) -> None:
        """A launch ended: with a job id, or with none known."""
        with self._lock:
            session = self._watch.session(record)
            session.launching = False
            if record.job_id is not None:
                session.submitted_at = time.monotonic()
                self.store.write(record)
            self._look_again()

    def discard(self, record: SessionRecord) -> None:
        """Remove all traces of a launch that was refused or could not be written."""
        if self._watch.is_elsewhere(record):
            try:
                self.place(record).remove()
            except HostError as error:
                log.warning("files of %s are left: %s %s", record.id, error, error.detail)
        with self._lock:
            self._look_again()
            try:
                self.store.place(record).remove()
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
                self._watch.session(card.record).context.add_facts(cancelled_at=int(time.time()))
            except FileFailed as error:  # it is cancelled, which matters more
                log.warning("cancel of %s not written down: %s", session_id, error.detail)

    def delete(self, session_id: str) -> None:
        """Remove a card; its files stay. A job that has not ended is cancelled first."""
        card = self.find(session_id)
        record = card.record
        reachable = record.job_id is not None and record.cluster_id in self.monitors
        if card.status is not JobStatus.COMPLETED and reachable:
            self._cancel_job(record)
        with self._lock:
            finished = self._watch.session(record).card is not None
        if not finished:
            self._watch.remove_secrets(record)
        with self._lock:
            self.store.remove(record)
            self._look_again()

    def _cancel_job(self, record: SessionRecord) -> None:
        assert record.job_id is not None
        monitor = self._watch.monitor(record.cluster_id)
        monitor.scheduler().cancel(record.job_id)
        monitor.outdate()
        log.info("%s cancelled job %s on %s", self.user, record.job_id, record.cluster_id)

    def _look_again(self) -> None:
        self._looked_at = float("-inf")
