"""Questions in the background: how seldom they are asked, and how short anybody waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from ood.asking import Answer, Asking
from ood.errors import HostUnreachable, PortalError, SchedulerError
from tests.helpers import Clock

SILENCE = SchedulerError("It does not answer right now.")


class Oracle:
    """Answers with how often it was asked; `says` what to do first. Notices two at once."""

    def __init__(self, says: Callable[[], object] = lambda: None) -> None:
        self.says = says
        self.asked = 0
        self._one = threading.Lock()

    def __call__(self, last: int | None) -> int:
        assert last in (None, self.asked)
        assert self._one.acquire(blocking=False), "asked twice at once"
        try:
            self.asked += 1
            self.says()
            return self.asked
        finally:
            self._one.release()


def ask(
    asking: Asking, oracle: Oracle, who: str = "ada", what: str = "jobs", good_for: float = 5.0
) -> Answer[int]:
    return asking.ask((who, what), oracle, SILENCE, good_for).answer()


def raises(error: Exception) -> Callable[[], object]:
    def raise_it() -> object:
        raise error

    return raise_it


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("ood.asking.time", clock)
    return clock


@pytest.mark.parametrize("good_for", [5.0, 0.02])
@pytest.mark.parametrize("problem", [None, SchedulerError("No.")])
def test_twenty_who_ask_at_once_share_one_answer(
    good_for: float, problem: PortalError | None
) -> None:
    """Even when the asking takes longer than the answer is good for."""
    asking, start = Asking(), threading.Barrier(20)

    def takes_its_time() -> None:
        time.sleep(0.2)
        if problem:
            raise problem

    oracle = Oracle(takes_its_time)

    def look(_: int) -> Answer[int]:
        start.wait()
        return ask(asking, oracle, good_for=good_for)

    with ThreadPoolExecutor(20) as tabs:
        answers = list(tabs.map(look, range(20)))
    assert oracle.asked == 1
    assert {answer.value for answer in answers} == {None if problem else 1}
    assert {answer.problem for answer in answers} == {problem}


@pytest.mark.parametrize("problem", [None, SchedulerError("No."), HostUnreachable("No.")])
def test_an_answer_is_good_for_its_time(clock: Clock, problem: PortalError | None) -> None:
    asking, oracle = Asking(), Oracle(raises(problem) if problem else lambda: None)
    for seconds, asked in [(0, 1), (0, 1), (4.9, 1), (0.2, 2), (4.9, 2), (0.1, 3), (100, 4)]:
        clock.now += seconds
        answer = ask(asking, oracle if problem is None else Always(oracle))
        assert (oracle.asked, answer.problem) == (asked, problem)


class Always(Oracle):
    """Forgets what `Oracle` checks of the last value, which a problem leaves as it was."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self._oracle = oracle

    def __call__(self, last: int | None) -> int:  # noqa: ARG002
        self._oracle.asked += 1
        self._oracle.says()
        return 0


def test_a_question_that_takes_long_is_asked_seldom(clock: Clock) -> None:
    def takes_two_seconds() -> None:
        clock.now += 2

    asking, oracle = Asking(), Oracle(takes_two_seconds)
    ask(asking, oracle)
    clock.now += 7.9
    assert ask(asking, oracle).value == 1
    clock.now += 0.2
    assert ask(asking, oracle).value == 2


def test_nobody_waits_long_and_everybody_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen at first: a problem. It answers: the answer. Frozen again: believed for a while, then
    the problem, with what is known."""
    monkeypatch.setattr("ood.asking.PATIENCE", 0.2)
    free = threading.Event()
    asking, oracle = Asking(), Oracle(lambda: free.wait(10))
    began = time.monotonic()
    first = ask(asking, oracle, good_for=0.1)
    assert (first.value, first.problem) == (None, SILENCE)
    assert 0.15 < time.monotonic() - began < 0.5
    began = time.monotonic()
    assert ask(asking, oracle).problem is SILENCE  # who comes later does not wait again
    assert time.monotonic() - began < 0.1
    free.set()
    assert wait_for(lambda: ask(asking, oracle, good_for=0.1)).value == 1

    free.clear()
    asking, oracle = Asking(), Oracle(lambda: oracle.asked == 1 or free.wait(10))
    assert ask(asking, oracle, good_for=0.1).value == 1
    time.sleep(0.15)
    began = time.monotonic()
    believed = ask(asking, oracle, good_for=0.1)
    assert (believed.value, believed.problem) == (1, None)
    assert time.monotonic() - began < 0.15  # it has only just ceased to be good
    time.sleep(0.3)
    believed = ask(asking, oracle, good_for=0.1)
    assert (believed.value, believed.problem) == (1, SILENCE)
    free.set()
    assert wait_for(lambda: ask(asking, oracle, good_for=0.1)).value == 2


def wait_for(look: Callable[[], Answer[int]]) -> Answer[int]:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        answer = look()
        if answer.problem is None:
            return answer
        time.sleep(0.05)
    pytest.fail("no answer")


def test_a_late_answer_is_believed_until_it_is_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ood.asking.PATIENCE", 0.0)
    free = threading.Event()
    slow = Oracle(lambda: free.wait(0.3 if slow.asked == 1 else 10))
    asking = Asking()
    question = asking.ask(("ada", "jobs"), slow, SILENCE, 0.0)
    time.sleep(0.4)
    assert question.answer().value == 1
    monkeypatch.setattr("ood.asking.SPARING", 0)
    assert ask(asking, slow, good_for=0.0).problem is None  # took 0.3 s: believed for 0.6 s
    time.sleep(0.4)
    assert ask(asking, slow, good_for=0.0).problem is SILENCE
    free.set()


def test_users_and_questions_are_kept_apart() -> None:
    asking, asked = Asking(), []
    for key in [("ada", "x"), ("ada", "y"), ("bob", "x")] * 3:
        asking.ask(key, partial(lambda key, _: asked.append(key), key), SILENCE).answer()
    assert asked == [("ada", "x"), ("ada", "y"), ("bob", "x")]


def test_one_that_is_silent_does_not_hold_up_another() -> None:
    asking, free = Asking(), threading.Event()
    asking.ask(("ada", "silent"), lambda _: free.wait(5), SILENCE)
    before = time.monotonic()
    ask(asking, Oracle(), what="quick")
    assert time.monotonic() - before < 0.3
    free.set()


def test_a_mistake_of_ours_is_a_problem_and_not_an_answer() -> None:
    answer = ask(Asking(), Oracle(raises(RuntimeError("a mistake of ours"))))
    assert answer.value is None
    assert answer.problem is not None
    assert "mistake of ours" not in answer.problem.message


def test_what_a_user_was_told_is_forgotten(clock: Clock) -> None:
    asking, oracle = Asking(), Oracle()
    ask(asking, oracle)
    ask(asking, Oracle(), who="bob")
    asking.forget("ada")
    assert len(asking._questions) == 1
    clock.now += 61
    ask(asking, Oracle(), who="carol")
    assert len(asking._questions) == 1, "nobody wanted bob's any more"


@pytest.mark.usefixtures("clock")
def test_what_was_done_outdates_the_answers_about_it() -> None:
    asking, oracle, other = Asking(), Oracle(), Oracle()
    asking.ask(("ada", "alpha", "jobs"), oracle, SILENCE).answer()
    asking.ask(("ada", "beta", "jobs"), other, SILENCE).answer()
    asking.outdate(("ada", "alpha"))
    assert asking.ask(("ada", "alpha", "jobs"), oracle, SILENCE).answer().value == 2
    assert asking.ask(("ada", "beta", "jobs"), other, SILENCE).answer().value == 1
