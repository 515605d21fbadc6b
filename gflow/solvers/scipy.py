"""SciPy's stiff and high-order methods, and flows as SciPy right-hand sides.

``scipy:LSODA``, ``scipy:BDF``, ``scipy:Radau``, ``scipy:DOP853``, ``scipy:RK45`` and
``scipy:RK23`` step on the host in float64 with SciPy's own error norm (a root mean
square over entries); implicit ones form an n × n Jacobian by differences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gflow.checks import require_callable, require_float
from gflow.flows.base import Flow
from gflow.flows.starts import checked_start
from gflow.linalg.arrays import to_numpy
from gflow.solvers.base import Solver
from gflow.solvers.problem import NOT_FINITE, Problem, Stop

_ROUND_OFF = 3e-14  # SciPy warns and raises a smaller rtol to about this


def to_scipy(
    flow: Flow, y0: Tensor
) -> tuple[Callable[[float, np.ndarray], np.ndarray], np.ndarray]:
    """Return a flow as ``fun(t, y)`` for ``scipy.integrate.solve_ivp``, and its start as a vector.

    Parameters
    ----------
    flow : Flow
        Or any callable ``f(t, y)`` on tensors.
    y0 : Tensor
        A state, or an ensemble of states; its shape, dtype and device are used inside.

    Returns
    -------
    (callable, ndarray of shape (y0.numel(),))

    Examples
    --------
    >>> import torch, gflow
    >>> from scipy.integrate import solve_ivp
    >>> H = torch.tensor([[1.0]], dtype=torch.float64)
    >>> flow = gflow.KernelFlow(H, torch.ones(1, dtype=torch.float64))
    >>> fun, start = gflow.to_scipy(flow, torch.zeros(1, dtype=torch.float64))
    >>> solution = solve_ivp(fun, (0, 1), start, rtol=1e-10, atol=1e-12)
    >>> round(float(solution.y[0, -1]), 8)   # 1 − 1/e
    0.63212056
    """

    if isinstance(flow, Flow):
        flow, y0 = checked_start(flow, y0, "gflow.to_scipy(flow, y0)")
    else:
        require_callable("flow", flow, "flow(t, y)")
        y0 = require_float("a state", y0)

    def fun(t: float, y: np.ndarray) -> np.ndarray:
        state = torch.from_numpy(np.array(y, dtype=np.float64)).to(y0).reshape(y0.shape)
        with torch.no_grad():
            return to_numpy(flow(t, state).reshape(-1))

    return fun, to_numpy(y0.reshape(-1))


class ScipySolver(Solver):
    """SciPy's ``OdeSolver`` classes, one accepted step at a time."""

    names = tuple(f"scipy:{n}" for n in ("LSODA", "BDF", "Radau", "DOP853", "RK45", "RK23"))

    def solve(self, problem: Problem, method: str) -> None:
        import scipy.integrate

        problem.rejected = None  # SciPy does not count them
        z0 = problem.z0

        def fun(t: float, z: np.ndarray) -> np.ndarray:
            rate = to_numpy(problem.rhs(t, torch.from_numpy(np.array(z)).to(z0)))
            if not np.isfinite(rate).all():
                raise Stop(NOT_FINITE)
            return rate

        atol, rtol = np.full(z0.numel(), problem.atol), max(problem.rtol, _ROUND_OFF)
        if problem.flow.has_own_scale:
            # rtol is relative to that scale, not to every number.
            scale = to_numpy(problem.flow.tolerance_scale(problem.y0).reshape(-1, 1))
            numbers = atol[: problem.y0.numel()].reshape(len(scale), -1)
            numbers += rtol * scale
            rtol = _ROUND_OFF
        atol[problem.y0.numel() :] = to_numpy(problem.energy_tolerance.reshape(-1))
        family = getattr(scipy.integrate, method.removeprefix("scipy:"))
        options: dict[str, Any] = {"rtol": rtol, "atol": atol, "max_step": problem.max_step}
        solver = family(fun, problem.ts[0], to_numpy(z0), problem.ts[1], **options)
        for target in problem.ts[1:]:
            _aim(solver, target)
            while solver.status == "running":
                before = solver.t
                message = solver.step()
                if solver.status == "failed" or not solver.t > before:
                    raise Stop(f"{method} gave up: {message or 'the step size underflowed'}")
                problem.accept(float(solver.t), torch.from_numpy(solver.y.copy()).to(z0))


def _aim(solver: Any, target: float) -> None:
    """Set the end of a solver's next steps, and keep its history."""
    solver.t_bound = target
    solver.status = "running"
    lsoda = getattr(solver, "_lsoda_solver", None)
    if lsoda is not None:
        lsoda._integrator.rwork[0] = target  # LSODA's own copy of the bound (tcrit)
