"""Connect to the workers of a sweep: on this machine, of an existing scheduler, or SLURM jobs.

Dask unpickles the messages that it receives, so whoever reaches a scheduler can run code as its
owner. A scheduler therefore listens on the loopback interface, or requires TLS certificates.
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
from gflow.sweeping.local_workers import local_workers, thread_environment
from gflow.sweeping.workers import WorkerConfig, visible_gpus

if TYPE_CHECKING:
    from distributed import Client, Security

_ALLOWED_DEATHS = 3  # of workers by one run; at the next the run is given up
_CONNECT_TIMEOUT = "15s"
_NO_WORKER_TIMEOUT, _NO_JOB_TIMEOUT = 300.0, 7 * 86400.0  # seconds; jobs wait in a queue


@contextlib.contextmanager
def connect(workers: WorkerConfig, folder: Path) -> Iterator[tuple[Client, Callable[[], None]]]:
    """Connect to the workers of a sweep, which are started and stopped here unless they exist.

    Parameters
    ----------
    workers : WorkerConfig
    folder : Path
        The sweep's folder, for logs and certificates.

    Yields
    ------
    client : distributed.Client
    replace_workers : callable
        Replaces the workers that have ended; to be called regularly.

    Raises
    ------
    InputError
        If dask is not installed, the scheduler is not trusted or does not answer, or there are
        no GPUs or no SLURM.

    Examples
    --------
    >>> with connect(WorkerConfig(scheduler="10.0.0.7"), Path()):
    ...     pass
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: --scheduler must be tcp://HOST:PORT or tls://HOST:PORT, got 10.0.0.7
    """
    try:
        import dask
        import distributed
    except ImportError:
        raise InputError("sweeps need dask; run pip install 'gflow-ode[sweep]'") from None
    timeout = workers.no_worker_timeout or (
        _NO_WORKER_TIMEOUT if workers.slurm is None else _NO_JOB_TIMEOUT
    )
    settings = {
        "distributed.scheduler.allowed-failures": _ALLOWED_DEATHS,
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.no-workers-timeout": f"{timeout}s",
        # Results are a few numbers: moving, balancing or spilling them would only cost time.
        "distributed.scheduler.work-stealing": False,
        "distributed.scheduler.active-memory-manager.start": False,
        "distributed.admin.tick.limit": "1h",  # no warning while numerics hold the interpreter
    }
    for name in ("distributed", "distributed.nanny", "distributed.scheduler", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    replace_workers: Callable[[], Any] = _leave_to_owner
    with dask.config.set(settings), contextlib.ExitStack() as stack:
        if workers.scheduler is not None:
            address, security = workers.scheduler, _security(workers.scheduler)
            try:
                client = distributed.Client(address, security=security, timeout=_CONNECT_TIMEOUT)
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise InputError(
                    f"no scheduler answers at {address}: {reason}; check the address"
                ) from None
        elif workers.slurm is not None:
            cluster = stack.enter_context(slurm.slurm_cluster(workers, folder))
            client = distributed.Client(cluster)
            replace_workers = functools.partial(cluster.scale, jobs=workers.count)
            replace_workers()
        else:
            environments = _worker_environments(workers)
            address, replace_workers = stack.enter_context(
                local_workers(environments, workers.resources, folder / "workers.log")
            )
            client = distributed.Client(address)
        yield stack.enter_context(client), replace_workers


def _leave_to_owner() -> None:
    """The owner of an existing scheduler replaces its workers."""


def _worker_environments(workers: WorkerConfig) -> list[dict[str, str]]:
    """Return the environment variables of each worker here; on GPUs each worker sees one."""
    if workers.gpus:
        gpus = visible_gpus()
        count = workers.workers or len(gpus)
        if count > len(gpus):
            raise InputError(
                f"this machine has {len(gpus)} GPUs, got --workers {count}; use fewer workers"
            )
        devices = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:count]]
    else:
        devices = [{}] * (workers.count or 1)
    return [{**thread_environment(workers.threads), **device} for device in devices]


def _security(address: str) -> Security | None:
    """Return the certificates for a scheduler; None on the loopback interface without TLS."""
    from distributed import Security

    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
    except ValueError:
        valid = False
    if not valid:
        raise InputError(f"--scheduler must be tcp://HOST:PORT or tls://HOST:PORT, got {address}")
    if parts.scheme == "tls":
        security = Security()
        if not slurm.has_certificates(security, "client"):
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
        "dask runs the code that it receives, so a scheduler elsewhere must use TLS, "
        f"tls://HOST:PORT; got {address}"
    )
