"""Workers as jobs of SLURM, by dask-jobqueue: what a job is, and the certificates of TLS.

Jobs run on other machines, so all connections use TLS.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow.errors import InputError
from gflow.sweeping import worker_preload as preload
from gflow.sweeping.local_workers import LOOPBACK, environment

if TYPE_CHECKING:
    from distributed import Security

    from gflow.sweeping.workers import WorkerConfig

_ROLES = ("client", "scheduler", "worker")


def _job(where: WorkerConfig, folder: Path) -> dict[str, Any]:
    """Options of a worker's job: one worker, one run at a time, a GPU where runs take one."""
    slurm, folder = where.slurm or {}, folder.absolute()
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
    exports = [f"export {k}={v}" for k, v in environment(where.threads).items()]
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


def jobs(where: WorkerConfig, folder: Path) -> Any:
    """A cluster of dask-jobqueue, without any job yet.

    Raises
    ------
    InputError
        If there is no SLURM, or no certificate can be made.
    """
    from dask_jobqueue import SLURMCluster

    if shutil.which("sbatch") is None:
        raise InputError("there is no SLURM here (no sbatch); leave out --slurm, or --dry-run")
    options = {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
    (folder / "slurm").mkdir(exist_ok=True)
    security = certificates(folder)
    return SLURMCluster(**_job(where, folder), security=security, scheduler_options=options)


def job_script(where: WorkerConfig, folder: Path) -> str:
    """The script that each worker's job would be submitted with; nothing is submitted."""
    from dask_jobqueue.slurm import SLURMJob

    options = {**_job(where, folder), "security": _security(folder)}
    job = SLURMJob(scheduler="tls://THIS-HOST:PORT", name="NAME", **options)
    script: str = job.job_script()
    return script


def configured(security: Security, role: str) -> bool:
    """Whether certificates are there for a role: client, scheduler or worker."""
    found = security.get_tls_config_for_role(role)
    return all(found.get(part) for part in ("ca_file", "cert", "key"))


def _security(folder: Path) -> Security:
    """dask's own TLS certificates where it has any, or those of this sweep."""
    from distributed import Security

    security = Security()
    if all(configured(security, role) for role in _ROLES):
        return security
    roles = {
        f"tls_{role}_{part}": str(folder.absolute() / "tls" / f"{part}.pem")
        for role in _ROLES
        for part in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=roles["tls_client_cert"], **roles)


def certificates(folder: Path) -> Security:
    """`_security`, its files made where there are none, readable by their owner alone."""
    security = _security(folder)
    place = folder.absolute() / "tls"
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
