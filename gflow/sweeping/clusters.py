"""Where the runs of a sweep are done: workers here, a scheduler that exists, or SLURM.

Dask unpickles what it is sent, so whoever reaches a scheduler runs code as its owner: it
listens on the loopback interface, or asks for TLS certificates.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gflow.errors import InputError
from gflow.sweeping import preload
from gflow.sweeping.local import LOOPBACK, local_workers

if TYPE_CHECKING:
    from distributed import Client, Security

_ROLES = ("client", "scheduler", "worker")
_ANSWER = "15s"
_PATIENCE, _QUEUE = 300.0, 7 * 86400.0  # seconds without any worker: here, and in a queue


@dataclass(frozen=True)
class Where:
    """The workers of a sweep.

    Attributes
    ----------
    workers : int, optional
        How many; by default one for each core, or GPU, or 4 SLURM jobs.
    threads : int
        Threads of torch in each.
    gpus : bool
        Whether every run takes a GPU.
    scheduler : str, optional
        The address of a scheduler that exists.
    slurm : mapping, optional
        ``queue``, ``account``, ``walltime``, ``memory`` of a worker's job, ``directives`` (more
        lines for ``#SBATCH``), ``interface`` (of the network, on which workers find this process).
    patience : float, optional
        Seconds without any worker after which runs fail; longer than the queue's wait.
    """

    workers: int | None = None
    threads: int = 1
    gpus: bool = False
    scheduler: str | None = None
    slurm: Mapping[str, Any] | None = None
    patience: float | None = None

    @property
    def resources(self) -> dict[str, float]:
        """What every run takes of its worker."""
        return {"GPU": 1} if self.gpus else {}


@contextlib.contextmanager
def connected(where: Where, folder: Path) -> Iterator[tuple[Client, Callable[[], None]]]:
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
            cluster, jobs = stack.enter_context(_slurm(where, folder)), where.workers or 4
            client, renew = distributed.Client(cluster), functools.partial(cluster.scale, jobs=jobs)
            renew()
        else:
            workers = local_workers(_environments(where), where.resources, folder / "workers.log")
            address, renew = stack.enter_context(workers)
            client = distributed.Client(address)
        yield stack.enter_context(client), renew


def _nothing() -> None:
    """The workers of a scheduler that exists are for others to replace."""


def _environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), "MPLBACKEND": "Agg"}


# -- workers here ------------------------------------------------------------------------


def _environments(where: Where) -> list[dict[str, str]]:
    """One for each worker here; on GPUs each worker sees one."""
    if where.gpus:
        gpus = _gpus()
        count = where.workers or len(gpus)
        if count > len(gpus):
            raise InputError(f"there are {len(gpus)} GPUs here, got --workers {count}")
        chosen = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:count]]
    else:
        chosen = [{}] * (where.workers or max(1, _core_count() // where.threads))
    return [{**_environment(where.threads), **env} for env in chosen]


def _core_count() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _gpus() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        raise InputError("there is no GPU here; say --set device=cpu, or use --slurm")
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]


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
        if not _configured(security, "client"):
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


# -- SLURM -------------------------------------------------------------------------------


def _job(where: Where, folder: Path) -> dict[str, Any]:
    """Options of a worker's job: one worker, one run at a time, a GPU where runs take one."""
    slurm = where.slurm or {}
    directives = [f"-o {folder}/slurm/%j.out", *slurm.get("directives", ())]
    extra = [
        "--no-dashboard",
        "--dashboard-address",
        f"{LOOPBACK}:0",
        "--preload",
        preload.__name__,
    ]
    if where.gpus:
        directives.append("--gres=gpu:1")
        extra += ["--resources", "GPU=1"]
    exports = [f"export {k}={v}" for k, v in _environment(where.threads).items()]
    return {
        "cores": 1,
        "processes": 1,
        "job_cpu": where.threads,
        "memory": slurm.get("memory") or "4GB",
        "queue": slurm.get("queue"),
        "account": slurm.get("account"),
        "walltime": slurm.get("walltime"),
        "job_extra_directives": directives,
        "job_script_prologue": exports,
        "worker_extra_args": extra,
        "interface": slurm.get("interface"),
        "local_directory": "/tmp",
        "job_name": "gflow-sweep",
        "death_timeout": "60",
        "protocol": "tls://",
    }


def _slurm(where: Where, folder: Path) -> Any:
    from dask_jobqueue import SLURMCluster

    if shutil.which("sbatch") is None:
        raise InputError("there is no SLURM here (no sbatch); leave out --slurm, or --dry-run")
    options = {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
    (folder / "slurm").mkdir(exist_ok=True)
    security = _certificates(folder)
    return SLURMCluster(**_job(where, folder), security=security, scheduler_options=options)


def job_script(where: Where, folder: Path) -> str:
    """The script that each worker's job would be submitted with; nothing is submitted."""
    from dask_jobqueue.slurm import SLURMJob

    options = {**_job(where, folder), "security": _security(folder)}
    job = SLURMJob(scheduler="tls://THIS-HOST:PORT", name="NAME", **options)
    script: str = job.job_script()
    return script


def _configured(security: Security, role: str) -> bool:
    found = security.get_tls_config_for_role(role)
    return all(found.get(part) for part in ("ca_file", "cert", "key"))


def _security(folder: Path) -> Security:
    """dask's own TLS certificates where it has any, or those of this sweep."""
    from distributed import Security

    security = Security()
    if all(_configured(security, role) for role in _ROLES):
        return security
    roles = {
        f"tls_{role}_{part}": str(folder / "tls" / f"{part}.pem")
        for role in _ROLES
        for part in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=roles["tls_client_cert"], **roles)


def _certificates(folder: Path) -> Security:
    """`_security`, its files made where there are none, readable by their owner alone."""
    security = _security(folder)
    place = folder / "tls"
    mine = security.get_tls_config_for_role("worker")["cert"] == str(place / "cert.pem")
    if not mine or (place / "cert.pem").exists():
        return security
    place.mkdir(mode=0o700, exist_ok=True)
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=gflow-sweep"
    command = [*words.split(), "-keyout", str(place / "key.pem"), "-out", str(place / "cert.pem")]
    try:
        subprocess.run(command, check=True, capture_output=True, umask=0o077, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(
            f"cannot make TLS certificates with openssl ({type(error).__name__}); set "
            "distributed.comm.tls in dask's configuration"
        ) from None
    return security
