"""The board: all the job cards of one user, and the one look behind them.

However many tabs and pages ask, files are looked at once in `SECONDS` and the scheduler is asked
through the shared monitor.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ood.apps.definition import AppDefinition
from ood.config import Cluster
from ood.errors import NotFound, PortalError
from ood.hosts.base import FileEntry
from ood.schedulers.base import Job, JobStatus, Outcome, Scheduler
from ood.schedulers.monitor import JobMonitor, Snapshot
from ood.sessions import facts as names
from ood.sessions.facts import Facts, parse_exit_code, parse_facts, parse_started_job
from ood.sessions.record import SessionRecord
from ood.sessions.status import Evidence, Verdict, judge
from ood.sessions.store import SessionStore

SECONDS = 2.0
ENDED_AGAIN_AFTER = 15.0  # seconds before accounting is asked again about the same job
TAIL_LINES = 20
TAIL_BYTES = 8192
OUTPUTS = re.compile(r"outputs-[0-9]+")
# Terminal control sequences (ECMA-48) and the other characters that a page cannot show.
CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Card:
    """One session as its page shows it. `parameters` are (label, value); times are in seconds."""

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


@dataclass
class _Memory:
    """What was learnt of one session: kept while its record is there, so it is learnt once."""

    facts: Facts | None = None
    context: dict[str, Any] | None = None
    log_name: str = ""
    log_version: tuple[int, float] | None = None
    log_tail: str = ""
    outputs: str = ""
    submitted_at: float | None = None  # monotonic
    launching: bool = False
    ended: Job | None = None
    ended_asked_at: float = float("-inf")
    card: Card | None = None  # once completed


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
    ) -> None:
        self.user = user
        self.store = store
        self.scheduler = scheduler
        self._clusters = clusters
        self._apps = apps
        self._monitor = monitor
        self._lock = threading.RLock()
        self._memories: dict[str, _Memory] = {}
        self._cards: list[Card] = []
        self._looked_at = float("-inf")

    def look(self) -> list[Card]:
        """All cards, newest first, at most `SECONDS` old."""
        with self._lock:
            if time.monotonic() - self._looked_at >= SECONDS:
                records = self.store.records()
                ids = {record.id for record in records}
                self._memories = {id: known for id, known in self._memories.items() if id in ids}
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

    def cluster(self, cluster_id: str) -> Cluster:
        """Raises `NotFound` when the session's back-end is no longer configured."""
        try:
            return self._clusters[cluster_id]
        except KeyError:
            raise NotFound(f"The cluster {cluster_id} is no longer set up here.") from None

    def begin(self, record: SessionRecord, facts: Facts) -> None:
        """A launch begins: the record is written, the job not yet submitted."""
        with self._lock:
            self.store.write(record)
            self._memories[record.id] = _Memory(facts=facts, launching=True)
            self._looked_at = float("-inf")

    def submitted(self, record: SessionRecord) -> None:
        """A launch ended: with a job id, or with none known."""
        with self._lock:
            memory = self._memory(record)
            memory.launching = False
            if record.job_id is not None:
                memory.submitted_at = time.monotonic()
                self.store.write(record)
            self._looked_at = float("-inf")

    def cancel(self, session_id: str) -> None:
        """Cancel a session's job. Raises `SchedulerError` or `HostError` when that cannot be."""
        card = self.find(session_id)
        if card.status is JobStatus.COMPLETED:
            return
        record = card.record
        if record.job_id is None:
            raise PortalError("The scheduler has not accepted this job yet. Try again in a minute.")
        self.scheduler(self.cluster(record.cluster_id)).cancel(record.job_id)
        with self._lock:
            memory = self._memory(record)
            facts = replace(self._facts(record, memory), cancelled_at=int(time.time()))
            self._write_facts(record, memory, facts)
            self._looked_at = float("-inf")

    def delete(self, session_id: str) -> None:
        """Remove a card; its files stay. A job that has not ended is cancelled first."""
        card = self.find(session_id)
        if card.status is not JobStatus.COMPLETED and card.record.job_id is not None:
            self.scheduler(self.cluster(card.record.cluster_id)).cancel(card.record.job_id)
        with self._lock:
            self._remove_secrets(card.record)
            self.store.remove(card.record)
            self._looked_at = float("-inf")

    def discard(self, record: SessionRecord) -> None:
        """Remove all traces of a launch that the scheduler refused."""
        with self._lock:
            self._looked_at = float("-inf")
            self.store.remove(record)
            self.store.discard_context(record)

    def withheld(self, session_id: str) -> tuple[str, ...]:
        """The secret fields that were filled in at this session's launch, and not kept."""
        with self._lock:
            card = self.find(session_id)
            return self._facts(card.record, self._memory(card.record)).withheld

    def typed(self, session_id: str) -> dict[str, str]:
        """What was typed into the form for this session, without secrets."""
        with self._lock:
            card = self.find(session_id)
            context = self._context(card.record, self._memory(card.record))
            return {name: str(value) for name, value in context.items()}

    # All below: `self._lock` is held.

    def _card(self, record: SessionRecord, snapshots: dict[str, Snapshot]) -> Card:
        memory = self._memory(record)
        if memory.card is not None:
            return memory.card
        files = self.store.context_files(record)
        facts = self._facts(record, memory)
        self._look_at_log(record, memory, files)
        job: Job | None = None
        if facts.outcome is not None:
            verdict = Verdict(JobStatus.COMPLETED, facts.outcome, facts.exit_code, facts.reason)
        elif record.cache_completed:  # by Open OnDemand, which keeps no outcome
            code = self._exit_code(record, files)
            verdict = judge(Evidence(None, "", code, False, True, False, 0.0, False))
            if code is None:
                verdict = Verdict(JobStatus.COMPLETED, Outcome.UNKNOWN)
        else:
            record, job, verdict = self._ask(record, memory, facts, files, snapshots)
        if verdict.status is JobStatus.COMPLETED:
            self._look_at_outputs(record, memory, files)
        card = self._compose(record, memory, facts, job, verdict)
        if verdict.status is JobStatus.COMPLETED:
            self._finish(card, memory, facts, files)
        return card

    def _ask(
        self,
        record: SessionRecord,
        memory: _Memory,
        facts: Facts,
        files: Mapping[str, FileEntry],
        snapshots: dict[str, Snapshot],
    ) -> tuple[SessionRecord, Job | None, Verdict]:
        """Gather the evidence for a session that is not known to have ended, and judge it."""
        snapshot = snapshots.get(record.cluster_id)
        if snapshot is None:
            snapshot = snapshots[record.cluster_id] = self._snapshot(record.cluster_id)
        if record.job_id is None and not memory.launching:
            record = self._repair(record, files, snapshot)
        job = snapshot.jobs.get(record.job_id) if record.job_id is not None else None
        fresh = memory.launching or (
            memory.submitted_at is not None and memory.submitted_at >= snapshot.asked_at
        )
        exit_code = self._exit_code(record, files)
        if job is None and exit_code is None and record.job_id and not fresh:
            job = self._ended(record, memory, snapshot)
        evidence = Evidence(
            job=job,
            silence=snapshot.problem.message if snapshot.problem else "",
            exit_code=exit_code,
            connected="connection.yml" in files,
            submitted=record.job_id is not None,
            fresh=fresh,
            age=time.time() - record.created_at,
            cancelled_here=facts.cancelled_at is not None,
        )
        return record, job, judge(evidence)

    def _snapshot(self, cluster_id: str) -> Snapshot:
        try:
            cluster = self.cluster(cluster_id)
        except NotFound as error:
            return Snapshot(time.monotonic(), {}, error)
        return self._monitor.look(self.user, cluster_id, lambda: self.scheduler(cluster))

    def _repair(
        self, record: SessionRecord, files: Mapping[str, FileEntry], snapshot: Snapshot
    ) -> SessionRecord:
        """Find the job of a launch that broke off between the submission and its record."""
        found = snapshot.by_comment(record.comment)
        job_id = found.id if found is not None else None
        if job_id is None and _is_file(files, names.STARTED):
            job_id = parse_started_job(self.store.read(record, names.STARTED))
        if job_id is None:
            return record
        log.info("session %s of %s: found its job %s again", record.id, self.user, job_id)
        repaired = replace(record, job_id=job_id)
        self.store.write(repaired)
        return repaired

    def _ended(self, record: SessionRecord, memory: _Memory, snapshot: Snapshot) -> Job | None:
        """Ask accounting for a job that the queue no longer lists."""
        now = time.monotonic()
        if snapshot.problem is not None or now - memory.ended_asked_at < ENDED_AGAIN_AFTER:
            return memory.ended
        memory.ended_asked_at = now
        assert record.job_id is not None
        try:
            memory.ended = self.scheduler(self.cluster(record.cluster_id)).ended(record.job_id)
        except PortalError as error:
            log.warning("job %s of %s: %s %s", record.job_id, self.user, error, error.detail)
        return memory.ended

    def _compose(
        self,
        record: SessionRecord,
        memory: _Memory,
        facts: Facts,
        job: Job | None,
        verdict: Verdict,
    ) -> Card:
        cluster = self._clusters.get(record.cluster_id)
        return Card(
            record=record,
            cluster_title=cluster.label if cluster else record.cluster_id,
            status=verdict.status,
            outcome=verdict.outcome,
            exit_code=verdict.exit_code,
            reason=verdict.reason,
            host=(job.host if job else "") or facts.host,
            time_limit=(job.time_limit if job else None) or facts.time_limit,
            time_left=job.time_left if job else None,
            context_directory=self.store.context_directory(record),
            parameters=self._parameters(record, memory),
            log_name=memory.log_name,
            log_tail=memory.log_tail,
            outputs=memory.outputs,
        )

    def _finish(
        self, card: Card, memory: _Memory, facts: Facts, files: Mapping[str, FileEntry]
    ) -> None:
        """Write down once and for all how a session ended, and leave no secret behind."""
        record = card.record
        self._remove_secrets(record, files)
        if files and facts.outcome is None:
            known = replace(
                facts,
                outcome=card.outcome,
                exit_code=card.exit_code,
                reason=card.reason,
                host=card.host,
                time_limit=card.time_limit,
            )
            self._write_facts(record, memory, known)
        if not record.cache_completed:
            record = record.completed(int(time.time()))
            self.store.write(record)
        memory.card = replace(card, record=record)

    def _remove_secrets(
        self, record: SessionRecord, files: Mapping[str, FileEntry] | None = None
    ) -> None:
        files = self.store.context_files(record) if files is None else files
        app = self._apps.get(record.app_name)
        for field in app.fields if app else ():
            if field.is_secret and secret_file(field.name) in files:
                self.store.remove_file(record, secret_file(field.name))

    def _write_facts(self, record: SessionRecord, memory: _Memory, facts: Facts) -> None:
        self.store.replace(record, names.PORTAL, facts.to_json())
        memory.facts = facts

    def _facts(self, record: SessionRecord, memory: _Memory) -> Facts:
        if memory.facts is None:
            memory.facts = parse_facts(self.store.read(record, names.PORTAL, names.MAX_SIZE))
        return memory.facts

    def _exit_code(self, record: SessionRecord, files: Mapping[str, FileEntry]) -> int | None:
        if not _is_file(files, names.OUTCOME):
            return None
        found = parse_exit_code(self.store.read(record, names.OUTCOME, names.MAX_SIZE))
        return found[0] if found else None

    def _context(self, record: SessionRecord, memory: _Memory) -> dict[str, Any]:
        if memory.context is None:
            memory.context = self.store.read_json(record, "user_defined_context.json")
        return memory.context

    def _parameters(self, record: SessionRecord, memory: _Memory) -> tuple[tuple[str, str], ...]:
        app = self._apps.get(record.app_name)
        labels = {field.name: field.label for field in app.fields} if app else {}
        switches = {field.name for field in app.fields if field.widget == "check_box"} if app else ()
        rows = []
        for name, value in self._context(record, memory).items():
            if name == "cluster" or str(value) == "":
                continue
            shown = ("yes" if str(value) == "1" else "no") if name in switches else str(value)
            rows.append((labels.get(name, name), shown))
        return tuple(rows)

    def _look_at_log(
        self, record: SessionRecord, memory: _Memory, files: Mapping[str, FileEntry]
    ) -> None:
        if not memory.log_name:
            options = self.store.read_json(record, "job_script_options.json")
            path = str(options.get("output_path") or "output.log")
            memory.log_name = path.rpartition("/")[2]
        found = files.get(memory.log_name)
        if found is None or not found.is_file:
            return
        version = (found.size, found.modified)
        if version != memory.log_version:
            start = max(0, found.size - TAIL_BYTES)
            data = self.store.read(record, memory.log_name, TAIL_BYTES, start) or b""
            memory.log_tail = tail_of(data, cut=start > 0)
            memory.log_version = version

    def _look_at_outputs(
        self, record: SessionRecord, memory: _Memory, files: Mapping[str, FileEntry]
    ) -> None:
        if not memory.outputs and _is_file(files, "outputs_directory"):
            data = self.store.read(record, "outputs_directory", 100) or b""
            text = data.decode("ascii", "replace").strip()
            memory.outputs = text if OUTPUTS.fullmatch(text) else ""

    def _memory(self, record: SessionRecord) -> _Memory:
        return self._memories.setdefault(record.id, _Memory())


def secret_file(field: str) -> str:
    """The name of the file that carries a secret field to the job, which removes it."""
    return f"secret_{field}"


def tail_of(data: bytes, *, cut: bool) -> str:
    """The last lines of a log as plain text; `cut`: the data begins in the middle of a line."""
    lines = data.decode("utf-8", "replace").split("\n")
    if cut:
        lines = lines[1:]
    if lines and not lines[-1]:
        lines.pop()
    shown = (line.rpartition("\r")[2] if "\r" in line.rstrip("\r") else line for line in lines)
    return "\n".join(CONTROLS.sub("", line.rstrip("\r")) for line in list(shown)[-TAIL_LINES:])


def _is_file(files: Mapping[str, FileEntry], name: str) -> bool:
    return name in files and files[name].is_file
