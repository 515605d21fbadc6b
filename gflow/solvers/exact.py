"""``exact``: the flow's closed form, where it has one.

The energy integral is a quadrature of the dissipation along the closed form: 16-point
Gauss–Legendre on panels that double in length away from the start, where the fast
modes decay.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gflow.solvers.base import Problem, Solver

_DOUBLINGS = 40
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


class ExactSolver(Solver):
    """No steps: every time is computed from the start."""

    names = ("exact",)

    def solve(self, problem: Problem, method: str) -> None:
        ts = torch.tensor(problem.ts, dtype=torch.float64, device=problem.y0.device)
        elapsed = ts - ts[0]
        ys = problem.flow.exact(elapsed, problem.y0)
        for t, y in zip(problem.ts[1:], ys[1:], strict=True):
            problem.accept_state(t, y, None)
        problem.dissipated = self._dissipated(problem, float(elapsed[-1]))

    def _dissipated(self, problem: Problem, T: float) -> Tensor:
        flow, y0 = problem.flow, problem.y0
        edges = np.concatenate([[0.0], T * 2.0 ** np.arange(-_DOUBLINGS, 1.0)])
        middle, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * (edges[1:] - edges[:-1])
        total = torch.zeros_like(flow.loss(y0))
        # Panels shorter than a thousandth of the fastest time scale seen add nothing:
        # start where the first panel holds less than 1e-3 of the initial loss.
        speed = float(flow.dissipation(y0, flow(0.0, y0)) / flow.loss(y0).clamp_min(1e-300))
        first = 0
        while first < _DOUBLINGS and speed * edges[first + 1] < 1e-3:
            first += 1
        half[first], middle[first] = 0.5 * edges[first + 1], 0.5 * edges[first + 1]
        for m, h in zip(middle[first:], half[first:], strict=True):
            nodes = torch.as_tensor(m + h * _NODES, dtype=torch.float64, device=y0.device)
            ys = flow.exact(nodes, y0)
            rate = flow.dissipation(ys, flow(0.0, ys))
            weights = torch.as_tensor(h * _WEIGHTS, dtype=rate.dtype, device=rate.device)
            total = total + (weights @ rate)
            problem.rhs_evals += len(nodes)
        return total
