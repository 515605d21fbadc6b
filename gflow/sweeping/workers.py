"""Where the workers of a sweep run, and what one has."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gflow.errors import InputError


@dataclass(frozen=True)
class WorkerConfig:
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
    def count(self) -> int | None:
        """How many workers there will be; None where they are others'."""
        if self.scheduler is not None:
            return None
        if self.slurm is not None:
            return self.workers or 4
        return self.workers or (
            len(_gpus()) if self.gpus else max(1, _core_count() // self.threads)
        )

    @property
    def resources(self) -> dict[str, float]:
        """What every run takes of its worker."""
        return {"GPU": 1} if self.gpus else {}


def _core_count() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _gpus() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        raise InputError("there is no GPU here; say --set device=cpu, or use --slurm")
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
