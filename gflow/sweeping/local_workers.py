"""Workers on this machine: a scheduler in this process, and worker processes watched over here.

dask has a watcher of its own, the nanny, which gives up on a worker that dies while it starts:
where workers die again and again none is left in the end. Here a process that ended is replaced
within a second, whatever it was doing. A worker is a fresh interpreter, so nothing of the
program that starts a sweep is imported again.
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

from gflow.sweeping import worker_preload as preload

LOOPBACK = "127.0.0.1"


def environment(threads: int) -> dict[str, str]:
    """The environment variables of a worker whose runs take so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), "MPLBACKEND": "Agg"}


@contextlib.contextmanager
def local_workers(
    environments: Sequence[Mapping[str, str]], resources: Mapping[str, float], log: Path
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a scheduler with a worker for each environment, and what replaces dead ones.

    What workers say on standard error is appended to ``log``.
    """
    from distributed import Scheduler
    from distributed.deploy.spec import SpecCluster

    options: dict[str, Any] = {
        "host": LOOPBACK,
        "port": 0,
        "dashboard": False,
        "dashboard_address": f"{LOOPBACK}:0",  # there is a server still; for nobody outside
    }
    with contextlib.ExitStack() as stack:
        scheduler = {"cls": Scheduler, "options": options}
        cluster = SpecCluster(scheduler=scheduler, silence_logs=logging.CRITICAL)
        address = stack.enter_context(cluster).scheduler_address
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="gflow-sweep-"))
        said = stack.enter_context(log.open("ab"))
        command = _command(address, place, resources)
        processes = [_start(command, env, said) for env in environments]
        stack.callback(_end, processes)

        def renew() -> None:
            for i, env in enumerate(environments):
                if processes[i].poll() is not None:
                    processes[i] = _start(command, env, said)

        yield address, renew


def _command(address: str, place: str, resources: Mapping[str, float]) -> list[str]:
    words = f"-m distributed.cli.dask_worker {address} --no-nanny --nthreads 1 --memory-limit 0"
    words += f" --no-dashboard --dashboard-address {LOOPBACK}:0 --preload {preload.__name__}"
    command = [sys.executable, *words.split(), "--local-directory", place]
    if resources:
        command += ["--resources", ",".join(f"{k}={v:g}" for k, v in resources.items())]
    return command


def _start(
    command: list[str], environment: Mapping[str, str], said: IO[bytes]
) -> subprocess.Popen[bytes]:
    own = {"DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error", preload.WATCH: "1"}
    return subprocess.Popen(
        command,
        env={**os.environ, **own, **environment},
        stdin=subprocess.PIPE,
        stdout=said,
        stderr=said,
        start_new_session=True,  # a Ctrl-C in the terminal is for the sweep alone
    )


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.communicate()
