"""The overhead of a sweep: a thousand trivial runs on two workers.

A run is the closed-form kernel flow of eight points beside one descent, so that nearly all of its
time is overhead. Memory is the sum of the resident sets of this process and its workers, sampled
every half second; shared pages count once per process.

Run: python benchmarks/sweep.py [--runs 1000] [--workers 2] [--trial]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from gflow.sweeping.dataset import write_sweep
from gflow.sweeping.engine import run_sweep
from gflow.sweeping.plan import Plan, make_plan
from gflow.sweeping.workers import WorkerConfig

_TRIVIAL = "data=synthetic samples=8 test_samples=4 inputs=3 points=4 t_end=3.0 step_size=0.1"


def trivial_plan(runs: int) -> Plan:
    """Return a plan of trivial runs, one per seed."""
    sets = [(key, spec) for key, _, spec in (word.partition("=") for word in _TRIVIAL.split())]
    return make_plan("kernel", sets, seeds=runs)


class Usage:
    """Peak memory and CPU time of this process and its descendants."""

    def __init__(self) -> None:
        self.largest = 0
        self._seconds: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Usage:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """CPU seconds; the last half second of a process may be missing."""
        return sum(self._seconds.values())

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.5):
            resident = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    resident += process.memory_info().rss
                    times = process.cpu_times()
                    self._seconds[process.pid] = times.user + times.system
                except psutil.Error:
                    continue
            self.largest = max(self.largest, resident)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trial", action="store_true", help="print the table only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root, Usage() as usage:
        began = time.perf_counter()
        plan = trivial_plan(options.runs)
        progress = run_sweep(plan, Path(root) / "sweep", WorkerConfig(workers=options.workers))
        ran = time.perf_counter()
        write_sweep(Path(root) / "sweep")
        ended = time.perf_counter()
    from result_files import write_result  # it imports torch, which this process does not need

    each = 1e3 * usage.seconds / progress.total
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    lines = [
        "# Overhead of a sweep",
        "",
        f"{progress.done} of {progress.total} trivial runs by {options.workers} workers on "
        f"{os.cpu_count()} cores; load at the end {load}.",
        "",
        "| wall, s | of which sweep.nc, s | CPU, s | CPU per run, ms | memory, MiB |",
        "| ---: | ---: | ---: | ---: | ---: |",
        f"| {ended - began:.1f} | {ended - ran:.1f} | {usage.seconds:.1f} | {each:.0f} | "
        f"{usage.largest / 2**20:.0f} |",
    ]
    write_result("sweep", lines, trial=options.trial)
    return 0 if progress.done == progress.total else 1


if __name__ == "__main__":
    sys.exit(main())
