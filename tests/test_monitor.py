"""The shared job monitor: how seldom a scheduler is asked, however many want to know."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ood.errors import HostUnreachable, SchedulerError
from ood.schedulers.base import Job
from ood.schedulers.monitor import JobMonitor, Snapshot
from tests.helpers import Clock, ScriptedScheduler, job


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("ood.schedulers.monitor.time", clock)
    return clock


class SlowScheduler(ScriptedScheduler):
    """A scheduler that takes its time, and notices when it is asked twice at once."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._one = threading.Lock()

    def jobs(self) -> list[Job]:
        assert self._one.acquire(blocking=False), "asked twice at once"
        try:
            time.sleep(self._seconds)
            return super().jobs()
        finally:
            self._one.release()


def all_at_once(count: int, monitor: JobMonitor, scheduler: ScriptedScheduler) -> list[Snapshot]:
    start = threading.Barrier(count)

    def look(_: int) -> Snapshot:
        start.wait()
        return monitor.look("ada", "alpha", lambda: scheduler)

    with ThreadPoolExecutor(count) as tabs:
        return list(tabs.map(look, range(count)))


@pytest.mark.parametrize("problem", [None, SchedulerError("No answer.")])
def test_twenty_who_ask_at_once_share_one_call(problem: SchedulerError | None) -> None:
    scheduler = SlowScheduler(0.1)
    scheduler.answer = problem or [job("1"), job("2")]
    answers = all_at_once(20, JobMonitor(), scheduler)
    assert scheduler.asked == 1
    assert all(answer is answers[0] for answer in answers)
    assert set(answers[0].jobs) == (set() if problem else {"1", "2"})
    assert answers[0].problem is problem


def test_a_call_longer_than_an_answer_is_kept_is_shared_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scheduler that times out after ten seconds would be asked by each in turn otherwise."""
    monkeypatch.setattr("ood.schedulers.monitor.SECONDS", 0.02)
    scheduler = SlowScheduler(0.3)
    scheduler.answer = SchedulerError("No answer.")
    all_at_once(5, JobMonitor(), scheduler)
    assert scheduler.asked == 1


@pytest.mark.parametrize(
    "problem", [None, SchedulerError("No answer."), HostUnreachable("No answer.")]
)
def test_an_answer_is_good_for_five_seconds(
    clock: Clock, problem: SchedulerError | HostUnreachable | None
) -> None:
    monitor, scheduler = JobMonitor(), ScriptedScheduler()
    scheduler.answer = problem or [job()]
    for seconds, asked in [(0, 1), (0, 1), (4.9, 1), (0.2, 2), (4.9, 2), (0.1, 3), (100, 4)]:
        clock.now += seconds
        snapshot = monitor.look("ada", "alpha", lambda: scheduler)
        assert (scheduler.asked, snapshot.problem) == (asked, problem)


def test_a_scheduler_that_cannot_be_reached_at_all_is_a_problem() -> None:
    def unreachable() -> ScriptedScheduler:
        raise HostUnreachable("Nobody there.")

    snapshot = JobMonitor().look("ada", "alpha", unreachable)
    assert str(snapshot.problem) == "Nobody there."
    assert snapshot.jobs == {}


@pytest.mark.usefixtures("clock")
def test_users_and_clusters_are_asked_for_apart() -> None:
    monitor, scheduler = JobMonitor(), ScriptedScheduler()
    for _ in range(3):
        for user, cluster in [("ada", "alpha"), ("ada", "beta"), ("bob", "alpha")]:
            monitor.look(user, cluster, lambda: scheduler)
    assert scheduler.asked == 3


def test_one_silent_cluster_does_not_hold_up_another() -> None:
    monitor, silent, quick = JobMonitor(), SlowScheduler(0.5), ScriptedScheduler()
    waiting = threading.Thread(target=monitor.look, args=("ada", "silent", lambda: silent))
    waiting.start()
    before = time.monotonic()
    monitor.look("ada", "quick", lambda: quick)
    assert time.monotonic() - before < 0.3
    waiting.join()


def test_a_job_is_found_by_its_comment() -> None:
    snapshot = Snapshot(0, {"1": job("1", comment="x"), "2": job("2", comment="ood-session:1")})
    found = snapshot.by_comment("ood-session:1")
    assert found is not None
    assert found.id == "2"
    assert snapshot.by_comment("ood-session:2") is None


def test_an_answer_that_makes_no_sense_is_not_kept_as_no_jobs() -> None:
    monitor, scheduler = JobMonitor(), ScriptedScheduler()
    scheduler.answer = RuntimeError("a mistake of ours")
    with pytest.raises(RuntimeError):
        monitor.look("ada", "alpha", lambda: scheduler)
    scheduler.answer = [job()]
    assert set(monitor.look("ada", "alpha", lambda: scheduler).jobs) == {"7"}
