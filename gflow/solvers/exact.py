"""``exact``: the flow's closed form, where it has one.

The energy integral is a quadrature of the dissipation along the closed form: 10-point
Gauss–Legendre on panels that triple in length away from the start, where the fast
modes decay, and are cut in two where that is too coarse for the tolerance. It costs some
hundred evaluations of the closed form, whatever the number of requested times.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from gflow.solvers.base import Problem, Solver

_TRIPLINGS = 26
_SPLITS = 400  # panels cut in two where the quadrature and the loss differ
_PART = 1e-3  # of rtol: what they may differ by in one panel, relative to the first loss
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)


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
        start = flow.loss(y0)
        scale = start.clamp_min(torch.finfo(start.dtype).tiny)
        edges = np.concatenate([[0.0], T * 3.0 ** np.arange(-_TRIPLINGS, 1.0)])
        # Panels shorter than a thousandth of the fastest time scale seen add nothing:
        # start where the first panel holds less than 1e-3 of the initial loss.
        speed = float(flow.dissipation(y0, flow(0.0, y0)) / scale)
        first = 0
        while first < _TRIPLINGS and speed * edges[first + 1] < 1e-3:
            first += 1
        edges[first] = 0.0
        panels = list(itertools.pairwise(edges[first:].tolist()))
        total, splits = torch.zeros_like(start), _SPLITS
        while panels:
            a, b = panels.pop()
            part, drop = self._panel(problem, a, b)
            # A mode that leaves a small start late turns within a part of its panel.
            if splits and float((part - drop).abs() / scale) > _PART * problem.rtol:
                splits -= 1
                panels += [(a, 0.5 * (a + b)), (0.5 * (a + b), b)]
            else:
                total = total + part
        return total

    def _panel(self, problem: Problem, a: float, b: float) -> tuple[Tensor, Tensor]:
        """Energy dissipated from a to b by quadrature, and the loss lost there."""
        flow, y0 = problem.flow, problem.y0
        nodes = np.concatenate([[a], 0.5 * (a + b) + 0.5 * (b - a) * _NODES, [b]])
        ys = flow.exact(torch.as_tensor(nodes, dtype=torch.float64, device=y0.device), y0)
        inner, ends = ys[1:-1], flow.loss(ys[[0, -1]])
        rate = flow.dissipation(inner, flow(0.0, inner))
        problem.rhs_evals += len(_NODES)
        weights = torch.as_tensor(0.5 * (b - a) * _WEIGHTS, dtype=rate.dtype, device=rate.device)
        return weights @ rate, ends[0] - ends[1]
