"""The one place that asks schedulers how jobs are.

Whatever the number of cards, tabs and pages, a user's jobs on a cluster are asked for at most once
in `SECONDS`; those who ask at the same time wait for the same answer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ood.errors import PortalError
from ood.schedulers.base import Job, Scheduler

SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A user's jobs on a cluster. `asked_at` is on the monotonic clock, before the asking: a job
    submitted later may be missing. With a `problem`, the jobs are unknown."""

    asked_at: float
    jobs: dict[str, Job]
    problem: PortalError | None = None

    def by_comment(self, comment: str) -> Job | None:
        return next((job for job in self.jobs.values() if job.comment == comment), None)


@dataclass
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)  # held while asking
    snapshot: Snapshot | None = None
    answered_at: float = 0.0


class JobMonitor:
    """Snapshots of jobs, by user and cluster."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[tuple[str, str], _Slot] = {}

    def look(self, user: str, cluster: str, scheduler: Callable[[], Scheduler]) -> Snapshot:
        """Return the user's jobs on a cluster, asked for at most `SECONDS` ago, or an answer that
        came while we waited for it."""
        slot = self._slot(user, cluster)
        came = time.monotonic()
        with slot.lock:
            now = time.monotonic()
            known = slot.snapshot
            if known is not None and (now - known.asked_at < SECONDS or slot.answered_at >= came):
                return known
            slot.snapshot = _ask(now, user, cluster, scheduler)
            slot.answered_at = time.monotonic()
            return slot.snapshot

    def forget(self, user: str) -> None:
        """Forget the jobs of a user who signed out."""
        with self._lock:
            for key in [key for key in self._slots if key[0] == user]:
                del self._slots[key]

    def _slot(self, user: str, cluster: str) -> _Slot:
        with self._lock:
            return self._slots.setdefault((user, cluster), _Slot())


def _ask(now: float, user: str, cluster: str, scheduler: Callable[[], Scheduler]) -> Snapshot:
    try:
        return Snapshot(now, {job.id: job for job in scheduler().jobs()})
    except PortalError as error:
        log.warning("jobs of %s on %s: %s %s", user, cluster, error.message, error.detail)
        return Snapshot(now, {}, error)
