"""The workers of a sweep: where they run, how many there are, and what each has."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gflow.errors import InputError

_SLURM_JOBS = 4  # by default


@dataclass(frozen=True)
class WorkerConfig:
    """The workers of a sweep.

    Attributes
    ----------
    workers : int, optional
        The number of workers; by default one per core, one per GPU, or 4 SLURM jobs.
    threads : int
        Threads of torch in each worker.
    gpus : bool
        Whether every run takes a GPU.
    scheduler : str, optional
        The address of an existing dask scheduler.
    slurm : mapping, optional
        ``queue``, ``account``, ``walltime`` and ``memory`` of a worker's job, ``directives`` (more
        ``#SBATCH`` lines), and ``interface`` (the network interface on which workers reach this
        process).
    no_worker_timeout : float, optional
        Seconds without any worker after which runs fail; by default 5 minutes, with SLURM 7 days.
    """

    workers: int | None = None
    threads: int = 1
    gpus: bool = False
    scheduler: str | None = None
    slurm: Mapping[str, Any] | None = None
    no_worker_timeout: float | None = None

    @property
    def count(self) -> int | None:
        """The number of workers; None with an existing scheduler, which has its own."""
        if self.scheduler is not None:
            return None
        if self.slurm is not None:
            return self.workers or _SLURM_JOBS
        if self.workers:
            return self.workers
        return len(visible_gpus()) if self.gpus else max(1, core_count() // self.threads)

    @property
    def resources(self) -> dict[str, float]:
        """The dask resources that each run takes."""
        return {"GPU": 1} if self.gpus else {}


def core_count() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the CUDA identifiers of the GPUs that this process may use.

    Raises
    ------
    InputError
        If there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise InputError("this machine has no GPU; use --set device=cpu, or --slurm")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
