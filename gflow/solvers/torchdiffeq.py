"""torchdiffeq's methods by their own names, made to land on times and to fail aloud.

What torchdiffeq leaves open is closed here: requested times are steps, not
interpolations (``step_t``); a step below resolution raises instead of being accepted
or, under ``python -O``, looping; errors are measured in the Euclidean norm.
Runge–Kutta methods: Dormand & Prince 1980 (dopri5), Prince & Dormand 1981 (dopri8),
Bogacki & Shampine 1989 (bosh3).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from gflow.solvers.base import Problem, Solver, Stop

_ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
_FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams")


class _Restart(Exception):
    """torchdiffeq passed a requested time without landing on it."""


class _Watched:
    """The right-hand side with the callbacks torchdiffeq looks for."""

    def __init__(self, problem: Problem):
        self._problem = problem
        self.z = problem.z0

    def __call__(self, t: Tensor, z: Tensor) -> Tensor:
        return self._problem.rhs(t, z)

    def callback_step(self, t0: Tensor, z0: Tensor, dt: Tensor) -> None:
        """Before every attempted step: (t0, z0) is the state accepted last."""
        t = float(t0)
        if t > self._problem.next_time:
            # A step that ended on a requested time by itself leaves torchdiffeq's index
            # behind, and it interpolates from then on.
            raise _Restart
        if t > self._problem.t:
            self.accept(t, z0)
        if not t + float(dt) > t:
            raise Stop(self._problem.why_stuck())

    def callback_reject_step(self, t0: Tensor, z0: Tensor, dt: Tensor) -> None:
        self._problem.reject()

    def accept(self, t: float, z: Tensor) -> None:
        self._problem.accept(t, z)
        self.z = z


class TorchdiffeqSolver(Solver):
    """Explicit Runge–Kutta and Adams methods of torchdiffeq."""

    names = _ADAPTIVE + _FIXED
    fixed_step = _FIXED

    def solve(self, problem: Problem, method: str) -> None:
        from torchdiffeq import odeint

        watched = _Watched(problem)
        while problem.t < problem.ts[-1]:
            ahead = [t for t in problem.ts if t > problem.t]
            times = torch.tensor([problem.t, *ahead], dtype=torch.float64, device=watched.z.device)
            ends = times[[0, -1]]
            if method in _ADAPTIVE:
                options = {"norm": problem.error_norm, "step_t": times[1:]}
            else:
                grid = _grid(times.tolist(), float(problem.step_size or math.inf))
                options = {"grid_constructor": lambda f, y, t, grid=grid: grid.to(t)}
            try:
                # rtol 0 and atol 1 hand error_norm the raw error estimate.
                z = odeint(
                    watched, watched.z, ends, rtol=0.0, atol=1.0, method=method, options=options
                )
            except _Restart:
                continue
            watched.accept(problem.ts[-1], z[-1])


def _grid(times: list[float], step: float) -> Tensor:
    """Times with each gap cut into equal steps no longer than step."""
    grid = [times[0]]
    for a, b in itertools.pairwise(times):
        count = max(1, math.ceil((b - a) / step * (1 - 1e-12)))
        grid += [a + (b - a) * i / count for i in range(1, count)] + [b]
    return torch.tensor(grid, dtype=torch.float64)
