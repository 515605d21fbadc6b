"""What checkpoints and metrics cost a run.

Two ways of measuring. *Inside*: the processor time spent in the keeper and in recording, over
that of the run, which other work on the machine hardly disturbs. *Beside*: the same run with
and without them, in turns in one process, medians of the ratios of processor and wall-clock
time, which take in everything and need a quiet machine. Bar: under 3 % of processor time,
inside, at a checkpoint a second or fewer; as many as can be are shown, too.

Run: python tests/stress/checkpoint_costs.py [--repeats 9] [--run NAME ...]
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
from gflow.runs import runner as running
from gflow.scenario import load_scenario

BAR = 0.03
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "one row": ("deep-linear", {"method": "tsit5", "t_end": 60.0}),
    "a matrix": ("deep-matrix", {"method": "rkc2", "rtol": 1e-5, "t_end": 20.0}),
    "a network": ("network", {"samples": 200, "t_end": 20.0, "step_sizes": (0.4,)}),
    "an ensemble": ("wide-network", {"samples": 60, "widths": (256, 512), "epochs": 150}),
    "exact": ("kernel", {"samples": 200}),
}
WAYS = {"default": 60.0, "each second": 1.0, "as many as can be": 0.0}  # seconds between


class Clock:
    """Processor seconds spent in functions, each call's own to the full."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added up here."""

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.thread_time() - began

        return call


@dataclass(frozen=True)
class Cost:
    """Processor and wall-clock seconds of a run, and those inside of what looks after it."""

    processor: float
    wall: float
    inside: float = 0.0


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
    def no_keeper(checkpointer: object) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    with (
        mock.patch.object(running, "using", no_keeper),
        mock.patch.object(running, "_recorded", lambda stages, folder: stages),
    ):
        yield


@contextlib.contextmanager
def _inside(clock: Clock) -> Iterator[None]:
    recorded = running._recorded

    def timed(stages: Any, folder: Any) -> Any:
        stage = recorded(stages, folder)

        def timed_stage(name: str, t_end: float) -> Callable[..., Any] | None:
            update = stage(name, t_end)
            return None if update is None else clock.timed(update)

        return timed_stage

    with contextlib.ExitStack() as stack:
        # What a piece is asked, its state at a step, its results, and writing any of them.
        places = (
            (context, "digest"),
            (Checkpointer, "begin"),
            (_StoredPiece, "step"),
            (_StoredPiece, "finish"),
        )
        for place, name in places:
            function = clock.timed(getattr(place, name))
            stack.enter_context(mock.patch.object(place, name, function))
        stack.enter_context(mock.patch.object(running, "_recorded", timed))
        yield


def _run(job: running.Job, folder: Path, every: float) -> Cost:
    options = running.RunOptions(draw=False, checkpoint_every=every)
    processor, wall = time.process_time(), time.perf_counter()
    running.run(job, folder, options)
    return Cost(time.process_time() - processor, time.perf_counter() - wall)


def _measured_inside(job: running.Job, folder: Path, every: float) -> float:
    clock = Clock()
    with _inside(clock):
        cost = _run(job, folder, every)
    return clock.seconds / cost.processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--run", action="append", choices=RUNS, help="these alone")
    given = parser.parse_args()
    repeats = given.repeats
    worst = 0.0
    print(
        f"{'run':<12} {'seconds':>7}  {'checkpoints':<18} "
        f"{'inside':>7} {'processor':>9} {'wall':>7}"
    )
    for title in given.run or RUNS:
        name, changes = RUNS[title]
        job = running.Job(load_scenario(name, changes))
        with tempfile.TemporaryDirectory() as top:
            _run(job, Path(top) / "first", 60.0)  # it also imports
            for way, every in WAYS.items():
                bare, ratios, inside = [], [], []
                for k in range(repeats):
                    with _nothing_kept():
                        without = _run(job, Path(top) / f"{way}-{k}-bare", 60.0)
                    kept = _run(job, Path(top) / f"{way}-{k}", every)
                    bare.append(without.processor)
                    ratios.append((kept.processor / without.processor, kept.wall / without.wall))
                    inside.append(_measured_inside(job, Path(top) / f"{way}-{k}-inside", every))
                processor, wall = (statistics.median(of) - 1 for of in zip(*ratios, strict=True))
                share = statistics.median(inside)
                if every >= 1.0:
                    worst = max(worst, share)
                print(
                    f"{title:<12} {statistics.median(bare):7.2f}  {way:<18} {share:7.2%} "
                    f"{processor:+9.1%} {wall:+7.1%}",
                    flush=True,
                )
    if worst > BAR:
        raise SystemExit(f"{worst:.1%} is over the bar of {BAR:.0%}")


if __name__ == "__main__":
    main()
