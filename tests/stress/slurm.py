"""A sweep of 20 runs on a real SLURM, with one of its two worker jobs cancelled half-way.

A SLURM of one node is installed if need be and started on the loopback interface (see
``one_node_slurm.py``); a batch job says its host's name; then ``gflow sweep --slurm`` is left
to cope. All runs must be done, each once, and the run that the cancelled job was in must go on
in another job and end as if nothing had been.

Run: python tests/stress/slurm.py [--runs 20] [--keep]
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import leftovers
from one_node_slurm import NoSlurm, Slurm, install, one_node_slurm, wait_for

import gflow.runs.folder

SCENARIO = ("deep-linear", "--set", "t_end=60", "--set", "rtol=1e-10")
OPTIONS = (
    *("--slurm", "--workers", "2", "--slurm-interface", "lo", "--slurm-memory", "1GB"),
    *("--slurm-walltime", "00:30:00", "--checkpoint-every", "0.2s", "--json"),
)


def batch_job(slurm: Slurm) -> None:
    """``sbatch --wrap hostname`` runs and writes what it should."""
    written = slurm.folder / "hostname.txt"
    job = slurm.call("sbatch", "--parsable", "--output", str(written), "--wrap", "hostname")
    wait_for(lambda: slurm.state(job) == "COMPLETED", 60)
    print(f"batch job        {job} completed on {written.read_text().strip()}", flush=True)


def sweep(slurm: Slurm, folder: Path, runs: int) -> list[str]:
    """The sweep, one of its jobs cancelled when half of its runs are done; what is wrong."""
    sweep_folder, said = folder / "sweep", folder / "sweep.out"
    words = [*SCENARIO, "--set", f"init_scale=log:0.01:0.3:{runs}", *OPTIONS]
    command = [sys.executable, "-m", "gflow", "sweep", *words, "--output", str(sweep_folder)]
    with said.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=slurm.environment)
    try:
        wait_for(lambda: process.poll() is not None or _half_way(sweep_folder, runs), 300)
        hit, jobs = next(_under_way(sweep_folder), None), slurm.jobs("RUNNING")
        if hit is None or len(jobs) != 2:
            return [f"half-way there are jobs {jobs}: {said.read_text()[-2000:]}"]
        job = _job_of(hit)
        slurm.call("scancel", job)
        print(f"half-way         job {job} of {', '.join(jobs)} cancelled in a run", flush=True)
        wait_for(lambda: slurm.state(job) == "CANCELLED", 60)
        wait_for(lambda: len(slurm.jobs("RUNNING")) == 2 or process.poll() is not None, 120)
        replaced = set(slurm.jobs("RUNNING")) - set(jobs)
        print(f"in its place     job {', '.join(replaced) or 'none: the sweep ended first'}")
        status = process.wait(600)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
    wrong = _judge(sweep_folder, said, runs, status)
    alone = folder / "alone"
    again = [sys.executable, "-m", "gflow", "run", str(hit / "scenario.toml"), "--output"]
    subprocess.run([*again, str(alone)], env=slurm.environment, capture_output=True, timeout=600)
    wrong += leftovers.differences(alone, hit)
    if _job_of(hit) == job:
        wrong.append(f"the run was done by job {job}, before it was cancelled")
    print(f"its run          went on in job {_job_of(hit)}, compared with an undisturbed one")
    return wrong


def _half_way(folder: Path, runs: int) -> bool:
    return _done(folder) >= runs // 2 and any(_under_way(folder))


def _under_way(folder: Path) -> Iterator[Path]:
    """Runs in the midst of their work."""
    for checkpoint in folder.glob("runs/*/checkpoint.safetensors"):
        if gflow.runs.reading.state(checkpoint.parent) == "running":
            yield checkpoint.parent


def _job_of(run: Path) -> str:
    return str(gflow.runs.reading.read_manifest(run)["slurm"]["SLURM_JOB_ID"])


def _done(folder: Path) -> int:
    return sum(gflow.runs.reading.state(run) == "done" for run in folder.glob("runs/*"))


def _judge(folder: Path, said: Path, runs: int, status: int) -> list[str]:
    wrong = []
    if status != 0:
        wrong.append(f"gflow sweep left with {status}: {said.read_text()[-2000:]}")
    if _done(folder) != runs or len(list(folder.glob("runs/*"))) != runs:
        wrong.append(f"{_done(folder)} of {runs} runs are done")
    for run in folder.glob("runs/*"):
        wrong += leftovers.unreadable(run)
    lines = (folder / "sweep.jsonl").read_text().splitlines()
    times = collections.Counter(json.loads(line)["id"] for line in lines)
    if any(count != 1 for count in times.values()):
        wrong.append(f"runs handed in more than once: {times}")
    print(f"done             {_done(folder)} of {runs} runs, status {status}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    given = parser.parse_args()
    try:
        install()
    except NoSlurm as reason:
        print(f"skipped: {reason}")
        return
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    folder = Path(tempfile.mkdtemp(prefix="gflow-slurm-"))
    wrong = ["it did not get to its end"]
    try:
        with one_node_slurm(folder / "slurm") as slurm:
            batch_job(slurm)
            wrong = sweep(slurm, folder, given.runs)
    finally:
        if given.keep or wrong:
            print(f"kept             {folder}")
        else:
            shutil.rmtree(folder)
    for line in wrong:
        print(f"WRONG {line}")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
