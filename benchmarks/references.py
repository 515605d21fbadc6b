"""The true state of a problem at its last time, and the error of an answer.

Kernel flow is solved by SciPy's eigendecomposition (another routine than gflow's), the others by
SciPy's DOP853 at rtol 1e-11, restarted at every requested time. They are computed once and stored
in ``outputs/benchmark-references/`` under a digest of the problem. The tanh network to T = 3,000
takes minutes.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from problems import Problem
from scipy.integrate import solve_ivp
from torch import Tensor

CACHE = Path(__file__).parent.parent / "outputs" / "benchmark-references"
_RTOL = 1e-11
_KNOWN: dict[str, Tensor] = {}


def reference(problem: Problem) -> Tensor:
    """Return the true state at the last time."""
    if problem.name not in _KNOWN:
        _KNOWN[problem.name] = _reference(problem)
    return _KNOWN[problem.name]


def error(problem: Problem, y: Tensor) -> float:
    """Return the error of a state at the last time; infinite where it is not finite."""
    truth = reference(problem)
    gap = float((y.reshape(-1) - truth.reshape(-1)).norm())
    size = truth.numel() ** 0.5 if problem.rms else float(truth.norm())
    return gap / size if np.isfinite(gap) else float("inf")


def _reference(problem: Problem) -> Tensor:
    if problem.kind == "kernel":
        return _kernel(problem)
    flow = problem.make()
    digest = hashlib.sha256(problem.y0.numpy().tobytes() + str(problem.ts).encode())
    digest.update(flow(0.0, problem.y0).numpy().round(12).tobytes())
    path = CACHE / f"{problem.name}-{digest.hexdigest()[:12]}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return torch.from_numpy(stored["y"]).reshape(problem.y0.shape)
    began = time.perf_counter()
    y = problem.y0.reshape(-1).numpy()

    def rhs(t: float, v: np.ndarray) -> np.ndarray:
        rate = flow(t, torch.from_numpy(v).reshape(problem.y0.shape))
        out: np.ndarray = rate.reshape(-1).numpy()
        return out

    atol = _RTOL * 1e-3 * float(problem.y0.abs().mean())
    for a, b in itertools.pairwise(problem.ts):
        solution = solve_ivp(rhs, (a, b), y, method="DOP853", rtol=_RTOL, atol=atol, t_eval=[b])
        if not solution.success:
            raise RuntimeError(f"no reference for {problem.name}: {solution.message}")
        y = solution.y[:, -1]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, y=y)
    print(f"reference of {problem.name}: {time.perf_counter() - began:.0f} s, stored in {path}")
    return torch.from_numpy(y).reshape(problem.y0.shape)


def _kernel(problem: Problem) -> Tensor:
    H, targets, u0 = (v.numpy() for v in (*problem.data.values(), problem.y0))
    lam, V = scipy.linalg.eigh(H, driver="evr")
    return torch.from_numpy(targets + V @ (np.exp(-problem.ts[-1] * lam) * (V.T @ (u0 - targets))))
