"""Questions in the background: how seldom they are asked, and how short anybody waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from ood.background import Answer, BackgroundQuestions
from ood.errors import HostUnreachable, PortalError, SchedulerError
from tests.conftest import wait_until
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
    questions: BackgroundQuestions,
    oracle: Oracle,
    who: str = "ada",
    what: str = "jobs",
    good_for: float = 5.0,
) -> Answer[int]:
    return questions.ask((who, what), oracle, SILENCE, good_for).answer()


def raises(error: Exception) -> Callable[[], object]:
    def raise_it() -> object:
        raise error

    return raise_it


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads may start late. Tests of patience itself have less."""
    monkeypatch.setattr("ood.background.PATIENCE", 30.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("ood.background.time", clock)
    return clock


@pytest.mark.parametrize("good_for", [5.0, 0.02])
@pytest.mark.parametrize("problem", [None, SchedulerError("No.")])
def test_twenty_who_ask_at_once_share_one_answer(
    good_for: float, problem: PortalError | None
) -> None:
    """Even when answering takes longer than the answer is good for."""
    questions, start, asked = BackgroundQuestions(), threading.Barrier(20), threading.Barrier(21)

    def takes_its_time() -> None:
        asked.wait(30)
        time.sleep(0.1)
        if problem:
            raise problem

    oracle = Oracle(takes_its_time)

    def look(_: int) -> Answer[int]:
        start.wait()
        question = questions.ask(("ada", "jobs"), oracle, SILENCE, good_for)
        asked.wait(30)
        return question.answer()

    with ThreadPoolExecutor(20) as tabs:
        answers = list(tabs.map(look, range(20)))
    assert oracle.asked == 1
    assert {answer.value for answer in answers} == {None if problem else 1}
    assert {answer.problem for answer in answers} == {problem}


@pytest.mark.parametrize("problem", [None, SchedulerError("No."), HostUnreachable("No.")])
def test_an_answer_is_good_for_its_time(clock: Clock, problem: PortalError | None) -> None:
    questions, oracle = BackgroundQuestions(), Oracle(raises(problem) if problem else lambda: None)
    for seconds, asked in [(0, 1), (0, 1), (4.9, 1), (0.2, 2), (4.9, 2), (0.1, 3), (100, 4)]:
        clock.now += seconds
        answer = ask(questions, oracle if problem is None else Always(oracle))
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

    questions, oracle = BackgroundQuestions(), Oracle(takes_two_seconds)
    ask(questions, oracle)
    clock.now += 7.9
    assert ask(questions, oracle).value == 1
    clock.now += 0.2
    assert ask(questions, oracle).value == 2


def test_nobody_waits_long_and_everybody_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen at first: a problem. It answers: the answer. Frozen again: believed for a while, then
    the problem, with what is known."""
    free = threading.Event()
    questions, oracle = BackgroundQuestions(), Oracle(lambda: free.wait(60))
    monkeypatch.setattr("ood.background.PATIENCE", 1.0)
    began = time.monotonic()
    first = ask(questions, oracle, good_for=0.1)
    assert (first.value, first.problem) == (None, SILENCE)
    assert 0.95 < time.monotonic() - began < 30
    began = time.monotonic()
    assert ask(questions, oracle).problem is SILENCE  # who comes later does not wait again
    assert time.monotonic() - began < 0.9
    free.set()
    assert wait_for(lambda: ask(questions, oracle, good_for=60.0)).value == 1

    free.clear()
    monkeypatch.setattr("ood.background.SPARING", 0)
    questions, oracle = BackgroundQuestions(), Oracle(lambda: oracle.asked == 1 or free.wait(60))
    monkeypatch.setattr("ood.background.PATIENCE", 30.0)
    assert ask(questions, oracle, good_for=0.1).value == 1
    monkeypatch.setattr("ood.background.PATIENCE", 0.2)
    time.sleep(0.15)
    believed = ask(questions, oracle, good_for=0.1)
    assert (believed.value, believed.problem) == (1, SILENCE)
    free.set()
    assert wait_for(lambda: ask(questions, oracle, good_for=60.0)).value == 2


def wait_for(look: Callable[[], Answer[int]]) -> Answer[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = look()
        if answer.problem is None:
            return answer
        time.sleep(0.05)
    pytest.fail("no answer")


def test_a_late_answer_is_believed_until_it_is_overdue(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()

    def takes_three_seconds_at_first() -> None:
        if slow.asked == 1:
            clock.now += 3
        else:
            free.wait(60)

    slow = Oracle(takes_three_seconds_at_first)
    questions = BackgroundQuestions()
    assert ask(questions, slow, good_for=0.0).value == 1
    monkeypatch.setattr("ood.background.PATIENCE", 0.0)
    monkeypatch.setattr("ood.background.SPARING", 0)
    clock.now += 1
    assert ask(questions, slow, good_for=0.0).problem is None  # took 3 s: believed for 6 s
    clock.now += 4
    assert ask(questions, slow, good_for=0.0).problem is SILENCE
    free.set()


def test_users_and_questions_are_kept_apart() -> None:
    questions, asked = BackgroundQuestions(), []
    for key in [("ada", "x"), ("ada", "y"), ("bob", "x")] * 3:
        questions.ask(key, partial(lambda key, _: asked.append(key), key), SILENCE).answer()
    assert asked == [("ada", "x"), ("ada", "y"), ("bob", "x")]


def test_one_that_is_silent_does_not_hold_up_another() -> None:
    questions, free = BackgroundQuestions(), threading.Event()
    silent = questions.ask(("ada", "silent"), lambda _: free.wait(60), SILENCE)
    assert ask(questions, Oracle(), what="quick").value == 1
    assert silent.known is None
    free.set()


def test_a_mistake_of_ours_is_a_problem_and_not_an_answer() -> None:
    answer = ask(BackgroundQuestions(), Oracle(raises(RuntimeError("a mistake of ours"))))
    assert answer.value is None
    assert answer.problem is not None
    assert "mistake of ours" not in answer.problem.message


def test_what_a_user_was_told_is_forgotten(clock: Clock) -> None:
    questions, oracle = BackgroundQuestions(), Oracle()
    ask(questions, oracle)
    ask(questions, Oracle(), who="bob")
    questions.forget("ada")
    assert len(questions._questions) == 1
    clock.now += 61
    ask(questions, Oracle(), who="carol")
    assert len(questions._questions) == 1, "nobody wanted bob's any more"


@pytest.mark.usefixtures("clock")
def test_what_was_done_outdates_the_answers_about_it() -> None:
    questions, oracle, other = BackgroundQuestions(), Oracle(), Oracle()
    questions.ask(("ada", "alpha", "jobs"), oracle, SILENCE).answer()
    questions.ask(("ada", "beta", "jobs"), other, SILENCE).answer()
    questions.outdate(("ada", "alpha"))
    assert questions.ask(("ada", "alpha", "jobs"), oracle, SILENCE).answer().value == 2
    assert questions.ask(("ada", "beta", "jobs"), other, SILENCE).answer().value == 1


def test_what_changes_while_it_is_asked_about_is_asked_again() -> None:
    questions, asking, free = BackgroundQuestions(), threading.Event(), threading.Event()

    def waits_once() -> None:
        asking.set()
        assert free.wait(60)

    oracle = Oracle(waits_once)
    question = questions.ask(("ada", "cards"), oracle, SILENCE)
    assert asking.wait(60)
    questions.outdate(("ada",))
    free.set()
    assert question.answer().value == 2, "the first was asked before the change"


def test_a_question_that_hangs_is_asked_once_however_long(clock: Clock) -> None:
    questions, free = BackgroundQuestions(), threading.Event()
    hangs = Oracle(lambda: free.wait(60))
    questions.ask(("ada", "cards"), hangs, SILENCE, patience=0.0)
    clock.now += 61
    ask(questions, Oracle(), who="bob")
    question = questions.ask(("ada", "cards"), hangs, SILENCE, patience=0.0)
    free.set()
    wait_until(lambda: question.known == 1)
    assert hangs.asked == 1
