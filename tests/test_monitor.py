"""What is made of a scheduler's answers: who is asked about which job, arrays, limits."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from ood.background import BackgroundQuestions
from ood.errors import HostUnreachable, SchedulerError
from ood.help_topics import NO_REASON
from ood.schedulers.base import Job, JobStatus, Node, Outcome, Partition, Submission
from ood.schedulers.limits import Limits, limits_of
from ood.schedulers.monitor import JobMonitor, Snapshot, combined, snapshot_of
from tests.busy import busy
from tests.helpers import Clock, ScriptedScheduler, cluster, ended, job


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for room in ("schedulers.monitor", "background"):
        monkeypatch.setattr(f"ood.{room}.time", clock)
    return clock


def monitor(scheduler: ScriptedScheduler) -> JobMonitor:
    return JobMonitor("ada", cluster(), lambda _: scheduler, BackgroundQuestions())


def asks(monitor: JobMonitor, *ids: str) -> Snapshot:
    return snapshot_of(monitor.jobs([Submission(id) for id in ids]).answer())


def test_accounting_is_asked_about_what_is_gone_and_not_again_and_again(clock: Clock) -> None:
    scheduler = ScriptedScheduler()
    alpha = monitor(scheduler)
    scheduler.answer = [job("1"), ended_job("2")]
    first = asks(alpha, "1", "2", "3", "4")
    assert scheduler.asked_of_accounting == [["3", "4"]]
    assert first.find(Submission("2")) == ended_job("2")
    assert first.find(Submission("3")) is None
    scheduler.accounting = [ended_job("3")]
    clock.now += 14
    asks(alpha, "1", "2", "3", "4")
    assert len(scheduler.asked_of_accounting) == 1
    clock.now += 6
    third = asks(alpha, "1", "2", "3", "4")
    assert scheduler.asked_of_accounting[1:] == [["3", "4"]]
    assert third.find(Submission("3")) == ended_job("3")
    clock.now += 16
    assert asks(alpha, "3").find(Submission("3")) == ended_job("3")
    assert len(scheduler.asked_of_accounting) == 2, "3 is known"


@pytest.mark.parametrize("hangs", [False, True])
def test_accounting_that_does_not_answer_hides_only_what_it_would_have_told(hangs: bool) -> None:
    scheduler, ends = ScriptedScheduler(), threading.Event()
    scheduler.answer = [job("1"), ended_job("2", Outcome.CANCELLED)]
    scheduler.accounting = SchedulerError("Accounting is down.")
    if hangs:
        scheduler.ended = lambda _: [job("3")] * ends.wait(20)  # type: ignore[method-assign,assignment]
    began = time.monotonic()
    snapshot = asks(monitor(scheduler), "1", "2", "3")
    ends.set()
    assert time.monotonic() - began < 4 * busy()
    assert snapshot.problem is None
    assert snapshot.accounting is not None
    assert snapshot.find(Submission("1")) == job("1")
    assert snapshot.find(Submission("2")) == ended_job("2", Outcome.CANCELLED)
    assert snapshot.find(Submission("3")) is None


AT = 1_900_000_000
MINE = Submission("7", "ood-session:mine", AT, "mine")


@pytest.mark.parametrize(
    ("found", "is_mine"),
    [
        ({"comment": "ood-session:mine"}, True),
        ({"comment": "project=x ood-session:mine", "name": "renamed"}, True),
        ({"comment": "ood-session:mine", "submitted_at": AT + 10**6}, True),  # requeued
        ({"comment": "ood-session:other"}, False),
        ({"comment": "ood-session:"}, False),
        ({}, True),
        ({"comment": "of Open OnDemand"}, True),
        ({"submitted_at": None}, True),
        ({"submitted_at": AT - 200}, True),  # the clocks differ
        ({"submitted_at": AT - 600}, False),
        ({"submitted_at": AT + 86_400}, False),
        ({"name": "other"}, False),
    ],
    ids=str,
)
def test_a_job_with_the_same_number_may_be_another(found: dict[str, Any], is_mine: bool) -> None:
    scheduler = ScriptedScheduler()
    facts: dict[str, Any] = {"name": "mine", "submitted_at": AT} | found
    listed = replace(job("7"), **facts)
    scheduler.answer = [listed]
    snapshot = snapshot_of(monitor(scheduler).jobs([MINE]).answer())
    assert snapshot.find(MINE) == (listed if is_mine else None)
    assert scheduler.asked_of_accounting == ([] if is_mine else [["7"]])
    ended = replace(listed, status=JobStatus.COMPLETED, outcome=Outcome.SUCCEEDED)
    scheduler.answer, scheduler.accounting = [], [ended, replace(ended, name="the newest")]
    snapshot = snapshot_of(monitor(scheduler).jobs([MINE]).answer())
    if "ood-session" not in listed.comment:
        assert snapshot.find(MINE) == (ended if is_mine else None)


def ended_job(id: str, outcome: Outcome = Outcome.SUCCEEDED) -> Job:
    return replace(ended(outcome, 0), id=id)


def test_what_accounting_says_of_a_job_that_runs_is_no_end() -> None:
    scheduler = ScriptedScheduler()
    scheduler.accounting = [job("3")]
    assert asks(monitor(scheduler), "3").find(Submission("3")) is None


def test_with_a_problem_only_what_has_ended_is_known() -> None:
    two = Submission("2")
    snapshot = Snapshot(0, {"1": job("1")}, {two: ended_job("2")}, problem=SchedulerError("No."))
    assert snapshot.find(Submission("1")) is None
    assert snapshot.find(two) == ended_job("2")


def test_a_job_is_found_by_its_comment() -> None:
    jobs = [job("1", comment="x"), job("2_[1-3]", comment="ood-session:1")]
    snapshot = Snapshot(0, {each.id: each for each in jobs})
    assert snapshot.by_comment("ood-session:1") == "2"
    assert snapshot.by_comment("ood-session:2") is None


@pytest.mark.parametrize(
    ("tasks", "status", "outcome"),
    [
        ([job("5_[2-9]", JobStatus.QUEUED)], "queued", None),
        ([job("5_[2-9]", JobStatus.QUEUED), job("5_1")], "running", None),
        ([job("5_[2-9]", JobStatus.HELD), ended_job("5_1")], "held", None),
        ([job("5_2", JobStatus.SUSPENDED), job("5_3", JobStatus.QUEUED)], "suspended", None),
        ([ended_job("5_1"), ended_job("5_2")], "completed", "succeeded"),
        ([ended_job("5_1"), ended_job("5_2", Outcome.FAILED)], "completed", "failed"),
        ([ended_job("5_1", Outcome.TIMED_OUT), ended_job("5_2")], "completed", "timed-out"),
        ([job("5+0"), job("5+1", JobStatus.QUEUED)], "running", None),
    ],
    ids=str,
)
def test_an_array_is_one_job(tasks: list[Job], status: str, outcome: str | None) -> None:
    others = [job("4", JobStatus.UNDETERMINED), job("55_1", JobStatus.UNDETERMINED)]
    found = combined("5", [*others, *tasks])
    assert found is not None
    assert (found.id, found.status, found.outcome) == ("5", status, outcome)
    assert combined("6", tasks) is None


def test_of_an_array_accounting_remembers_the_tasks_that_the_queue_forgot() -> None:
    scheduler = ScriptedScheduler()
    scheduler.answer = [ended_job("5_2")]
    scheduler.accounting = [ended_job("5_1", Outcome.FAILED), ended_job("5_2"), ended_job("55_1")]
    found = asks(monitor(scheduler), "5").find(Submission("5"))
    assert found is not None
    assert found.outcome is Outcome.FAILED


# ---- Limits

SMALL = Node("small", True, 8, 2, 16_000, 1000)
LARGE = Node("large", False, 4, 0, 64_500, 0, gpus=2)
WORK = Partition("work", is_default=True, max_time=3600, nodes=(SMALL, LARGE))


@pytest.mark.parametrize(
    ("portal", "partitions", "queue", "limits"),
    [
        ({}, [], None, Limits()),
        ({}, [WORK], None, Limits(8, 62, 2, 3600)),
        ({"max_cores": 2, "max_memory_gib": 4, "gpus": 1}, [WORK], None, Limits(2, 4, 1, 3600)),
        ({"max_cores": 99, "max_memory_gib": 99, "gpus": 9}, [WORK], None, Limits(8, 62, 2, 3600)),
        ({"max_cores": 3, "gpus": 0}, [], None, Limits(3, None, 0)),
        ({"partition": "work"}, [replace(WORK, is_default=False)], None, Limits(8, 62, 2, 3600)),
        ({"partition": "other"}, [WORK], None, Limits()),
        ({"partition": "other"}, [WORK], "work", Limits(8, 62, 2, 3600)),
        ({}, [replace(WORK, is_default=False)], None, Limits()),
        (
            {},
            [replace(WORK, max_cores=3, max_memory_mib=2048, max_time=None)],
            None,
            Limits(3, 2, 2),
        ),
    ],
    ids=str,
)
def test_limits(
    portal: dict[str, object], partitions: list[Partition], queue: str | None, limits: Limits
) -> None:
    assert limits_of(cluster(**portal), partitions, queue) == limits


# ---- The monitor


def test_a_scheduler_that_cannot_be_reached_at_all_is_a_problem() -> None:
    def unreachable(_: object) -> ScriptedScheduler:
        raise HostUnreachable("Nobody there.")

    monitor = JobMonitor("ada", cluster(max_cores=3), unreachable, BackgroundQuestions())
    answer = monitor.everyones().answer()
    assert str(answer.problem) == "Nobody there."
    assert monitor.limits() == Limits(cores=3)


def test_why_a_job_waits_is_asked_for_one_that_does() -> None:
    scheduler = ScriptedScheduler()
    monitor = JobMonitor("ada", cluster(), lambda _: scheduler, BackgroundQuestions())
    assert monitor.why_it_waits(job(reason="x")) == NO_REASON
    assert monitor.why_it_waits(job(status=JobStatus.QUEUED, reason="x")).text == "Because of x."
    assert monitor.why_it_waits(job(status=JobStatus.HELD, reason="y")).text == "Because of y."
