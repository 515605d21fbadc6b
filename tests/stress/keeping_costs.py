"""What checkpoints and metrics cost a run.

The same run without them, with the defaults, and with a checkpoint every second, in turns in
one process; medians of the ratios of processor and wall-clock time. Bar: under 3 %.

Run: python tests/stress/keeping_costs.py [--repeats 9]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from gflow import running
from gflow.scenario import load_scenario

BAR = 1.03
RUNS = {
    "two numbers a step": ("deep-linear", {"method": "tsit5", "t_end": 60.0, "rtol": 1e-10}),
    "a network": ("network", {"samples": 200, "t_end": 40.0, "step_sizes": (0.4,)}),
    "an ensemble": (
        "wide-network",
        {"samples": 60, "widths": (256, 512), "epochs": 150, "points": 10},
    ),
    "a matrix": ("deep-matrix", {"method": "rkc2", "rtol": 1e-6, "t_end": 30.0}),
}


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
    def no_keeper(keeper: object) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    with (
        mock.patch.object(running, "using", no_keeper),
        mock.patch.object(running, "_recorded", lambda stages, folder: stages),
    ):
        yield


def _seconds(job: running.Job, folder: Path, every: float) -> tuple[float, float]:
    """Processor and wall-clock seconds of a run."""
    care = running.Care(draw=False, checkpoint_every=every)
    processor, wall = time.process_time(), time.perf_counter()
    running.run(job, folder, care)
    return time.process_time() - processor, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    ways = {"defaults": 60.0, "every second": 1.0}
    worst = 0.0
    print(f"{'run':<20} {'seconds':>7}  {'checkpoints':<13} {'processor':>9} {'wall':>9}")
    for title, (name, changes) in RUNS.items():
        job = running.Job(load_scenario(name, changes))
        ratios: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        bare = []
        with tempfile.TemporaryDirectory() as top:
            for k in range(repeats + 1):
                with _nothing_kept():
                    without = _seconds(job, Path(top) / f"{k}-bare", 60.0)
                bare.append(without[1])
                for way, every in ways.items():
                    kept = _seconds(job, Path(top) / f"{k}-{way}", every)
                    if k > 0:  # the first round also imports
                        pair = kept[0] / without[0], kept[1] / without[1]
                        ratios[way].append(pair)
        for way, pairs in ratios.items():
            processor, wall = (statistics.median(column) for column in zip(*pairs, strict=True))
            worst = max(worst, processor)
            print(
                f"{title:<20} {statistics.median(bare):7.2f}  {way:<13} "
                f"{processor - 1:+9.2%} {wall - 1:+9.2%}",
                flush=True,
            )
    if worst > BAR:
        raise SystemExit(f"over the bar of {BAR - 1:.0%} of processor time")


if __name__ == "__main__":
    main()
