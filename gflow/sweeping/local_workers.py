"""Workers on this machine: a scheduler in this process, and worker processes.

A worker process that ends is replaced within a second, whatever it was doing. (dask's own nanny
gives up on a worker that dies while it starts, so that none is left where workers die repeatedly.)
A worker is a fresh interpreter: it does not import the program that started the sweep.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from gflow.sweeping import worker_preload

LOOPBACK = "127.0.0.1"


def thread_environment(threads: int) -> dict[str, str]:
    """Return the environment variables of a worker with this number of threads.

    Examples
    --------
    >>> thread_environment(2)["OMP_NUM_THREADS"]
    '2'
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), "MPLBACKEND": "Agg"}


@contextlib.contextmanager
def local_workers(
    environments: Sequence[Mapping[str, str]], resources: Mapping[str, float], log: Path
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Run a scheduler and its workers while the context is open.

    Parameters
    ----------
    environments : sequence of mapping
        The environment variables of each worker, besides those of this process.
    resources : mapping
        The dask resources of each worker.
    log : Path
        Receives the workers' standard output and error.

    Yields
    ------
    address : str
        The address of the scheduler.
    replace_workers : callable
        Replaces the workers that have ended.

    Examples
    --------
    >>> with local_workers([], {}, Path(os.devnull)) as (address, replace_workers):
    ...     address.startswith("tcp://127.0.0.1:")
    True
    """
    from distributed import Scheduler
    from distributed.deploy.spec import SpecCluster

    options: dict[str, Any] = {
        "host": LOOPBACK,
        "port": 0,
        "dashboard": False,
        "dashboard_address": f"{LOOPBACK}:0",  # dask starts its server even without a dashboard
    }
    with contextlib.ExitStack() as stack:
        scheduler = {"cls": Scheduler, "options": options}
        cluster = SpecCluster(scheduler=scheduler, silence_logs=logging.CRITICAL)
        address = stack.enter_context(cluster).scheduler_address
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="gflow-sweep-"))
        output = stack.enter_context(log.open("ab"))
        command = _worker_command(address, scratch, resources)
        processes = [_start_worker(command, env, output) for env in environments]
        stack.callback(_kill_all, processes)

        def replace_workers() -> None:
            for i, env in enumerate(environments):
                if processes[i].poll() is not None:
                    processes[i] = _start_worker(command, env, output)

        yield address, replace_workers


def _worker_command(address: str, scratch: str, resources: Mapping[str, float]) -> list[str]:
    words = f"-m distributed.cli.dask_worker {address} --no-nanny --nthreads 1 --memory-limit 0"
    words += f" --no-dashboard --dashboard-address {LOOPBACK}:0"
    words += f" --preload {worker_preload.__name__}"
    command = [sys.executable, *words.split(), "--local-directory", scratch]
    if resources:
        command += ["--resources", ",".join(f"{k}={v:g}" for k, v in resources.items())]
    return command


def _start_worker(
    command: list[str], environment: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    settings = {
        "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error",
        worker_preload.EXIT_WITH_PARENT: "1",
    }
    return subprocess.Popen(
        command,
        env={**os.environ, **settings, **environment},
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,  # only the sweep receives a Ctrl-C in the terminal
    )


def _kill_all(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.communicate()
