"""torchdiffeq's methods by their names, extended to land on times and to report failures.

Beyond torchdiffeq: requested times are ends of steps, not interpolated (``step_t``); a step
below resolution raises instead of being accepted or, under ``python -O``, looping; errors are
measured in the Euclidean norm.
Runge–Kutta methods: Dormand & Prince 1980 (dopri5), Prince & Dormand 1981 (dopri8),
Bogacki & Shampine 1989 (bosh3).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gflow.solvers.base import Solver
from gflow.solvers.problem import Problem, Stop

_ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
_ADAMS = ("explicit_adams", "implicit_adams")
_FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", *_ADAMS)
# torchdiffeq's default, 12, is unstable from λ·step ≈ 0.002 on, after a start of order 4.
_ADAMS_ORDER = 4


class _Restart(Exception):
    """torchdiffeq would pass the next requested time without landing on it."""


class _RightHandSide:
    """The right-hand side with the callback that torchdiffeq calls."""

    def __init__(self, problem: Problem):
        self._problem = problem
        self.z = problem.z0

    def __call__(self, t: Tensor, z: Tensor) -> Tensor:
        return self._problem.rhs(t, z)

    def callback_step(self, t0: Tensor, z0: Tensor, dt: Tensor) -> None:
        """Accept the state (t0, z0) before the next step is tried."""
        t = float(t0)
        if t > self._problem.t:
            self.accept(t, z0)
        if not t + float(dt) > t:
            raise Stop(self._problem.why_stuck())

    def accept(self, t: float, z: Tensor) -> None:
        self._problem.accept(t, z)
        self.z = z


class _AdaptiveRightHandSide(_RightHandSide):
    """The same for adaptive methods, which can reject steps."""

    _natural_end = math.nan  # where the last attempted step ends if it is not cut short

    def callback_step(self, t0: Tensor, z0: Tensor, dt: Tensor) -> None:
        super().callback_step(t0, z0, dt)
        problem, expected = self._problem, self._natural_end
        self._natural_end = problem.t + float(dt)
        if problem.t == expected == problem.ts[len(problem.saved) - 1]:
            # A step that ends on a requested time without being cut does not advance
            # torchdiffeq's index: from then on it would interpolate.
            self._natural_end = math.nan  # so that the restart does not happen twice
            raise _Restart

    def callback_reject_step(self, t0: Tensor, z0: Tensor, dt: Tensor) -> None:
        self._problem.reject()


class TorchdiffeqSolver(Solver):
    """Explicit Runge–Kutta and Adams methods of torchdiffeq."""

    names = _ADAPTIVE + _FIXED
    fixed_step = _FIXED

    def solve(self, problem: Problem, method: str) -> None:
        from torchdiffeq import odeint

        adaptive = method in _ADAPTIVE
        rhs = _AdaptiveRightHandSide(problem) if adaptive else _RightHandSide(problem)
        while problem.t < problem.ts[-1]:
            remaining = [t for t in problem.ts if t > problem.t]
            if not adaptive:  # a new start at every requested time: Adams needs equal steps
                remaining = remaining[:1]
            times = torch.tensor([problem.t, *remaining], dtype=torch.float64, device=rhs.z.device)
            options: dict[str, Any]
            if adaptive:
                options = {"norm": problem.error_norm, "step_t": times[1:]}
                if problem.max_step < math.inf:
                    options["max_step"] = problem.max_step
            else:
                step = min(problem.step_size or math.inf, problem.max_step)
                grid = _grid(problem.t, remaining[0], step, problem.max_evals)
                options = {"grid_constructor": lambda f, y, t, grid=grid: grid.to(t)}
            if method in _ADAMS:
                options["max_order"] = _ADAMS_ORDER
            ends = times[[0, -1]]
            try:
                # rtol 0 and atol 1 pass the raw error estimate to error_norm, and keep
                # implicit_adams at one correction a step, which has its full order.
                z = odeint(rhs, rhs.z, ends, rtol=0.0, atol=1.0, method=method, options=options)
            except _Restart:
                continue
            rhs.accept(remaining[-1], z[-1])


def _grid(a: float, b: float, step: float, max_evals: int) -> Tensor:
    """Return the times from a to b in equal steps no longer than step, as far as evaluations go."""
    count = max(1, math.ceil((b - a) / step * (1 - 1e-12)))
    grid = [a, *(a + (b - a) * i / count for i in range(1, min(count, max_evals + 2))), b]
    return torch.tensor(grid, dtype=torch.float64)
