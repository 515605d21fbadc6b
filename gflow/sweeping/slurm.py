"""Workers as SLURM jobs, by dask-jobqueue, and their TLS certificates.

Jobs run on other machines, so all connections use TLS.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow.errors import InputError
from gflow.sweeping import worker_preload
from gflow.sweeping.local_workers import LOOPBACK, thread_environment

if TYPE_CHECKING:
    from distributed import Security

    from gflow.sweeping.workers import WorkerConfig

_ROLES = ("client", "scheduler", "worker")


def _job_options(workers: WorkerConfig, folder: Path) -> dict[str, Any]:
    """Return the options of a job: one worker, one run at a time, a GPU where runs take one."""
    slurm, folder = workers.slurm or {}, folder.absolute()
    directives = [f"-o {folder}/slurm/%j.out", *slurm.get("directives", ())]
    arguments = [
        "--no-dashboard",
        "--dashboard-address",
        f"{LOOPBACK}:0",
        "--preload",
        worker_preload.__name__,
    ]
    if workers.gpus:
        directives.append("--gres=gpu:1")
        arguments += ["--resources", "GPU=1"]
    exports = [f"export {k}={v}" for k, v in thread_environment(workers.threads).items()]
    return {
        "cores": 1,
        "processes": 1,
        "job_cpu": workers.threads,
        "memory": slurm.get("memory") or "4GB",
        "queue": slurm.get("queue"),
        "account": slurm.get("account"),
        "walltime": slurm.get("walltime"),
        "job_extra_directives": directives,
        "job_script_prologue": exports,
        "worker_extra_args": arguments,
        "interface": slurm.get("interface"),
        "local_directory": "/tmp",
        "job_name": "gflow-sweep",
        "death_timeout": "60",
        "protocol": "tls://",
    }


def slurm_cluster(workers: WorkerConfig, folder: Path) -> Any:
    """Create a cluster of dask-jobqueue that has no jobs yet.

    Parameters
    ----------
    workers : WorkerConfig
    folder : Path
        The sweep's folder, for the jobs' output and the certificates.

    Returns
    -------
    dask_jobqueue.SLURMCluster

    Raises
    ------
    InputError
        If there is no SLURM, or no certificate can be created.

    Examples
    --------
    >>> from gflow.sweeping.workers import WorkerConfig
    >>> cluster = slurm_cluster(WorkerConfig(slurm={}), Path("sweep"))  # doctest: +SKIP
    """
    from dask_jobqueue import SLURMCluster

    if shutil.which("sbatch") is None:
        raise InputError("this machine has no SLURM (no sbatch); omit --slurm, or use --dry-run")
    options = {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
    (folder / "slurm").mkdir(exist_ok=True)
    security = create_certificates(folder)
    job_options = _job_options(workers, folder)
    return SLURMCluster(**job_options, security=security, scheduler_options=options)


def job_script(workers: WorkerConfig, folder: Path) -> str:
    """Return the script with which each worker's job would be submitted; nothing is submitted.

    Parameters
    ----------
    workers : WorkerConfig
    folder : Path
        The sweep's folder.

    Returns
    -------
    str

    Examples
    --------
    >>> from gflow.sweeping.workers import WorkerConfig
    >>> script = job_script(WorkerConfig(slurm={"queue": "gpu"}, threads=4), Path("sweep"))
    >>> [line for line in script.splitlines() if line.startswith(("#SBATCH -p", "#SBATCH --cpus"))]
    ['#SBATCH -p gpu', '#SBATCH --cpus-per-task=4']
    """
    from dask_jobqueue.slurm import SLURMJob

    options = {**_job_options(workers, folder), "security": _security(folder)}
    job = SLURMJob(scheduler="tls://THIS-HOST:PORT", name="NAME", **options)
    script: str = job.job_script()
    return script


def has_certificates(security: Security, role: str) -> bool:
    """Return whether the certificates of a role are configured.

    Parameters
    ----------
    security : distributed.Security
    role : str
        ``client``, ``scheduler`` or ``worker``.

    Returns
    -------
    bool

    Examples
    --------
    >>> from distributed import Security
    >>> has_certificates(Security(tls_ca_file="ca.pem"), "client")
    False
    """
    config = security.get_tls_config_for_role(role)
    return all(config.get(part) for part in ("ca_file", "cert", "key"))


def _security(folder: Path) -> Security:
    """Return the certificates of dask's configuration, or else those of this sweep."""
    from distributed import Security

    security = Security()
    if all(has_certificates(security, role) for role in _ROLES):
        return security
    files = {
        f"tls_{role}_{part}": str(folder.absolute() / "tls" / f"{part}.pem")
        for role in _ROLES
        for part in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=files["tls_client_cert"], **files)


def create_certificates(folder: Path) -> Security:
    """Return the certificates for a sweep; create them where there are none.

    The files are readable by their owner only.

    Raises
    ------
    InputError
        If openssl cannot create them.
    """
    security = _security(folder)
    tls = folder.absolute() / "tls"
    of_sweep = security.get_tls_config_for_role("worker")["cert"] == str(tls / "cert.pem")
    if not of_sweep or (tls / "cert.pem").exists():
        return security
    tls.mkdir(mode=0o700, exist_ok=True)
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=gflow-sweep"
    command = [*words.split(), "-keyout", str(tls / "key.pem"), "-out", str(tls / "cert.pem")]
    try:
        subprocess.run(command, check=True, capture_output=True, umask=0o077, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(
            f"openssl cannot create TLS certificates ({type(error).__name__}); set "
            "distributed.comm.tls in dask's configuration"
        ) from None
    return security
