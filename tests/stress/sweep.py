"""Sweeps whose workers are killed repeatedly, or whose driver is.

Three parts; the exit status is 1 if one of them fails.

1. ``--runs`` runs on two workers, of which one is killed by SIGKILL every ``--every`` seconds;
   ``--poisoned`` of the runs kill their worker themselves. These must be reported, all others must
   be done exactly once, and the sweep must end.
2. A sweep whose driver is killed by SIGKILL at random times and started again: it must end, and no
   run that was done may be executed again.
3. The same for a sweep in groups, solved as ensembles: every run must end with the bits that it has
   in an undisturbed sweep.

Every run that ends writes a line to a log of this script.

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
    """Executes a run slowly and writes to a log, or kills the worker."""

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

    def _write(self, event: str, id: str) -> None:
        with open(self.log, "ab", buffering=0) as file:
            file.write(f"{event} {id}\n".encode())


def counts(log: Path) -> dict[str, collections.Counter[str]]:
    events: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line in log.read_text().splitlines():
        event, id = line.split()
        events[event][id] += 1
    return events


def kernel_plan(runs: int):
    fixed = "data=synthetic samples=8 test_samples=4 inputs=3 points=4 t_end=3.0 step_size=0.1"
    return make_plan("kernel", [tuple(word.split("=")) for word in fixed.split()], seeds=runs)


def workers() -> list[psutil.Process]:
    """Return the processes of dask's workers that descend from this process."""
    processes = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "dask_worker" in " ".join(child.cmdline()):
                processes.append(child)
        except psutil.Error:
            continue
    return processes


def kill_workers(every: float, stop: threading.Event, killed: list[float]) -> None:
    rng = random.Random(0)
    while not stop.wait(every * rng.uniform(0.5, 1.5)):
        running = workers()
        if running:
            try:
                rng.choice(running).kill()
                killed.append(time.monotonic())
            except psutil.Error:
                pass


def workers_killed(root: Path, runs: int, poisoned: int, every: float, seconds: float) -> bool:
    plan, log = kernel_plan(runs), root / "log"
    log.touch()
    poisoned_ids = frozenset(m.id for m in random.Random(1).sample(plan.members, poisoned))
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
        plan,
        root / "sweep",
        WorkerConfig(workers=2),
        execute=Work(log, seconds, poisoned_ids),
        show=show,
    )
    stop.set()
    killer.join()
    events = counts(log)
    states = run_states(root / "sweep", plan)
    done = {id for id, state in states.items() if state == "done"}
    expected = {m.id for m in plan.members} - poisoned_ids
    repeated = {id: n for id, n in events["done"].items() if n > 1}
    kills_by_runs = sum(events["began"][id] for id in poisoned_ids)
    print(f"workers killed: {len(killed)}, and {kills_by_runs} by poisoned runs")
    print(f"runs begun: {sum(events['began'].values())}")
    print(f"done: {len(done)} of {len(expected)} others; more than once: {len(repeated)}")
    print(
        f"reported: {len(progress.failed)} of {poisoned} poisoned: {set(progress.failed.values())}"
    )
    print(f"seconds: {time.monotonic() - began:.0f}")
    return done == expected and set(progress.failed) == poisoned_ids and not repeated


def drive(root: str, runs: str, seconds: str) -> None:
    """Run the sweep of the second part; executed in a separate process."""
    path = Path(root)
    run_sweep(
        kernel_plan(int(runs)),
        path / "sweep",
        WorkerConfig(workers=2),
        execute=Work(path / "log", float(seconds)),
    )


def kill_repeatedly(arguments: list[str], shortest: float, longest: float) -> tuple[int, int]:
    """Kill a driver repeatedly until it ends; return its exit status and the number of kills."""
    rng, kills = random.Random(2), 0
    while True:
        driver = subprocess.Popen([sys.executable, __file__, *arguments])
        try:
            return driver.wait(timeout=rng.uniform(shortest, longest)), kills
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()
            kills += 1


def driver_killed(root: Path, runs: int, seconds: float) -> bool:
    log = root / "log"
    log.touch()
    began = time.monotonic()
    status, kills = kill_repeatedly(["drive", str(root), str(runs), str(seconds)], 6, 20)
    events = counts(log)
    states = collections.Counter(run_states(root / "sweep", kernel_plan(runs)).values())
    repeated = {id: n for id, n in events["done"].items() if n > 1}
    print(f"driver killed: {kills} times; exit status of the last: {status}")
    print(f"runs begun: {sum(events['began'].values())}, ended: {len(events['done'])}")
    print(f"states: {dict(states)}; more than once: {len(repeated)}")
    print(f"seconds: {time.monotonic() - began:.0f}")
    return status == 0 and states == {"done": runs} and not repeated


def group_plan(runs: int):
    sets = [("t_end", "60.0"), ("step_size", "0.2"), ("points", "20")]
    return make_plan("deep-linear", sets, seeds=runs)


def drive_groups(root: str, runs: str) -> None:
    """Run the sweep of the third part; executed in a separate process."""
    run_sweep(
        group_plan(int(runs)), Path(root) / "sweep", WorkerConfig(workers=2), checkpoint_every=0.2
    )


def groups_killed(root: Path, runs: int) -> bool:
    plan = group_plan(runs)
    began = time.monotonic()
    run_sweep(plan, root / "undisturbed", WorkerConfig(workers=2))
    undisturbed_seconds = time.monotonic() - began
    status, kills = kill_repeatedly(["drive-groups", str(root), str(runs)], 4, 9)
    different, ensembles = [], 0
    for member in plan.members:
        folders = (root / "undisturbed", root / "sweep")
        undisturbed, disturbed = (load_run(run_path(folder, member.id)) for folder in folders)
        ensembles += "one ensemble" in disturbed.summary["cost"]["reason"]
        equal = all(
            np.array_equal(values.values, disturbed.result[name].values, equal_nan=True)
            for name, values in undisturbed.result.variables.items()
            if values.dtype.kind == "f"
        )
        different += [] if equal else [member.id]
    states = collections.Counter(run_states(root / "sweep", plan).values())
    print(f"driver killed: {kills} times; exit status of the last: {status}")
    print(f"states: {dict(states)}; solved in ensembles: {ensembles}")
    print(f"runs that differ from undisturbed ones: {len(different)}")
    print(
        f"seconds: {time.monotonic() - began:.0f}, of which undisturbed {undisturbed_seconds:.0f}"
    )
    return status == 0 and states == {"done": runs} and ensembles == runs and not different


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--poisoned", type=int, default=3)
    parser.add_argument("--every", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--grouped", type=int, default=60)
    parser.add_argument("--only", help="run one part: workers, driver or groups")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="gflow-stress-"))
    verdicts = []
    for name, work in {
        "workers killed": lambda path: workers_killed(
            path, options.runs, options.poisoned, options.every, options.seconds
        ),
        "driver killed": lambda path: driver_killed(path, options.runs // 3, options.seconds),
        "groups killed": lambda path: groups_killed(path, options.grouped),
    }.items():
        if options.only is not None and options.only != name.split()[0]:
            continue
        print(f"-- {name}", flush=True)
        (root / name.replace(" ", "-")).mkdir()
        verdicts.append(work(root / name.replace(" ", "-")))
        print("passed" if verdicts[-1] else "FAILED", flush=True)
    shutil.rmtree(root)
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["drive"]:
        drive(*sys.argv[2:])
    elif sys.argv[1:2] == ["drive-groups"]:
        drive_groups(*sys.argv[2:])
    else:
        sys.exit(main())
