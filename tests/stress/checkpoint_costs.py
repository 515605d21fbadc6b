"""The cost of checkpoints and metrics of a run.

Two measurements. *Inside*: the CPU time spent in checkpoints and metrics relative to that of the
run, which other load hardly disturbs. *Beside*: the same run with and without them, in interleaved
repeats in one process; the medians of the ratios of CPU and wall time include everything, but need
an idle machine. Required: less than 3 % of the CPU time, inside, at one checkpoint per second or
fewer. Continuous checkpoints are shown, too.

Run: python tests/stress/checkpoint_costs.py [--repeats 9] [--run NAME ...]
Exit status: 0 if the requirement holds, 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from gflow.execution import context
from gflow.execution.checkpointing import Checkpointer, _StoredPiece
from gflow.runs import Job, RunOptions, run, runner
from gflow.runs.writing import RunWriter
from gflow.scenario import load_scenario

BOUND = 0.03
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "one row": ("deep-linear", {"method": "tsit5", "t_end": 60.0}),
    "a matrix": ("deep-matrix", {"method": "rkc2", "rtol": 1e-5, "t_end": 20.0}),
    "a network": ("network", {"samples": 200, "t_end": 20.0, "step_sizes": (0.4,)}),
    "an ensemble": ("wide-network", {"samples": 60, "widths": (256, 512), "epochs": 150}),
    "exact": ("kernel", {"samples": 200}),
}
INTERVALS = {"default": 60.0, "each second": 1.0, "continuous": 0.0}  # seconds


class Clock:
    """Counts the CPU seconds spent in functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time counted here."""

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.thread_time() - began

        return call


@dataclass(frozen=True)
class Cost:
    """CPU and wall seconds of a run."""

    cpu: float
    wall: float


@contextlib.contextmanager
def _without_checkpoints_and_metrics() -> Iterator[None]:
    def no_checkpointer(checkpointer: object) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    with (
        mock.patch.object(runner, "using", no_checkpointer),
        mock.patch.object(RunWriter, "recorded", lambda self, stages: stages),
    ):
        yield


@contextlib.contextmanager
def _count_inside(clock: Clock) -> Iterator[None]:
    """Count the time of digests, of pieces, and of metrics."""
    recorded = RunWriter.recorded

    def timed(self: RunWriter, stages: Any) -> Any:
        stage = recorded(self, stages)
        return lambda name, t_end: clock.timed(stage(name, t_end))

    functions = (
        (context, "digest"),
        (Checkpointer, "start_piece"),
        (_StoredPiece, "step"),
        (_StoredPiece, "finish"),
    )
    with contextlib.ExitStack() as stack:
        for owner, name in functions:
            function = clock.timed(getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, function))
        stack.enter_context(mock.patch.object(RunWriter, "recorded", timed))
        yield


def _measure(job: Job, folder: Path, every: float) -> Cost:
    options = RunOptions(draw=False, checkpoint_every=every)
    cpu, wall = time.process_time(), time.perf_counter()
    run(job, folder, options)
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


def _share_inside(job: Job, folder: Path, every: float) -> float:
    clock = Clock()
    with _count_inside(clock):
        cost = _measure(job, folder, every)
    return clock.seconds / cost.cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--run", action="append", choices=RUNS, help="measure these runs only")
    options = parser.parse_args()
    largest = 0.0
    print(f"{'run':<12} {'seconds':>7}  {'checkpoints':<18} {'inside':>7} {'CPU':>9} {'wall':>7}")
    for title in options.run or RUNS:
        name, changes = RUNS[title]
        job = Job(load_scenario(name, changes))
        with tempfile.TemporaryDirectory() as root:
            _measure(job, Path(root) / "first", 60.0)  # imports
            for label, every in INTERVALS.items():
                seconds, ratios, shares = [], [], []
                for k in range(options.repeats):
                    with _without_checkpoints_and_metrics():
                        without = _measure(job, Path(root) / f"{label}-{k}-without", 60.0)
                    cost = _measure(job, Path(root) / f"{label}-{k}", every)
                    seconds.append(without.cpu)
                    ratios.append((cost.cpu / without.cpu, cost.wall / without.wall))
                    shares.append(_share_inside(job, Path(root) / f"{label}-{k}-inside", every))
                cpu, wall = (statistics.median(column) - 1 for column in zip(*ratios, strict=True))
                share = statistics.median(shares)
                if every >= 1.0:
                    largest = max(largest, share)
                print(
                    f"{title:<12} {statistics.median(seconds):7.2f}  {label:<18} {share:7.2%} "
                    f"{cpu:+9.1%} {wall:+7.1%}",
                    flush=True,
                )
    if largest > BOUND:
        raise SystemExit(f"{largest:.1%} exceeds the bound of {BOUND:.0%}")


if __name__ == "__main__":
    main()
