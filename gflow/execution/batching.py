"""Run several jobs in lockstep and serve their requests as one batch.

Each job runs until it makes a request (`gflow.execution.Execution.request`). When all unfinished
jobs wait for an answer, their requests are served together, and the jobs continue. One job runs at
a time, in the given order: the order of events depends on the jobs alone, and no two jobs access
anything at once. (Each has its own thread only because it needs a call stack.)
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Any

from gflow.execution.context import using


def run_batched(
    jobs: Sequence[Callable[[], Any]],
    serve: Callable[[Sequence[Any]], Sequence[Any]],
    can_batch: Callable[[Any], bool] = lambda request: True,
) -> list[Any]:
    """Run jobs in lockstep until all have ended, and serve their requests as batches.

    Parameters
    ----------
    jobs : sequence of callable
    serve : callable
        ``serve(requests)`` returns the answers; if it raises an error, every waiting request
        raises that error.
    can_batch : callable
        ``can_batch(request)`` says whether a request waits for others; if not, its answer is None
        at once, so that jobs whose requests cannot be batched run one after the other.

    Returns
    -------
    list
        The results of the jobs.

    Raises
    ------
    BaseException
        The error of the first job that raised one, after all have ended.

    Examples
    --------
    >>> from gflow.execution import current
    >>> def job(n):
    ...     return f"{n} of {current().request(n)}"
    >>> run_batched([lambda: job(1), lambda: job(2)], lambda numbers: [sum(numbers)] * len(numbers))
    ['1 of 3', '2 of 3']
    """
    started: list[_Job] = []
    try:
        started.extend(_Job(job) for job in jobs)
        waiting = list(started)
        while waiting:
            for job in waiting:
                job.advance()
                while not job.ended and not can_batch(job.request):
                    job.answer = None
                    job.advance()
            waiting = [job for job in waiting if not job.ended]
            if not waiting:
                break
            try:
                answers = serve([job.request for job in waiting])
                for job, answer in zip(waiting, answers, strict=True):
                    job.answer = answer
            except BaseException as error:
                for job in waiting:
                    job.error = error
    finally:
        for job in started:  # no thread is left waiting for ever
            while not job.ended:
                job.error = RuntimeError("the batch has ended; no request is served any more")
                job.advance()
    for job in started:
        if job.error is not None:
            raise job.error
    return [job.answer for job in started]


class _Job:
    """One job, on a thread that runs only while `advance` waits for it."""

    def __init__(self, work: Callable[[], Any]):
        self.ended = False
        self.request: Any = None
        self.answer: Any = None  # to its request; in the end, the job's result
        self.error: BaseException | None = None
        self._work = work
        self._job_turn, self._main_turn = threading.Semaphore(0), threading.Semaphore(0)
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), daemon=True).start()

    def advance(self) -> None:
        """Run the job until it makes a request or ends."""
        self._job_turn.release()
        self._main_turn.acquire()

    def _run(self) -> None:
        self._job_turn.acquire()
        try:
            with using(serve=self._wait_for_answer):
                self.answer = self._work()
        except BaseException as error:
            self.error = error
        self.ended = True
        self._main_turn.release()

    def _wait_for_answer(self, request: Any) -> Any:
        self.request = request
        self._main_turn.release()
        self._job_turn.acquire()
        self.request, error, self.error = None, self.error, None
        if error is not None:
            raise error
        return self.answer
