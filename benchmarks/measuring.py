"""The measurement of one solve: its cost, its true error, and its status.

Cost is counted in gradient-equivalents (right-hand sides + 2 × Jacobian-vector products) and in
wall seconds of the user's call. A solve that fails, diverges or runs out of time is a row with its
reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import math
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from problems import Problem
from references import error
from torch import Tensor

#: The tolerances of gflow and of the peers that requirements compare with it.
EVERY_DECADE = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)


class OutOfTime(BaseException):
    """A solve exceeded its time limit; no library's ``except Exception`` catches it."""


class NotRun(Exception):
    """A solver does not apply; the message says why."""


@dataclass
class Answer:
    """The answer of a solver.

    ``rhs`` and ``jvp`` are None where they do not count the solver's work (a dense Jacobian that
    costs nothing to form is not a product). ``flag`` lists the checks of gflow's certificate that
    fail; ``inner`` are gflow's seconds without the certificate.
    """

    y: Tensor
    seconds: float
    rhs: int | None
    jvp: int | None = 0
    chosen: str = ""
    flag: str = ""
    inner: float | None = None


@dataclass
class Progress:
    """Counts of a running solve, read when it is stopped, and the seconds that it may take."""

    rhs: int = 0
    t: float = 0.0
    y: Tensor | None = None
    limit: float = math.inf


Run = Callable[[Problem, float, Progress], Answer]


@dataclass(frozen=True)
class Method:
    """A solver under test: its name in tables, its family and how to run it."""

    name: str
    run: Run = field(repr=False)
    family: str = "peer"  # or "gflow", or "yardstick"
    explicit: bool = False  # its cost can be extrapolated from a part of the interval
    ladder: tuple[float, ...] = (1e-3, 1e-5, 1e-7, 1e-9)
    fixed: bool = False  # its ladder holds step sizes
    prepare: Callable[[Problem], None] | None = field(default=None, repr=False)  # compile
    grace: float = 1.0  # times the limit that a call may take, beside a limit on its solve


@dataclass
class Row:
    """One method on one problem at one tolerance."""

    problem: str
    method: str
    family: str
    rtol: float
    status: str = "ok"  # or "projected", or the reason there is no answer
    rhs: int | None = None
    jvp: int | None = None
    error: float | None = None
    loss: float | None = None
    seconds: list[float] = field(default_factory=list)
    inner_seconds: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    chosen: str = ""
    flag: str = ""

    @property
    def wall(self) -> float:
        """Median seconds; NaN where there are none."""
        return statistics.median(self.seconds) if self.seconds else math.nan

    @property
    def inner(self) -> float:
        """Median seconds of gflow's solve without the certificate; NaN for others."""
        return statistics.median(self.inner_seconds) if self.inner_seconds else math.nan

    @property
    def solve(self) -> float:
        """Median seconds of the solve alone: gflow's without its certificate, a peer's call."""
        return self.inner if self.inner_seconds else self.wall

    @property
    def cost(self) -> float:
        """Gradient-equivalents: rhs + 2·jvp; NaN where the work is of another kind."""
        return math.nan if self.rhs is None or self.jvp is None else float(self.rhs + 2 * self.jvp)

    @property
    def answered(self) -> bool:
        """Whether the solve returned a state with a finite error."""
        return self.status == "ok" and self.error is not None


def measure(method: Method, problem: Problem, rtol: float, limit: float) -> Row:
    """Solve once within a time limit, and measure the error."""
    row = Row(problem.name, method.name, method.family, rtol)
    progress = Progress(t=problem.ts[0], limit=limit)
    flow = problem.make()  # not measured
    problem = dataclasses.replace(problem, make=lambda: flow)
    before = _reset_peak()
    began = time.perf_counter()
    try:
        if method.prepare is not None:
            method.prepare(problem)
            before, began = _reset_peak(), time.perf_counter()
        with time_limit(limit * method.grace):
            answer = method.run(problem, rtol, progress)
    except OutOfTime as stop:
        seconds = time.perf_counter() - began
        row.status = f"out of time after {seconds:.0f} s{stop}"
        if method.explicit:
            _project(row, problem, progress, seconds)
        return row
    except NotRun as reason:
        row.status = f"not run: {reason}"
        return row
    except Exception as failure:  # every failure of a peer is a result
        row.status = f"{type(failure).__name__}: {first_line(failure)}"
        return row
    peak = _peak()
    if before is not None and peak is not None:
        row.peak_mb = max(0.0, (peak - before) / 1024)
    row.rhs, row.jvp, row.chosen, row.flag = answer.rhs, answer.jvp, answer.chosen, answer.flag
    if answer.inner is not None:
        row.inner_seconds.append(answer.inner)
    row.seconds.append(answer.seconds)
    row.error = error(problem, answer.y)
    if math.isfinite(row.error):
        row.loss = float(problem.make().loss(answer.y.reshape(problem.y0.shape)))
    if not row.error < 1:
        row.status = f"nonsense: error {row.error:.0e}"
    return row


def first_line(failure: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(failure).strip().splitlines() or ["no message"])[0][:120]


def _project(row: Row, problem: Problem, progress: Progress, seconds: float) -> None:
    """Extrapolate the cost of a solve that stopped at t by T/t: sharpness does not decrease."""
    share = (progress.t - problem.ts[0]) / (problem.ts[-1] - problem.ts[0])
    if progress.y is not None and not error(problem, progress.y) < 1e3:
        row.status += ", diverging"
    elif progress.rhs and share > 1e-4:
        row.status = "projected"
        row.rhs, row.jvp = round(progress.rhs / share), 0
        row.seconds.append(seconds / share)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the main thread after a time limit (on POSIX only)."""
    if not sys.platform.startswith(("linux", "darwin")):
        yield
        return

    def stop(signum: int, frame: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- peak memory: on Linux a process can reset its high-water mark ---------------------


def _reset_peak() -> int | None:
    """Release freed memory and reset the peak; return the resident kB, or None if impossible."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    return _status("VmRSS")


def measure_peak(call: Callable[[], Any]) -> tuple[Any, float | None]:
    """Return the result of a call and its increase of resident memory in MB, or None."""
    gc.collect()
    before = _reset_peak()
    value, peak = call(), _peak()
    return value, None if before is None or peak is None else max(0.0, (peak - before) / 1024)


def _peak() -> int | None:
    return _status("VmHWM")


def _status(key: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), None)
