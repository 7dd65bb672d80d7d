"""Questions that take long, asked in the background.

Whatever the number of cards, tabs and pages, a question is asked by one thread at a time and at
most once in a few seconds; those who want the answer share it. Nobody waits long: when the answer
is late, the last one is believed until the next is overdue, and then there is a problem to show.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from ood.errors import PortalError

SECONDS = 5.0
"""For how long an answer is good, unless its asker says otherwise."""
PATIENCE = 2.0
"""Seconds that anybody waits for a question that was just asked."""
LITTLE_PATIENCE = 0.3  # when it was not answered the last time
KEPT = 60.0  # seconds for which an answer is kept that nobody wants any more
SPARING = 5
"""A question that takes long is asked seldom: its answer is good for so many times as long."""

T = TypeVar("T")
Key = tuple[Hashable, ...]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer(Generic[T]):
    """`asked_at` is on the monotonic clock. With a `problem`, `value` is the last that is known,
    or None."""

    asked_at: float
    took: float
    value: T | None
    problem: PortalError | None = None


class Question(Generic[T]):
    """One question: its last answer, and the asking of the next. Safe for all threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._answer: Answer[T] | None = None
        self._asking_since: float | None = None
        self._silence: PortalError | None = None
        self._good_for = SECONDS
        self.wanted_at = 0.0

    def start(self, ask: Callable[[T | None], T], silence: PortalError, good_for: float) -> None:
        """Ask, unless that is going on already or the last answer is still good. `ask` gets the
        last value; `silence` is the problem while it takes too long."""
        with self._changed:
            now = self.wanted_at = time.monotonic()
            known = self._answer
            if self._asking_since is not None:
                return
            self._good_for = good_for
            if known is not None:
                sparing = 0 if known.problem else SPARING * known.took
                if now - known.asked_at < max(good_for, sparing):
                    return
            self._asking_since = now
            self._silence = silence
            last = known.value if known else None
        threading.Thread(target=self._ask, args=(ask, last), name="asking", daemon=True).start()

    def answer(self) -> Answer[T]:
        """The newest answer, waited for with patience. Only after `start`."""
        with self._changed:
            if self._asking_since is not None:
                silent = self._answer is not None and self._answer.problem is not None
                patience = LITTLE_PATIENCE if silent else PATIENCE
                waited = time.monotonic() - self._asking_since
                self._changed.wait_for(lambda: self._asking_since is None, patience - waited)
            known = self._answer
            if self._asking_since is None:
                assert known is not None
                return known
            if known is None:
                return Answer(self._asking_since, 0, None, self._silence)
            late = time.monotonic() - known.asked_at - self._good_for
            if known.problem is not None or late < max(PATIENCE, 2 * known.took):
                return known
            return replace(known, problem=self._silence)

    @property
    def known(self) -> T | None:
        """What is known without waiting for anything."""
        with self._changed:
            return self._answer.value if self._answer is not None else None

    def outdate(self) -> None:
        """The answer is no longer good, for all that it was given just now."""
        with self._changed:
            if self._answer is not None:
                self._answer = replace(self._answer, asked_at=float("-inf"))

    def _ask(self, ask: Callable[[T | None], T], last: T | None) -> None:
        assert self._asking_since is not None
        began, problem, value = time.monotonic(), None, last
        try:
            value = ask(last)
        except PortalError as error:
            log.warning("%s %s", error.message, error.detail)
            problem = error
        except Exception:
            log.exception("a question that is asked in the background")
            problem = PortalError("The portal made a mistake. Tell your administrator.")
        with self._changed:
            took = time.monotonic() - began
            self._answer = Answer(self._asking_since, took, value, problem)
            self._asking_since = None
            self._changed.notify_all()


class BackgroundQuestions:
    """All questions of the portal, by key. A key begins with the user who asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._questions: dict[Key, Question[Any]] = {}

    def ask(
        self,
        key: Key,
        ask: Callable[[T | None], T],
        silence: PortalError,
        good_for: float | None = None,
    ) -> Question[T]:
        """Ask in the background, if need be. The answer is taken from what is returned, so that
        many can be asked before the first is waited for."""
        now = time.monotonic()
        with self._lock:
            for unwanted in [k for k, a in self._questions.items() if now - a.wanted_at > KEPT]:
                del self._questions[unwanted]
            asked = cast("Question[T]", self._questions.setdefault(key, Question()))
            asked.wanted_at = now
        asked.start(ask, silence, SECONDS if good_for is None else good_for)
        return asked

    def outdate(self, beginning: Key) -> None:
        """Ask anew whatever has a key with this beginning."""
        with self._lock:
            outdated = [a for k, a in self._questions.items() if k[: len(beginning)] == beginning]
        for asked in outdated:
            asked.outdate()

    def forget(self, user: str) -> None:
        """Forget what a user was told who signed out."""
        with self._lock:
            for key in [key for key in self._questions if key[0] == user]:
                del self._questions[key]
