"""A sweep on a real SLURM, with one of its worker jobs cancelled half-way.

A SLURM of one node is installed if need be and started on the loopback interface (see
``one_node_slurm.py``); then a batch job says its host's name, and two jobs of workers,
submitted by dask-jobqueue, do tasks while one of the jobs is cancelled.

Run: python tests/stress/slurm.py [--keep]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from one_node_slurm import NoSlurm, Slurm, install, one_node_slurm, wait_for


def batch_job(slurm: Slurm) -> None:
    """``sbatch --wrap hostname`` runs and writes what it should."""
    written = slurm.folder / "hostname.txt"
    job = slurm.call("sbatch", "--parsable", "--output", str(written), "--wrap", "hostname")
    wait_for(lambda: slurm.state(job) == "COMPLETED", 60)
    print(f"batch job    {job} completed on {written.read_text().strip()}")


def cluster(slurm: Slurm, folder: Path, *, tasks: int = 40) -> None:
    """Tasks on two jobs of workers, one of them cancelled half-way: all are done."""
    from dask.distributed import Client, as_completed
    from dask_jobqueue import SLURMCluster

    with _environment(slurm.environment):
        with (
            SLURMCluster(
                cores=1,
                processes=1,
                memory="1GiB",
                walltime="00:10:00",
                python=sys.executable,
                interface="lo",
                log_directory=str(folder / "logs"),
                local_directory=str(folder / "scratch"),
                scheduler_options={"dashboard_address": None},
            ) as jobs,
            Client(jobs) as client,
        ):
            print(jobs.job_script())
            jobs.adapt(minimum_jobs=2, maximum_jobs=2)
            client.wait_for_workers(2, timeout=120)
            futures = client.map(_task, range(tasks), pure=False)
            cancelled, done = "", []
            began = time.time()
            for future in as_completed(futures, timeout=300):
                done.append(future.result())
                if len(done) == tasks // 2:
                    cancelled = slurm.jobs("RUNNING")[0]
                    slurm.call("scancel", cancelled)
                    print("cancel", time.time() - began)
            print(
                "done", time.time() - began, slurm.jobs(), slurm.state(cancelled), client.nthreads()
            )
    assert sorted(done) == list(range(tasks))
    print(f"cluster      {len(done)} of {tasks} tasks done; job {cancelled} cancelled half-way")


def _task(number: int) -> int:
    time.sleep(0.5)
    return number


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    keep = parser.parse_args().keep
    try:
        install()
    except NoSlurm as reason:
        print(f"skipped: {reason}")
        return
    folder = Path(tempfile.mkdtemp(prefix="gflow-slurm-"))
    try:
        with one_node_slurm(folder / "slurm") as slurm:
            batch_job(slurm)
            cluster(slurm, folder)
    finally:
        if keep:
            print(f"kept {folder}")
        else:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
