"""Solve a problem in coordinates that its flow chooses, at the start and where a mode is lost.

W = UUᵀ of rank k is followed as U with k columns, for example, and hidden layers become as narrow
as the rank left once a singular value has fallen to round-off. A solve is a sequence of segments,
each a problem of its own with times from its start on; the results are states of the first flow.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from gflow.execution.checkpointing import Checkpoint
from gflow.flows.base import Coordinates
from gflow.flows.lost_modes import Outside
from gflow.solvers.base import Solver
from gflow.solvers.exact import ExactSolver
from gflow.solvers.krylov import KrylovSolver
from gflow.solvers.loop.stepping import SteppedSolver
from gflow.solvers.problem import Problem, Stop, out_of_budget
from gflow.solvers.resumable import solve_resumable

Map = Callable[[Tensor], Tensor]


def solve_in_coordinates(solver: Solver, problem: Problem, name: str, *, steps: bool) -> None:
    """Solve a problem, in coordinates where its flow has some.

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
    (True, 2)
    """
    if isinstance(solver, ExactSolver | KrylovSolver):
        solve_resumable(solver, problem, name, steps=steps)
        return
    chosen = problem.flow.coordinates(problem.y0)
    start = chosen or Coordinates(problem.flow, problem.y0, _same)
    # A checkpoint of the caller's holds one segment, and sharpness is that of one flow.
    plain = problem.checkpoint is problem.resume is problem.member_ts is None
    if isinstance(solver, SteppedSolver) and not problem.batch and plain and not problem.sharpness:
        start = start._replace(guard=start.flow.rank_guard(start.start, problem.rtol))
    elif start.unguarded is not None:
        start = start.unguarded()
    if chosen is None and start.guard is None:
        solve_resumable(solver, problem, name, steps=steps)
    else:
        _solve_segments(functools.partial(solve_resumable, solver), problem, start, name, steps)


def _solve_segments(
    solve: Callable[..., None], problem: Problem, start: Coordinates, name: str, steps: bool
) -> None:
    """Solve segment after segment, and write their results to the problem."""
    outside: list[Outside] = []
    notes: list[str] = []
    carried: Checkpoint | None = None
    most = 100 if start.guard is None else start.guard.most_segments
    for count in range(most):
        segment = _segment(problem, start, outside)
        segment.goes_on_from = carried
        if count == most - 1:
            segment.guard = None
        try:
            solve(segment, name, steps=steps)
        except KeyboardInterrupt:
            problem.last_checkpoint = segment.last_checkpoint if count == 0 else None
            raise
        except Stop as stop:
            _merge(problem, segment, start.states, notes, first=count == 0)
            out = segment.rhs_evals >= segment.max_evals - 1 and count > 0
            reason = out_of_budget(problem.max_evals) if out else str(stop)
            raise Stop(reason) from stop.__cause__
        _merge(problem, segment, start.states, notes, first=count == 0)
        ended = len(problem.saved) == len(problem.ts) or problem.failures or problem.event_times
        if ended or segment.guard is None:
            return
        # A segment restored from a run's files has its last state only.
        renewed = segment.renewed or segment.guard.check(segment.y)
        if not isinstance(renewed, Coordinates):
            return
        segment.renewed, carried = renewed, segment.carried
        if renewed.note:
            notes.append(f"{renewed.note} from t = {problem.flow_time(problem.t):.3g}")
        outside = [*outside, *([] if renewed.outside is None else [renewed.outside])]
        if renewed.absolute:
            start = renewed
        else:
            start = renewed._replace(
                states=_composed(start.states, renewed.states),
                tolerance=start.tolerance * renewed.tolerance,
            )


def _segment(problem: Problem, start: Coordinates, outside: list[Outside]) -> Problem:
    """Return the rest of a problem, from its last state on, in coordinates."""
    tolerance, event = start.tolerance, problem.event
    segment = dataclasses.replace(
        problem,
        flow=start.flow,
        y0=start.start,
        ts=[problem.flow_time(problem.t), *problem.requested[len(problem.saved) :]],
        member_ts=problem.requested_of_members,
        rtol=max(tolerance * problem.rtol, 2 * torch.finfo(problem.y0.dtype).eps),
        atol=tolerance * problem.atol,
        max_evals=problem.max_evals - problem.rhs_evals,
        event=None if event is None else _composed(event, start.states),
        sharpness=0,  # that of the states is measured after the solve
        guard=start.guard,
        velocity_factors=None,  # they would break what the flow conserves
    )
    segment.outside, segment.loss_scale = outside, problem.first_loss
    return segment


def _merge(
    problem: Problem, segment: Problem, states: Map, notes: list[str], *, first: bool
) -> None:
    """Add the results of a segment to those of a problem, as states of its flow."""
    problem.saved = [*problem.saved, *map(states, segment.saved[1:])]
    began = segment.origin - problem.origin
    problem.t, problem.y = began + segment.t, states(segment.y)
    problem.y_norm = problem.flow.tolerance_scale(problem.y)
    problem.largest_rise = torch.maximum(problem.largest_rise, segment.largest_rise)
    if problem.dissipated is not None and segment.dissipated is not None:
        problem.dissipated = problem.dissipated + segment.dissipated
    if all(segment.accepted > other.accepted for other in problem.segments):
        problem.main_methods = segment.main_methods
    problem.rhs_evals += segment.rhs_evals
    problem.accepted += segment.accepted
    if segment.rejected is None:
        problem.rejected = None
    elif problem.rejected is not None:
        problem.rejected += segment.rejected
    if segment.spent is not None:
        problem.spent = segment.spent if problem.spent is None else problem.spent + segment.spent
    problem.failures = segment.failures
    problem.event_times = {i: began + t for i, t in segment.event_times.items()}
    problem.last_checkpoint = segment.last_checkpoint if first else None
    problem.remark = "; ".join(filter(None, [problem.remark, *notes, segment.remark]))
    notes.clear()
    if segment.gain is not None:  # what one segment amplified, the next may amplify further
        problem.gain = segment.gain if problem.gain is None else problem.gain + segment.gain
    problem.before = None if segment.before is None else states(segment.before)
    if segment.rest is not None:
        problem.rest = began + segment.rest
    problem.round_off = max(problem.round_off, segment.round_off)
    problem.lost |= segment.lost
    problem.segments.append(segment)
    problem.ended = segment.ended


def _composed(outer: Map, inner: Map) -> Map:
    return lambda states: outer(inner(states))


def _same(states: Tensor) -> Tensor:
    return states
