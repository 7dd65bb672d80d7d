"""Questions that can take long, asked in the background.

Only one thread at a time asks a question, and at most once in a few seconds for all cards, tabs and
pages together. Nobody waits long: if a new answer is late, the last one is used until it is too
old. After that, the answer is an error to show.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from ood.errors import PortalError

# Seconds.
GOOD_FOR = 5.0  # for which an answer is used, by default
PATIENCE = 2.0  # to wait for the answer, by default
LITTLE_PATIENCE = 0.3  # to wait for the answer if the last one was a problem
FORGET_AFTER = 60.0  # after the question was last asked

SPARING = 5
"""By default, an answer is used at least this many times as long as it took, so that slow questions
are asked less often."""

T = TypeVar("T")
Key = tuple[Hashable, ...]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer(Generic[T]):
    """`asked_at` is on the monotonic clock. With a `problem`, `value` is the last known value, or
    None."""

    asked_at: float
    took: float
    value: T | None
    problem: PortalError | None = None

    def demand(self) -> T:
        """The value. Raises the problem."""
        if self.problem is not None:
            raise self.problem.with_traceback(None)
        return cast(T, self.value)


class Question(Generic[T]):
    """One question, with its last answer. For all threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards all the fields below
        self._answer: Answer[T] | None = None
        self._asking_since: float | None = None
        self._no_answer: PortalError | None = None
        self._good_for = GOOD_FOR
        self._patience = PATIENCE
        self._changes = 0
        self._changes_before_answer = 0
        self.wanted_at = 0.0

    def start(
        self,
        ask: Callable[[T | None], T],
        no_answer: PortalError,
        good_for: float,
        patience: float,
        sparing: int,
    ) -> None:
        """Ask, unless a thread is asking already or the last answer is still good. `ask` is called
        with the last value. `no_answer` is the problem to report if that takes too long."""
        with self._changed:
            now = self.wanted_at = time.monotonic()
            known = self._answer
            if self._asking_since is not None:
                return
            self._good_for, self._patience = good_for, patience
            if known is not None and self._changes == self._changes_before_answer:
                slow = 0 if known.problem else sparing * known.took
                if now - known.asked_at < max(good_for, slow):
                    return
            self._asking_since = now
            self._no_answer = no_answer
        threading.Thread(target=self._ask, args=(ask,), name="question", daemon=True).start()

    def answer(self) -> Answer[T]:
        """The newest answer. Waits for at most `patience`. Call `start` first."""
        with self._changed:
            if self._asking_since is not None:
                failed = self._answer is not None and self._answer.problem is not None
                patience = LITTLE_PATIENCE if failed else self._patience
                waited = time.monotonic() - self._asking_since
                self._changed.wait_for(lambda: self._asking_since is None, patience - waited)
            known = self._answer
            if self._asking_since is None:
                assert known is not None
                return known
            if known is None:
                return Answer(self._asking_since, 0, None, self._no_answer)
            late = time.monotonic() - known.asked_at - self._good_for
            is_current = self._changes == self._changes_before_answer
            if known.problem or (is_current and late < max(self._patience, 2 * known.took)):
                return known
            return replace(known, problem=self._no_answer)

    @property
    def known(self) -> T | None:
        """The last value, without waiting; None if there is none."""
        with self._changed:
            return self._answer.value if self._answer is not None else None

    def is_unwanted(self, now: float) -> bool:
        """Whether nobody has wanted the answer for long, and no thread is asking for it."""
        with self._changed:
            return self._asking_since is None and now - self.wanted_at > FORGET_AFTER

    def outdate(self) -> None:
        """Discard answers to what was asked before now, because something has changed."""
        with self._changed:
            self._changes += 1

    def _ask(self, ask: Callable[[T | None], T]) -> None:
        while True:
            with self._changed:
                last = value = self._answer.value if self._answer else None
                changes, problem = self._changes, None
            began = time.monotonic()
            try:
                value = ask(last)
            except PortalError as error:
                log.warning("%s %s", error.message, error.detail)
                problem = error
            except Exception:
                log.exception("a background query failed")
                problem = PortalError(
                    "Something went wrong in the portal. Tell your administrator."
                )
            with self._changed:
                now = time.monotonic()
                assert self._asking_since is not None
                self._answer = Answer(self._asking_since, now - began, value, problem)
                self._changes_before_answer = changes
                if changes == self._changes:
                    self._asking_since = None
                    self._changed.notify_all()
                    return
                self._asking_since = now


class BackgroundQuestions:
    """All questions of the portal, by key. A key begins with the user who asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards `_questions`
        self._questions: dict[Key, Question[Any]] = {}

    def ask(
        self,
        key: Key,
        ask: Callable[[T | None], T],
        no_answer: PortalError,
        good_for: float | None = None,
        patience: float | None = None,
        sparing: int | None = None,
    ) -> Question[T]:
        """Ask in the background, if necessary. Ask all questions before you wait for the first
        answer."""
        now = time.monotonic()
        with self._lock:
            unwanted = [k for k, q in self._questions.items() if q.is_unwanted(now)]
            for each in unwanted:
                del self._questions[each]
            question = cast("Question[T]", self._questions.setdefault(key, Question()))
            question.wanted_at = now
        question.start(
            ask,
            no_answer,
            GOOD_FOR if good_for is None else good_for,
            PATIENCE if patience is None else patience,
            SPARING if sparing is None else sparing,
        )
        return question

    def outdate(self, beginning: Key) -> None:
        """Discard the answers to all questions whose keys begin with `beginning`."""
        with self._lock:
            outdated = [q for k, q in self._questions.items() if k[: len(beginning)] == beginning]
        for question in outdated:
            question.outdate()

    def forget(self, user: str) -> None:
        """Forget the questions of a user who signed out."""
        with self._lock:
            for key in [key for key in self._questions if key[0] == user]:
                del self._questions[key]
