"""A flow as a function that counts its calls, for the adapters of the peers."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
import torch
from measuring import NotRun, Progress
from problems import Problem
from torch import Tensor


class Counted:
    """A flow as a function of (t, y) that counts its calls."""

    def __init__(self, problem: Problem, progress: Progress):
        self._flow = problem.make()
        self._progress = progress

    def __call__(self, t: Any, y: Tensor) -> Tensor:
        self._progress.rhs += 1
        self._progress.t, self._progress.y = float(t), y
        return self._flow(t, y)


class CountedNumpy(Counted):
    """A flow as a function of flat float64 arrays that counts its calls."""

    def __init__(self, problem: Problem, progress: Progress):
        super().__init__(problem, progress)
        self._shape = problem.y0.shape

    def array(self, t: float, y: np.ndarray) -> np.ndarray:
        # A copy: some libraries reuse the memory behind y.
        rate = self(t, torch.from_numpy(np.array(y)).view(self._shape))
        out: np.ndarray = rate.reshape(-1).numpy()
        return out


def require(module: str, package: str = "gflow-ode[bench]") -> Any:
    """Import an optional peer, or raise `NotRun` with the package that installs it."""
    if importlib.util.find_spec(module.split(".")[0]) is None:
        raise NotRun(f"{module.split('.')[0]} is not installed (pip install '{package}')")
    return importlib.import_module(module)
