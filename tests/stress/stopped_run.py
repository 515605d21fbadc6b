"""One run in its folder, stopped and resumed until it ends, and checked at each stop."""

from __future__ import annotations

import collections
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import leftovers
from starting import Child, forked, warm_up

import gflow.runs.folder

# Some seconds each; together they have every kind of checkpoint: explicit, stabilised and implicit
# steppers, alone and as an ensemble, torchdiffeq, scipy, exact and Krylov kernels, descent, the
# central flow, and the step-size study.
CASES = {
    "auto": "deep-linear --t-end 25",
    "tsit5": "deep-linear --method tsit5",
    "dop853": "deep-linear --method dop853 --rtol 1e-12 --atol 1e-14",
    "rkc2": "deep-matrix --method rkc2 --rtol 1e-5 --t-end 10",
    "rock4": "network --method rock4 --samples 60 --width 16 --t-end 10 --points 10",
    "bdf": "factorization --method bdf --t-end 100",
    "torchdiffeq": "deep-linear --method dopri5",
    "scipy": "deep-linear --method scipy:LSODA",
    "exact": "kernel --samples 100 --test-samples 50",
    "krylov": "kernel --samples 100 --test-samples 50 --method krylov --rtol 1e-6",
    "network": "network --samples 60 --width 16 --t-end 20 --points 20",
    "float32": "network --samples 60 --width 16 --t-end 20 --points 20 --dtype float32"
    " --rtol 1e-4 --atol 1e-6",
    "study": "converge deep-linear",
    "modified-study": "converge network --samples 40 --width 8 --t-end 2 --modified"
    " --step-sizes 0.4,0.2,0.1",
    "edge": "edge-of-stability --samples 60 --width 8 --depth 2 --t-end 30 --points 10"
    " --step-sizes 0.4,0.3",
    "ensemble": "wide-network --samples 40 --widths 64,128 --epochs 100 --points 10",
    "implicit": "implicit-regularization --samples 60 --width 16 --t-end 2 --points 5"
    " --step-sizes 0.4,0.2",
    "relu": "continuous-vs-discrete --samples 100 --width 16 --t-end 4 --points 10",
}
OFTEN, SELDOM = "0.05", "0.5"  # seconds between checkpoints
_GOOD = (0, 4, 5)  # done; a certificate that does not hold or a diverged descent is a result
Start = Callable[[list[str], Path], Child]


class Report:
    """The number of observations of each kind, and all errors."""

    def __init__(self) -> None:
        self.counts: dict[str, collections.Counter[str]] = {}
        self.errors: list[str] = []

    def add(self, kind: str, value: object) -> None:
        self.counts.setdefault(kind, collections.Counter())[str(value)] += 1

    def show(self) -> None:
        for kind, seen in self.counts.items():
            parts = ", ".join(f"{key} {count}" for key, count in sorted(seen.items()))
            print(f"{kind:<10} {sum(seen.values()):5}: {parts}")
        print(f"{'errors':<10} {len(self.errors):5}", flush=True)


class Undisturbed:
    """Undisturbed runs, executed at the first request: their folders and seconds."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._made: dict[str, tuple[Path, float]] = {}

    def __call__(self, name: str) -> tuple[Path, float]:
        if name not in self._made:
            # The first run also imports; its modules are then imported here.
            for which in ("first", "second"):
                path = self._folder / f"{name}-{which}"
                log, modules = path.with_suffix(".log"), path.with_suffix(".modules")
                began = time.monotonic()
                child = forked(_new(name, path), log, modules=modules)
                if child.wait(600) not in _GOOD:
                    raise SystemExit(f"{name} fails undisturbed: {child.output()[-800:]}")
                self._made[name] = path, time.monotonic() - began
                warm_up(modules)
            differing = leftovers.differences(self._folder / f"{name}-first", path)
            if differing:
                raise SystemExit(f"{name} differs from itself undisturbed: {differing}")
        return self._made[name]


def _new(name: str, folder: Path) -> list[str]:
    return [*CASES[name].split(), "--output", str(folder)]


class Run:
    """One run in its folder, stopped and resumed until it ends."""

    def __init__(
        self, name: str, folder: Path, reference: Path, report: Report, *, every: str = OFTEN
    ):
        self._name = name
        self._every = ("--checkpoint-every", every)
        self._folder = folder
        self._log = folder.with_suffix(".log")
        self._reference = reference
        self._report = report
        self._history: list[str] = []
        self._over = False

    @property
    def over(self) -> bool:
        """Whether the run has ended or cannot be resumed."""
        return self._over

    def stop(self, number: signal.Signals, seconds: float, start: Start) -> bool:
        """Start or resume the run, and stop it after some seconds.

        Return whether it was stopped; it may have ended before.
        """
        child = self._begin(start)
        child.wait(seconds)
        child.send(number)
        status = child.wait(60)
        self._history.append(f"{number.name} at {seconds:.2f} s: {status}")
        if status is None:
            child.send(signal.SIGKILL)
            child.wait(10)
            self._add_error("it still runs 60 s after the signal")
        if status in _GOOD:
            self._end()
            return False
        self._judge(child, status, number)
        return True

    def finish(self, start: Start) -> None:
        """Resume the run to its end unless it has ended."""
        if not self._over:
            child = self._begin(start)
            status = child.wait(600)
            self._history.append(f"end: {status}")
            if status in _GOOD:
                self._end()
            else:
                self._add_error(f"does not resume: {child.output()[-600:]}")

    def _begin(self, start: Start) -> Child:
        if (self._folder / "manifest.json").exists():
            self._history.append("resume")
            return start(["resume", str(self._folder), *self._every], self._log)
        self._history.append("run")
        return start([*_new(self._name, self._folder), *self._every], self._log)

    def _judge(self, child: Child, status: int | None, number: signal.Signals) -> None:
        report = self._report
        report.add("stopped by", number.name)
        report.add("status", status)
        report.add("moment", leftovers.progress_of(self._folder))
        output = child.output()
        if status not in (-number, 130 if number == signal.SIGINT else 143):
            self._add_error(f"exit status {status}: {output[-600:]}")
        if "Traceback" in output:
            self._add_error(f"output {output[-1500:]}")
        if number != signal.SIGKILL:
            report.add("message", "how to resume" if "gflow resume" in output else "none")
        if not (self._folder / "manifest.json").exists():
            return  # nothing to resume: it is started again in the same folder
        state = gflow.runs.reading.state(self._folder)
        report.add("state", state)
        if state == "done":  # stopped after its last file
            self._end(killed=True)
        elif state != "interrupted":
            self._add_error(f"its state is {state}: {output[-600:]}")
        for problem in leftovers.unreadable(self._folder):
            self._add_error(problem)
        if self._over:
            return
        inspected = forked(["inspect", str(self._folder)], self._log)
        if inspected.wait(60) != 0 or "Traceback" in inspected.output():
            self._add_error(f"gflow inspect says {inspected.output()[-600:]}")

    def _end(self, *, killed: bool = False) -> None:
        self._over = True
        differing = leftovers.differences(self._reference, self._folder, killed=killed)
        self._report.add("ends", "different" if differing else "bit-identical")
        for difference in differing:
            self._add_error(difference)
        if not differing:
            shutil.rmtree(self._folder)

    def _add_error(self, description: str) -> None:
        self._over = True
        self._report.errors.append(f"{self._name} [{', '.join(self._history)}]: {description}")
        print(f"ERROR {self._report.errors[-1]} ({self._folder})", flush=True)
