"""Jobs side by side that meet where they ask: all of them are answered at once.

Each job goes on until it asks something; when all that have not ended wait for an answer, all
questions are answered together, and they go on. One at a time goes on, in the order given, so
that everything happens in an order that the jobs alone set, and no two touch anything at once.
(Each has a thread of its own, for the sake of its call stack alone.)
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

_ASK: ContextVar[Callable[[Any], Any] | None] = ContextVar("ask", default=None)


def ask(question: Any) -> Any:
    """The answer to a question; None where nobody answers, or has no answer to it."""
    asked = _ASK.get()
    return None if asked is None else asked(question)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Nothing asked inside has an answer."""
    token = _ASK.set(None)
    try:
        yield
    finally:
        _ASK.reset(token)


def side_by_side(
    jobs: Sequence[Callable[[], Any]],
    answer: Callable[[Sequence[Any]], Sequence[Any]],
    waits: Callable[[Any], bool] = lambda question: True,
) -> list[Any]:
    """Do jobs, each until it asks, and answer all questions at once, until all have ended.

    Parameters
    ----------
    jobs : sequence of callables
    answer : callable
        ``answer(questions)`` gives an answer to each; what it raises, every `ask` raises.
    waits : callable
        Whether a question is worth waiting with; if not, it has no answer and its job goes on at
        once, so that jobs that nobody can answer are done one after the other.

    Returns
    -------
    list
        What the jobs returned.

    Raises
    ------
    BaseException
        What the first job that raised did, when all have ended.

    Examples
    --------
    >>> def job(n):
    ...     return f"{n} of {ask(n)}"
    >>> side_by_side([lambda: job(1), lambda: job(2)], lambda asked: [sum(asked)] * len(asked))
    ['1 of 3', '2 of 3']
    """
    going: list[_Job] = []
    try:
        going.extend(_Job(job) for job in jobs)
        waiting = list(going)
        while waiting:
            for job in waiting:
                job.go_on()
                while not job.ended and not waits(job.question):
                    job.answer = None
                    job.go_on()
            waiting = [job for job in waiting if not job.ended]
            if not waiting:
                break
            try:
                answers = answer([job.question for job in waiting])
                for job, one in zip(waiting, answers, strict=True):
                    job.answer = one
            except BaseException as error:
                for job in waiting:
                    job.error = error
    finally:
        for job in going:  # none is left waiting for ever
            while not job.ended:
                job.error = RuntimeError("there is nobody left to answer")
                job.go_on()
    for job in going:
        if job.error is not None:
            raise job.error
    return [job.answer for job in going]


class _Job:
    """One job, on a thread that runs only while `go_on` waits for it."""

    def __init__(self, work: Callable[[], Any]):
        self.ended = False
        self.question: Any = None
        self.answer: Any = None  # to its question, and in the end what it returned
        self.error: BaseException | None = None
        self._work = work
        self._its_turn, self._our_turn = threading.Semaphore(0), threading.Semaphore(0)
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), daemon=True).start()

    def go_on(self) -> None:
        """Let it run until it asks or ends."""
        self._its_turn.release()
        self._our_turn.acquire()

    def _run(self) -> None:
        self._its_turn.acquire()
        _ASK.set(self._ask)
        try:
            self.answer = self._work()
        except BaseException as error:
            self.error = error
        self.ended = True
        self._our_turn.release()

    def _ask(self, question: Any) -> Any:
        self.question = question
        self._our_turn.release()
        self._its_turn.acquire()
        self.question, error, self.error = None, self.error, None
        if error is not None:
            raise error
        return self.answer
