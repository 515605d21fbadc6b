"""Solve a problem in the coordinates that its flow chooses for the start.

W = UUᵀ of rank k is followed as U with k columns, for example: the rank is then conserved
whatever the method. Times in the coordinates are measured from the start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from gflow.flows.base import Coordinates
from gflow.solvers.base import Solver
from gflow.solvers.exact import ExactSolver
from gflow.solvers.krylov import KrylovSolver
from gflow.solvers.problem import Problem
from gflow.solvers.resumable import solve_resumable

#: Results of a solve that are the same in all coordinates.
_RESULTS = (
    "t",
    "dissipated",
    "largest_rise",
    "rhs_evals",
    "accepted",
    "rejected",
    "spent",
    "gain",
    "failures",
    "event_times",
    "last_checkpoint",
    "remark",
    "main_methods",
    "round_off",
    "began",
    "ended",
)


def solve_in_coordinates(solver: Solver, problem: Problem, name: str, *, steps: bool) -> None:
    """Solve a problem, in coordinates if its flow has some for the start.

    Parameters
    ----------
    solver : Solver
    problem : Problem
        It receives the results, as states of its own flow.
    name : str
        The name of the method.
    steps : bool
        As in `solve_resumable`.

    Raises
    ------
    Stop
        If the solve stops early.

    Examples
    --------
    >>> import gflow
    >>> from gflow.solvers import methods
    >>> flow, W0 = gflow.ProductFlow.example()
    >>> problem = Problem(flow, W0, [0.0, 1.0], rtol=1e-6, atol=1e-9)
    >>> solve_in_coordinates(methods()["tsit5"], problem, "tsit5", steps=True)
    >>> problem.y.shape == W0.shape, int(torch.linalg.matrix_rank(problem.y))
    (True, 3)
    """
    chosen = None
    if not isinstance(solver, ExactSolver | KrylovSolver):
        chosen = problem.flow.coordinates(problem.y0)
    if chosen is None:
        solve_resumable(solver, problem, name, steps=steps)
        return
    inner = _in_coordinates(problem, chosen)
    try:
        solve_resumable(solver, inner, name, steps=steps)
    finally:
        for result in _RESULTS:
            setattr(problem, result, getattr(inner, result))
        problem.saved = [problem.y0, *map(chosen.states, inner.saved[1:])]
        problem.y = chosen.states(inner.y)
        problem.visited = [(t, chosen.states(y)) for t, y in inner.visited]
        problem.y_norm = problem.flow.norm(problem.y)


def _in_coordinates(problem: Problem, chosen: Coordinates) -> Problem:
    return dataclasses.replace(
        problem,
        flow=chosen.flow,
        y0=chosen.start,
        ts=problem.requested,
        member_ts=problem.requested_of_members,
        rtol=max(chosen.tolerance * problem.rtol, 2 * torch.finfo(problem.y0.dtype).eps),
        atol=chosen.tolerance * problem.atol,
        event=None if problem.event is None else _composed(problem.event, chosen.states),
        sharpness=0,  # that of the states is measured after the solve
    )


def _composed(
    event: Callable[[Tensor], Tensor], states: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    return lambda coordinates: event(states(coordinates))
