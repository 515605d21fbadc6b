"""A sweep whose workers are killed again and again, and which is killed itself.

Three parts, each with its verdict; exit status 1 where one does not hold.

1. ``--runs`` runs on two workers, of which one is killed by SIGKILL every ``--every`` seconds;
   ``--poisoned`` of the runs kill their worker themselves. All others must be done exactly
   once, those reported, and the sweep must end.
2. A sweep whose driver is killed by SIGKILL now and then and started again: it must end, and no
   run that was done may be run again.
3. The same for a sweep in groups, solved as ensembles: every run must end with the numbers that
   it has in a sweep left in peace, to the last bit.

Every completed piece of work is a line in a log of this script's own, written by the run.

Run: python tests/stress/sweep.py [--runs 300] [--poisoned 3] [--every 3] [--seconds 0.3]
    [--grouped 60] [--only workers|driver|groups]
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from gflow import load_run
from gflow.sweeping import task
from gflow.sweeping.engine import run_sweep
from gflow.sweeping.folder import run_path, run_states
from gflow.sweeping.plan import make_plan
from gflow.sweeping.progress import SweepProgress
from gflow.sweeping.workers import WorkerConfig


class Work:
    """A run that is slowed down, writes to a log when its folder is whole, or kills its worker."""

    def __init__(self, log: Path, seconds: float, poisoned: frozenset[str] = frozenset()):
        self.log, self.seconds, self.poisoned = str(log), seconds, poisoned

    def __call__(self, request: task.RunRequest, state: str) -> object:
        self._write("began", request.id)
        time.sleep(self.seconds)
        if request.id in self.poisoned:
            os.kill(os.getpid(), signal.SIGKILL)
        summary = task.start_or_resume(request, state)
        self._write("done", request.id)
        return summary

    def _write(self, what: str, id: str) -> None:
        with open(self.log, "ab", buffering=0) as file:
            file.write(f"{what} {id}\n".encode())


def counts(log: Path) -> dict[str, collections.Counter[str]]:
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line in log.read_text().splitlines():
        what, id = line.split()
        found[what][id] += 1
    return found


def plan_of(runs: int):
    fixed = "data=synthetic samples=8 test_samples=4 inputs=3 points=4 t_end=3.0 step_size=0.1"
    return make_plan("kernel", [tuple(word.split("=")) for word in fixed.split()], seeds=runs)


def workers() -> list[psutil.Process]:
    """Processes of dask's workers below this one."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "dask_worker" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def kill_workers(every: float, stop: threading.Event, killed: list[float]) -> None:
    chance = random.Random(0)
    while not stop.wait(every * chance.uniform(0.5, 1.5)):
        there = workers()
        if there:
            try:
                chance.choice(there).kill()
                killed.append(time.monotonic())
            except psutil.Error:
                pass


def first(root: Path, runs: int, poisoned: int, every: float, seconds: float) -> bool:
    plan, log = plan_of(runs), root / "log"
    log.touch()
    guilty = frozenset(m.id for m in random.Random(1).sample(plan.members, poisoned))
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=kill_workers, args=(every, stop, killed), daemon=True)
    killer.start()
    began = time.monotonic()
    last = [began]

    def show(progress: SweepProgress) -> None:
        if time.monotonic() - last[0] > 20:
            last[0] = time.monotonic()
            print(
                f"  {progress.done} done, {len(progress.failed)} failed, {len(killed)} killed",
                flush=True,
            )

    progress = run_sweep(
        plan, root / "sweep", WorkerConfig(workers=2), execute=Work(log, seconds, guilty), show=show
    )
    stop.set()
    killer.join()
    found = counts(log)
    states = run_states(root / "sweep", plan)
    done = {id for id, state in states.items() if state == "done"}
    innocent = {m.id for m in plan.members} - guilty
    again = {id: n for id, n in found["done"].items() if n > 1}
    own = sum(found["began"][g] for g in guilty)
    print(f"workers killed: {len(killed)}, and {own} by poisoned runs")
    print(f"runs begun: {sum(found['began'].values())}")
    print(f"done: {len(done)} of {len(innocent)} innocent; more than once: {len(again)}")
    print(
        f"reported: {len(progress.failed)} of {poisoned} poisoned: {set(progress.failed.values())}"
    )
    print(f"seconds: {time.monotonic() - began:.0f}")
    return done == innocent and set(progress.failed) == guilty and not again


def sweep_id(root: str, runs: str, seconds: str) -> None:
    """The driver of the second part, in a process of its own."""
    path = Path(root)
    run_sweep(
        plan_of(int(runs)),
        path / "sweep",
        WorkerConfig(workers=2),
        execute=Work(path / "log", float(seconds)),
    )


def killed_again_and_again(arguments: list[str], least: float, most: float) -> tuple[int, int]:
    """Kill this script's own driver after so many seconds until it ends: its status, the kills."""
    chance, kills = random.Random(2), 0
    while True:
        driver = subprocess.Popen([sys.executable, __file__, *arguments])
        try:
            return driver.wait(timeout=chance.uniform(least, most)), kills
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()
            kills += 1


def second(root: Path, runs: int, seconds: float) -> bool:
    log = root / "log"
    log.touch()
    began = time.monotonic()
    status, kills = killed_again_and_again(["drive", str(root), str(runs), str(seconds)], 6, 20)
    found = counts(log)
    states = collections.Counter(run_states(root / "sweep", plan_of(runs)).values())
    again = {id: n for id, n in found["done"].items() if n > 1}
    print(f"driver killed: {kills} times; exit status of the last: {status}")
    print(f"runs begun: {sum(found['began'].values())}, ended by their log: {len(found['done'])}")
    print(f"states: {dict(states)}; more than once: {len(again)}")
    print(f"seconds: {time.monotonic() - began:.0f}")
    return status == 0 and states == {"done": runs} and not again


def group_plan(runs: int):
    sets = [("t_end", "60.0"), ("step_size", "0.2"), ("points", "20")]
    return make_plan("deep-linear", sets, seeds=runs)


def drive_groups(root: str, runs: str) -> None:
    """The driver of the third part, in a process of its own."""
    run_sweep(
        group_plan(int(runs)), Path(root) / "sweep", WorkerConfig(workers=2), checkpoint_every=0.2
    )


def third(root: Path, runs: int) -> bool:
    plan = group_plan(runs)
    began = time.monotonic()
    run_sweep(plan, root / "peace", WorkerConfig(workers=2))
    peace = time.monotonic() - began
    status, kills = killed_again_and_again(["drive-groups", str(root), str(runs)], 4, 9)
    differ, together = [], 0
    for member in plan.members:
        calm, own = (load_run(run_path(root / name, member.id)) for name in ("peace", "sweep"))
        together += "one ensemble" in own.summary["cost"]["reason"]
        equal = all(
            np.array_equal(values.values, own.result[name].values, equal_nan=True)
            for name, values in calm.result.variables.items()
            if values.dtype.kind == "f"
        )
        differ += [] if equal else [member.id]
    states = collections.Counter(run_states(root / "sweep", plan).values())
    print(f"driver killed: {kills} times; exit status of the last: {status}")
    print(f"states: {dict(states)}; solved together: {together}")
    print(f"runs that differ from those left in peace: {len(differ)}")
    print(f"seconds: {time.monotonic() - began:.0f}, of them in peace {peace:.0f}")
    return status == 0 and states == {"done": runs} and together == runs and not differ


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--poisoned", type=int, default=3)
    parser.add_argument("--every", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--grouped", type=int, default=60)
    parser.add_argument("--only", help="one part: workers, driver or groups")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="gflow-stress-"))
    verdicts = []
    for name, work in {
        "workers killed": lambda path: first(
            path, options.runs, options.poisoned, options.every, options.seconds
        ),
        "driver killed": lambda path: second(path, options.runs // 3, options.seconds),
        "groups killed": lambda path: third(path, options.grouped),
    }.items():
        if options.only is not None and options.only != name.split()[0]:
            continue
        print(f"-- {name}", flush=True)
        (root / name.replace(" ", "-")).mkdir()
        verdicts.append(work(root / name.replace(" ", "-")))
        print("holds" if verdicts[-1] else "DOES NOT HOLD", flush=True)
    shutil.rmtree(root)
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["drive"]:
        sweep_id(*sys.argv[2:])
    elif sys.argv[1:2] == ["drive-groups"]:
        drive_groups(*sys.argv[2:])
    else:
        sys.exit(main())
