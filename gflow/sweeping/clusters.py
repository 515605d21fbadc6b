"""Where the runs of a sweep are done: workers here, a scheduler that exists, or SLURM.

Dask unpickles what it is sent, so whoever reaches a scheduler runs code as its owner: it
listens on the loopback interface, or asks for TLS certificates.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gflow.errors import InputError
from gflow.sweeping import slurm
from gflow.sweeping.local_workers import environment, local_workers
from gflow.sweeping.workers import WorkerConfig, _gpus

if TYPE_CHECKING:
    from distributed import Client, Security

_ANSWER = "15s"
_PATIENCE, _QUEUE = 300.0, 7 * 86400.0  # seconds without any worker: here, and in a queue


@contextlib.contextmanager
def connected(where: WorkerConfig, folder: Path) -> Iterator[tuple[Client, Callable[[], None]]]:
    """A client of the workers, which are started and ended here unless they exist already.

    Yields it with a function to be called now and then, which replaces jobs that ended.

    Raises
    ------
    InputError
        If the engine is not installed, the scheduler is not to be trusted or does not answer,
        or there are no GPUs or no SLURM.
    """
    try:
        import dask
        import distributed
    except ImportError:
        raise InputError("sweeps need the engine: pip install 'gflow-ode[sweep]'") from None
    patience = where.patience or (_PATIENCE if where.slurm is None else _QUEUE)
    settings = {
        # A run that kills its worker is given up at the fourth; its neighbours are not.
        "distributed.scheduler.allowed-failures": 3,
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.no-workers-timeout": f"{patience}s",
        # Runs end with numbers: what is on a worker is never moved, balanced or spilt.
        "distributed.scheduler.work-stealing": False,
        "distributed.scheduler.active-memory-manager.start": False,
        "distributed.admin.tick.limit": "1h",  # numerics hold the interpreter; no word of it
    }
    for name in ("distributed", "distributed.nanny", "distributed.scheduler", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    renew: Callable[[], Any] = _nothing
    with dask.config.set(settings), contextlib.ExitStack() as stack:
        if where.scheduler is not None:
            address, security = where.scheduler, _trusted(where.scheduler)
            try:
                client = distributed.Client(address, security=security, timeout=_ANSWER)
            except (OSError, ValueError) as error:
                why = " ".join(str(error).split()) or type(error).__name__
                raise InputError(f"no scheduler answers at {address}: {why}") from None
        elif where.slurm is not None:
            cluster = stack.enter_context(slurm.jobs(where, folder))
            client, renew = (
                distributed.Client(cluster),
                functools.partial(cluster.scale, jobs=where.count),
            )
            renew()
        else:
            workers = local_workers(_environments(where), where.resources, folder / "workers.log")
            address, renew = stack.enter_context(workers)
            client = distributed.Client(address)
        yield stack.enter_context(client), renew


def _nothing() -> None:
    """The workers of a scheduler that exists are for others to replace."""


# -- workers here ------------------------------------------------------------------------


def _environments(where: WorkerConfig) -> list[dict[str, str]]:
    """One for each worker here; on GPUs each worker sees one."""
    if where.gpus:
        gpus = _gpus()
        count = where.workers or len(gpus)
        if count > len(gpus):
            raise InputError(f"there are {len(gpus)} GPUs here, got --workers {count}")
        chosen = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:count]]
    else:
        chosen = [{}] * (where.count or 1)
    return [{**environment(where.threads), **env} for env in chosen]


# -- a scheduler that exists -------------------------------------------------------------


def _trusted(address: str) -> Security | None:
    """The certificates for an address; None on the loopback interface without TLS."""
    from distributed import Security

    try:
        parts = urlsplit(address)
        known = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
    except ValueError:
        known = False
    if not known:
        raise InputError(f"--scheduler must read tcp://HOST:PORT or tls://HOST:PORT, got {address}")
    if parts.scheme == "tls":
        security = Security()
        if not slurm.configured(security, "client"):
            raise InputError(
                f"{address} needs certificates: set distributed.comm.tls.ca-file and "
                "distributed.comm.tls.client.cert and .key in dask's configuration"
            )
        return security
    host = str(parts.hostname)
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return None
    if host == "localhost":
        return None
    raise InputError(
        "dask runs what it is sent, so a scheduler elsewhere must use TLS, tls://HOST:PORT, "
        f"got {address}"
    )
