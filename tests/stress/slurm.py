"""A sweep of 20 runs on a real SLURM, with one of its two worker jobs cancelled half-way.

A SLURM of one node is installed if necessary and started on the loopback interface
(``one_node_slurm.py``). A batch job prints the name of its host, then ``gflow sweep --slurm``
starts. All runs must be done, each once; the run of the cancelled job must be resumed in another
job and end with the same bits as an undisturbed run.

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
    """Check that ``sbatch --wrap hostname`` runs and writes its output."""
    written = slurm.folder / "hostname.txt"
    job = slurm.call("sbatch", "--parsable", "--output", str(written), "--wrap", "hostname")
    wait_for(lambda: slurm.state(job) == "COMPLETED", 60)
    print(f"batch job        {job} completed on {written.read_text().strip()}", flush=True)


def sweep(slurm: Slurm, folder: Path, runs: int) -> list[str]:
    """Run the sweep, cancel a job when half of the runs are done, and return all errors."""
    sweep_folder, output = folder / "sweep", folder / "sweep.out"
    words = [*SCENARIO, "--set", f"init_scale=log:0.01:0.3:{runs}", *OPTIONS]
    command = [sys.executable, "-m", "gflow", "sweep", *words, "--output", str(sweep_folder)]
    with output.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=slurm.environment)
    try:
        wait_for(lambda: process.poll() is not None or _half_way(sweep_folder, runs), 300)
        run, jobs = next(_under_way(sweep_folder), None), slurm.jobs("RUNNING")
        if run is None or len(jobs) != 2:
            return [f"half-way, the jobs are {jobs}: {output.read_text()[-2000:]}"]
        job = _job_of(run)
        slurm.call("scancel", job)
        print(f"half-way         job {job} of {', '.join(jobs)} cancelled in a run", flush=True)
        wait_for(lambda: slurm.state(job) == "CANCELLED", 60)
        wait_for(lambda: len(slurm.jobs("RUNNING")) == 2 or process.poll() is not None, 120)
        replaced = set(slurm.jobs("RUNNING")) - set(jobs)
        print(f"replaced by      job {', '.join(replaced) or 'none: the sweep ended first'}")
        status = process.wait(600)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
    wrong = _judge(sweep_folder, output, runs, status)
    alone = folder / "alone"
    again = [sys.executable, "-m", "gflow", "run", str(run / "scenario.toml"), "--output"]
    subprocess.run([*again, str(alone)], env=slurm.environment, capture_output=True, timeout=600)
    wrong += leftovers.differences(alone, run)
    if _job_of(run) == job:
        wrong.append(f"the run was done by job {job}, before it was cancelled")
    print(f"its run          resumed in job {_job_of(run)}, compared with an undisturbed one")
    return wrong


def _half_way(folder: Path, runs: int) -> bool:
    return _done(folder) >= runs // 2 and any(_under_way(folder))


def _under_way(folder: Path) -> Iterator[Path]:
    """Yield the running runs that have written a checkpoint."""
    for checkpoint in folder.glob("runs/*/checkpoint.safetensors"):
        if gflow.runs.reading.state(checkpoint.parent) == "running":
            yield checkpoint.parent


def _job_of(run: Path) -> str:
    return str(gflow.runs.reading.read_manifest(run)["slurm"]["SLURM_JOB_ID"])


def _done(folder: Path) -> int:
    return sum(gflow.runs.reading.state(run) == "done" for run in folder.glob("runs/*"))


def _judge(folder: Path, output: Path, runs: int, status: int) -> list[str]:
    wrong = []
    if status != 0:
        wrong.append(f"gflow sweep exited with {status}: {output.read_text()[-2000:]}")
    if _done(folder) != runs or len(list(folder.glob("runs/*"))) != runs:
        wrong.append(f"{_done(folder)} of {runs} runs are done")
    for run in folder.glob("runs/*"):
        wrong += leftovers.unreadable(run)
    lines = (folder / "sweep.jsonl").read_text().splitlines()
    times = collections.Counter(json.loads(line)["id"] for line in lines)
    if any(count != 1 for count in times.values()):
        wrong.append(f"runs recorded more than once: {times}")
    print(f"done             {_done(folder)} of {runs} runs, status {status}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")
    options = parser.parse_args()
    try:
        install()
    except NoSlurm as reason:
        print(f"skipped: {reason}")
        return
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    folder = Path(tempfile.mkdtemp(prefix="gflow-slurm-"))
    wrong = ["the test did not end"]
    try:
        with one_node_slurm(folder / "slurm") as slurm:
            batch_job(slurm)
            wrong = sweep(slurm, folder, options.runs)
    finally:
        if options.keep or wrong:
            print(f"kept             {folder}")
        else:
            shutil.rmtree(folder)
    for line in wrong:
        print(f"WRONG {line}")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
