"""One run in its folder, stopped and resumed until it ends, and judged at each stop."""

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

# Seconds each, and together every kind of work that is kept: own explicit, stabilised and
# implicit steppers, alone and as an ensemble, torchdiffeq, scipy, exact and Krylov kernels,
# descent, the central flow, and the step-size study.
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
EVERY, SELDOM = "0.05", "0.5"  # seconds between checkpoints: many and few in a short run
_GOOD = (0, 4, 5)  # done; a certificate that does not hold or a diverged descent is a result
Start = Callable[[list[str], Path], Child]


class Count:
    """What was seen, in numbers, and all that was wrong, in words."""

    def __init__(self) -> None:
        self.of: dict[str, collections.Counter[str]] = {}
        self.wrong: list[str] = []

    def add(self, what: str, value: object) -> None:
        self.of.setdefault(what, collections.Counter())[str(value)] += 1

    def show(self) -> None:
        for what, seen in self.of.items():
            parts = ", ".join(f"{key} {count}" for key, count in sorted(seen.items()))
            print(f"{what:<10} {sum(seen.values()):5}: {parts}")
        print(f"{'wrong':<10} {len(self.wrong):5}", flush=True)


class Undisturbed:
    """The runs that nobody stops, made when first asked for: folder and seconds."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._made: dict[str, tuple[Path, float]] = {}

    def __call__(self, name: str) -> tuple[Path, float]:
        if name not in self._made:
            # Twice: the first one also imports, and its modules are then imported here.
            for which in ("first", "second"):
                path = self._folder / f"{name}-{which}"
                log, modules = path.with_suffix(".log"), path.with_suffix(".modules")
                began = time.monotonic()
                child = forked(_new(name, path), log, modules=modules)
                if child.wait(600) not in _GOOD:
                    raise SystemExit(f"{name} fails undisturbed: {child.said()[-800:]}")
                self._made[name] = path, time.monotonic() - began
                warm_up(modules)
            apart = leftovers.differences(self._folder / f"{name}-first", path)
            if apart:
                raise SystemExit(f"{name} differs from itself undisturbed: {apart}")
        return self._made[name]


def _new(name: str, folder: Path) -> list[str]:
    return [*CASES[name].split(), "--output", str(folder)]


class Run:
    """One run in its folder, stopped and resumed until it gets to its end."""

    def __init__(self, name: str, folder: Path, whole: Path, count: Count, *, every: str = EVERY):
        self._name = name
        self._every = ("--checkpoint-every", every)
        self._folder = folder
        self._log = folder.with_suffix(".log")
        self._whole = whole
        self._count = count
        self._history: list[str] = []
        self._over = False

    @property
    def over(self) -> bool:
        """Whether it has got to its end, or is in a state nothing can follow from."""
        return self._over

    def stop(self, number: signal.Signals, seconds: float, start: Start) -> bool:
        """Start it or go on with it, let it work for so long, and stop it.

        Returns whether it was stopped: it may have got to its end before.
        """
        child = self._begin(start)
        child.wait(seconds)
        child.send(number)
        status = child.wait(60)
        self._history.append(f"{number.name} at {seconds:.2f} s: {status}")
        if status is None:
            child.send(signal.SIGKILL)
            child.wait(10)
            self._wrong("it still ran 60 s later")
        if status in _GOOD:
            self._end()
            return False
        self._judge(child, status, number)
        return True

    def finish(self, start: Start) -> None:
        """Go on with it to its end, if it has not got there."""
        if not self._over:
            child = self._begin(start)
            status = child.wait(600)
            self._history.append(f"end: {status}")
            if status in _GOOD:
                self._end()
            else:
                self._wrong(f"does not resume: {child.said()[-600:]}")

    def _begin(self, start: Start) -> Child:
        if (self._folder / "manifest.json").exists():
            self._history.append("resume")
            return start(["resume", str(self._folder), *self._every], self._log)
        self._history.append("run")
        return start([*_new(self._name, self._folder), *self._every], self._log)

    def _judge(self, child: Child, status: int | None, number: signal.Signals) -> None:
        count = self._count
        count.add("stopped by", number.name)
        count.add("left with", status)
        count.add("moment", leftovers.moment(self._folder))
        said = child.said()
        if status not in (-number, 130 if number == signal.SIGINT else 143):
            self._wrong(f"left with {status}: {said[-600:]}")
        if "Traceback" in said:
            self._wrong(f"said {said[-1500:]}")
        if number != signal.SIGKILL:
            count.add("last words", "how to resume" if "gflow resume" in said else "none")
        if not (self._folder / "manifest.json").exists():
            return  # nothing to resume: it is run again, into the same folder
        state = gflow.runs.reading.state(self._folder)
        count.add("state", state)
        if state == "done":  # stopped after the last thing it had to write
            self._end(killed=True)
        elif state != "interrupted":
            self._wrong(f"its state is {state}: {said[-600:]}")
        for problem in leftovers.unreadable(self._folder):
            self._wrong(problem)
        if self._over:
            return
        inspected = forked(["inspect", str(self._folder)], self._log)
        if inspected.wait(60) != 0 or "Traceback" in inspected.said():
            self._wrong(f"gflow inspect says {inspected.said()[-600:]}")

    def _end(self, *, killed: bool = False) -> None:
        self._over = True
        apart = leftovers.differences(self._whole, self._folder, killed=killed)
        self._count.add("ends", "different" if apart else "bit-identical")
        for difference in apart:
            self._wrong(difference)
        if not apart:
            shutil.rmtree(self._folder)

    def _wrong(self, what: str) -> None:
        self._over = True
        self._count.wrong.append(f"{self._name} [{', '.join(self._history)}]: {what}")
        print(f"WRONG {self._count.wrong[-1]} ({self._folder})", flush=True)
