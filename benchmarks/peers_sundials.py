"""SUNDIALS on the torch right-hand side: CVODE by scikit-sundae, LSRKStep by sundials4py.

CVODE is BDF with GMRES. LSRKStep has the stabilised methods of second order RKC2 and RKL2. Their
spectral radius is a power iteration at every step: every 25 steps, as in SUNDIALS' examples, takes
up to 60 times the evaluations, and its own estimator stops where the largest eigenvalue is
positive, as near the saddles at which these problems start.
The Jacobian-vector products of both are differences of right-hand sides, and count as such.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import torch
from counted import CountedNumpy, require
from measuring import EVERY_DECADE, Answer, Method, Progress
from problems import Problem

_STEPS = 1_000_000
_STAGES = 1000  # at most, of LSRKStep
_STEPS_PER_RADIUS = 1
_ITERATIONS, _ACCURACY, _SAFETY = 100, 0.01, 1.1  # of the power iteration
_DIFFERENCE = 1e-7  # of the states of a difference, relative


class _Guarded:
    """A right-hand side for a compiled solver, which no exception leaves: it fails instead."""

    def __init__(self, problem: Problem, progress: Progress):
        self._f = CountedNumpy(problem, progress)
        self._error: BaseException | None = None

    def fill(self, t: float, y: np.ndarray, rate: np.ndarray) -> int:
        """Write f(t, y) into ``rate``; return 0, or -1 after an exception, with NaN."""
        if self._error is None:
            try:
                rate[:] = self._f.array(t, y)
                return 0
            except BaseException as error:
                self._error = error
        rate[:] = np.nan
        return -1

    def check(self, success: bool, message: str) -> None:
        """Raise the exception of a right-hand side, or that of a solver without success."""
        if self._error is not None:
            raise self._error
        if not success:
            raise RuntimeError(message)


def run_cvode(dimension: int, problem: Problem, rtol: float, progress: Progress) -> Answer:
    """Solve by CVODE: BDF with GMRES of a given dimension."""
    sun = require("sksundae.cvode")
    f = _Guarded(problem, progress)

    def rhs(t: float, y: np.ndarray, yp: np.ndarray) -> None:
        f.fill(t, y, yp)

    solver = sun.CVODE(
        rhs,
        method="BDF",
        linsolver="gmres",
        krylov_dim=dimension,
        rtol=rtol,
        atol=rtol * problem.scale,
        max_num_steps=_STEPS,
    )
    began = time.perf_counter()
    solution = solver.solve(np.array(problem.ts), problem.y0.reshape(-1).numpy())
    seconds = time.perf_counter() - began
    f.check(solution.success, str(solution.message))
    return Answer(torch.from_numpy(np.array(solution.y[-1])), seconds, progress.rhs)


class _Radius:
    """The spectral radius of a right-hand side's Jacobian, by a power iteration."""

    def __init__(self, f: _Guarded, size: int):
        self._f = f
        self._v = np.random.default_rng(0).standard_normal(size)
        self._v /= np.linalg.norm(self._v)

    def at(self, t: float, y: np.ndarray, rate: np.ndarray) -> float:
        """Return the radius at y, where the right-hand side is ``rate``."""
        step = _DIFFERENCE * max(float(np.linalg.norm(y)), 1e-3)
        other, radius = np.empty_like(y), 0.0
        for _ in range(_ITERATIONS):
            if self._f.fill(t, y + step * self._v, other):
                break
            product = (other - rate) / step
            before, radius = radius, float(np.linalg.norm(product))
            if radius == 0:
                break
            self._v = product / radius
            if abs(radius - before) <= _ACCURACY * radius:
                break
        return radius


def run_lsrk(method: str, problem: Problem, rtol: float, progress: Progress) -> Answer:
    """Solve by LSRKStep, method ``RKC`` or ``RKL``, landing on every requested time."""
    sun, ark = (require(f"sundials4py.{part}", "sundials4py") for part in ("core", "arkode"))
    f, array = _Guarded(problem, progress), sun.N_VGetNumpyArray
    radius = _Radius(f, problem.y0.numel())

    def rhs(t: float, y: Any, rate: Any, _: Any) -> int:
        return f.fill(t, array(y), array(rate))

    def eigenvalue(t: float, y: Any, rate: Any, *_: Any) -> tuple[int, float, float]:
        return 0, -radius.at(t, array(y), array(rate)), 0.0

    began = time.perf_counter()
    status, context = sun.SUNContext_Create(sun.SUN_COMM_NULL)
    y = sun.N_VNew_Serial(problem.y0.numel(), context)
    state = array(y)
    state[:] = problem.y0.reshape(-1).numpy()
    memory = ark.LSRKStepCreateSTS(rhs, problem.ts[0], y, context)
    solver, formula = memory.get(), getattr(ark, f"ARKODE_LSRK_{method}_2")
    statuses = [
        status,
        ark.ARKodeSStolerances(solver, rtol, rtol * problem.scale),
        ark.ARKodeSetMaxNumSteps(solver, _STEPS),
        ark.LSRKStepSetSTSMethod(solver, formula),
        ark.LSRKStepSetMaxNumStages(solver, _STAGES),
        ark.LSRKStepSetDomEigFn(solver, eigenvalue),
        ark.LSRKStepSetDomEigFrequency(solver, _STEPS_PER_RADIUS),
        ark.LSRKStepSetDomEigSafetyFactor(solver, _SAFETY),
    ]
    f.check(not any(statuses), f"LSRKStep's settings have the statuses {statuses}")
    for t_end in problem.ts[1:]:
        ark.ARKodeSetStopTime(solver, t_end)
        status, t = ark.ARKodeEvolve(solver, t_end, y, ark.ARK_NORMAL)
        f.check(status >= 0, f"LSRKStep stopped at t = {t:.6g} with status {status}")
    seconds = time.perf_counter() - began
    return Answer(torch.from_numpy(state.copy()), seconds, progress.rhs)


def sundials_methods(full: bool = False) -> list[Method]:
    """Return CVODE and LSRKStep.

    In full, also CVODE with its default GMRES(5), which equals GMRES(30) but takes up to 1.8 times
    its evaluations on the tanh network to T = 3,000, and 0.8 times on the plateaus at 1e-3.
    """
    cvode = [
        Method(
            f"CVODE gmres({dimension})",
            functools.partial(run_cvode, dimension),
            ladder=EVERY_DECADE,
        )
        for dimension in ((5, 30) if full else (30,))
    ]
    return cvode + [
        Method(f"LSRKStep {name}2", functools.partial(run_lsrk, name), ladder=EVERY_DECADE)
        for name in ("RKC", "RKL")
    ]
