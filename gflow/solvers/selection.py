"""The solvers by name, and the choice of the solver of a problem."""

from __future__ import annotations

import functools
import inspect
import math

from gflow.discovery import discover
from gflow.errors import InputError
from gflow.solvers.base import Solver, Stepper
from gflow.solvers.bdf import BDF
from gflow.solvers.explicit import Dop853, Tsit5
from gflow.solvers.krylov import KrylovOrExact, KrylovOrSteps, KrylovSolver
from gflow.solvers.loop.stepping import SteppedSolver
from gflow.solvers.problem import Problem
from gflow.solvers.rkc2 import RKC2
from gflow.text import brief, nearest

_TIGHT = 1e-8  # from this tolerance on, the order-8 method needs fewer evaluations


@functools.cache
def methods() -> dict[str, Solver]:
    """Return all methods of ``gflow/solvers`` by name.

    Examples
    --------
    >>> sorted(methods())[:4]
    ['adaptive_heun', 'bdf', 'bosh3', 'dop853']
    """
    solvers: dict[str, Solver] = {}
    for value in discover("gflow.solvers"):
        if not isinstance(value, type) or inspect.isabstract(value):
            continue
        if issubclass(value, Stepper) and value.name:
            solvers.setdefault(value.name, SteppedSolver(value()))
        elif issubclass(value, BDF):
            solvers[value.name] = SteppedSolver(Tsit5(), value(), starter=True)
        elif issubclass(value, Solver) and value not in (
            SteppedSolver,
            KrylovOrSteps,
            KrylovOrExact,
        ):
            solvers |= {name: value() for name in value.names if name not in solvers}
    return solvers


def choose_solver(problem: Problem, method: str, steps: bool) -> tuple[Solver, str, str]:
    """Choose the solver of a problem.

    Parameters
    ----------
    problem : Problem
    method : str
        Name passed by the user.
    steps : bool
        Whether the solve needs a method that steps: for dense output, events or checkpoints.

    Returns
    -------
    (Solver, str, str)
        The solver, the name of its method, and why it was chosen.

    Raises
    ------
    InputError
        If there is no such method, or it cannot solve this problem.

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> problem = Problem(flow, y0, [0.0, 1.0], rtol=1e-6, atol=1e-9)
    >>> choose_solver(problem, "auto", steps=False)[1]
    'tsit5'
    """
    known = methods()
    if problem.step_size is not None and not (
        method in known and method in known[method].fixed_step
    ):
        fixed = sorted(name for name, solver in known.items() if name in solver.fixed_step)
        raise InputError(
            f"step_size is that of the methods with fixed steps, {', '.join(fixed)}, got it with "
            f"method '{brief(method, str)}', which chooses its steps; leave it out, or pass "
            "max_step for the longest step"
        )
    if method == "auto":
        return _automatic(problem, steps)
    if method not in known:
        # RK45 is nearer to rk4 than to scipy:RK45.
        as_scipy = {name.lower() for name in known} & {f"scipy:{method}".lower()}
        close = nearest(as_scipy.pop() if as_scipy else method, ["auto", *known])
        hint = f"; did you mean '{close}'?" if close else ""
        raise InputError(
            f"method must be auto, {', '.join(known)}, got '{brief(method, str)}'{hint}"
        )
    step_size = problem.step_size
    if method in known[method].fixed_step and not (
        step_size is not None and math.isfinite(step_size) and step_size > 0
    ):
        raise InputError(
            f"method '{method}' takes fixed steps: pass step_size to gflow.integrate, "
            f"got {step_size}; or choose an adaptive method, such as dopri5"
        )
    if steps and not isinstance(known[method], SteppedSolver):
        stepping = (name for name, solver in known.items() if isinstance(solver, SteppedSolver))
        raise InputError(
            "dense output, events and checkpoints need one of gflow's own stepping methods, "
            f"got '{method}'; choose auto, {', '.join(stepping)}"
        )
    return known[method], method, "requested"


def _stepped(rtol: float) -> SteppedSolver:
    """Return the methods of ``auto`` that step."""
    return SteppedSolver(Dop853() if rtol <= _TIGHT else Tsit5(), BDF(), RKC2())


def _automatic(problem: Problem, steps: bool) -> tuple[Solver, str, str]:
    """Choose the solver of method ``auto``."""
    flow, rtol, closed_form = problem.flow, problem.rtol, problem.closed_form
    products = flow.closed_form_products(problem.y0) if flow.affine and not steps else 0
    if closed_form is not None and products > 0:
        why = f"auto: affine in the state; cheaper than a closed form ({closed_form})"
        return KrylovOrExact(products), "krylov", why
    if closed_form is not None and not steps:
        return methods()["exact"], "exact", f"auto: closed form ({closed_form})"
    if flow.affine and not steps:
        why = "auto: affine in the state; too large to decompose"
        one_start = not flow.batch_shape(problem.y0)
        return KrylovOrSteps(_stepped(rtol)) if one_start else KrylovSolver(), "krylov", why
    solver = _stepped(rtol)
    explicit = solver.methods[0]
    if flow.batch_shape(problem.y0):
        solver = solver.for_ensembles() or solver
    why = "the solve needs steps" if closed_form is not None else "no closed form from this start"
    names = " or ".join(method.name for method in solver.methods[1:])
    reason = f"auto: {why}; {explicit.name}, and {names} where stiff, for rtol {rtol:g}"
    return solver, explicit.name, reason
