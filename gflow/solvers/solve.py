"""A solve with the reference states of its error; `gflow.integrate` returns its trajectory."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from gflow.callbacks import Progress
from gflow.checks import (
    evaluated,
    require_bool,
    require_callable,
    require_count,
    require_number,
    require_numbers,
    require_positive,
    shown,
)
from gflow.errors import InputError
from gflow.events import Event
from gflow.execution.checkpointing import Checkpoint
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow
from gflow.flows.starts import checked_start
from gflow.solvers.certification import certified_trajectory, with_escape
from gflow.solvers.coordinates import solve_in_coordinates
from gflow.solvers.escape_check import measure_escape
from gflow.solvers.krylov import KrylovOrSteps
from gflow.solvers.loop.stepping import SteppedSolver
from gflow.solvers.options import SolveOptions
from gflow.solvers.problem import Problem, Save, Stop
from gflow.solvers.refinement import MOST_REFINEMENTS, finer_options, refined
from gflow.solvers.selection import choose_solver
from gflow.trajectory import IntegrationError, Trajectory, attempt, relative_error

_USAGE = "gflow.integrate(flow, y0, ts)"
_TIME_RESOLUTION = 1e-6  # of a time between two requested ones


class SolveDetails(TypedDict, total=False):
    """Keywords of a single solve, as in `integrate`; ``event`` is its ``until``."""

    step_size: float | None
    dense: bool
    event: Event | None
    sharpness: int
    thorough: bool
    velocity_factors: Tensor | None
    progress: Progress | None
    checkpoint: Save | None
    checkpoint_every: float
    resume: Checkpoint | None


@dataclass(frozen=True)
class Solution:
    """A trajectory with the reference states of its error.

    Attributes
    ----------
    trajectory : Trajectory
    problem : Problem
    reference : Tensor, shape (T, *y0.shape), or None
        States without the solver's error, if computed.
    fixed_method : str or None
        The method, if its steps are fixed.
    has_own_steps : bool
        Whether gflow's own methods took the steps.
    """

    trajectory: Trajectory
    problem: Problem
    reference: Tensor | None
    fixed_method: str | None = None
    has_own_steps: bool = False

    def reference_states(self) -> Tensor:
        """Return ``reference``; compute it if it is missing."""
        if self.reference is not None:
            return self.reference
        return _reference_states(self.problem, self.fixed_method)


def solve(
    flow: Flow,
    y0: Tensor,
    ts: Tensor | Sequence[float],
    options: SolveOptions,
    **details: Unpack[SolveDetails],
) -> Solution:
    """Integrate a flow as `integrate` does, for callers that measure the solver's error.

    Parameters
    ----------
    flow : Flow
    y0 : Tensor, shape (..., *state)
    ts : sequence of float, shape (T,)
    options : SolveOptions
    **details
        As in `integrate`.

    Returns
    -------
    Solution

    Raises
    ------
    InputError
        For input that cannot be integrated.
    IntegrationError
        If the solver stops early, also at an error of the flow or of a callback.

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> solution = solve(flow, y0, [0.0, 1.0], SolveOptions())
    >>> error = solution.trajectory.ys - solution.reference_states()
    >>> 0 < float(error.norm()) < 1e-5
    True
    """
    require_flow(flow, _USAGE)
    times = _check_times(ts)
    flow, y0 = checked_start(flow, y0, _USAGE)
    _check_tolerances(flow, y0, options)
    _check_details(flow, y0, details)
    solution = _solve_once(flow, y0, times, options, details)
    if details.get("thorough", False) or not solution.has_own_steps:
        return solution
    # Checkpoints and progress are those of the first solve.
    details = details | {"progress": None, "checkpoint": None, "resume": None}
    tolerances = options
    for _ in range(MOST_REFINEMENTS):
        finer = finer_options(solution.trajectory, tolerances, torch.finfo(y0.dtype).eps)
        if finer is None:
            break
        try:
            again = _solve_once(flow, y0, times, finer, details, options.rtol)
        except Exception:  # of any kind, as the flow raises it: the first path stays
            break
        path = refined(again.trajectory, solution.trajectory, finer.rtol, tolerances.rtol)
        if path is None:
            break
        solution, tolerances = dataclasses.replace(again, trajectory=path), finer
    return solution


def _solve_once(
    flow: Flow,
    y0: Tensor,
    times: list[float],
    options: SolveOptions,
    details: SolveDetails,
    certified_rtol: float | None = None,
) -> Solution:
    """Solve with these tolerances; the bounds of the certificate may follow from another rtol."""
    steps = details.get("dense", False) or any(
        details.get(name) is not None for name in ("event", "checkpoint", "resume")
    )
    with torch.no_grad():
        problem = Problem(
            flow,
            y0,
            times,
            rtol=options.rtol,
            atol=options.atol,
            certified_rtol=certified_rtol,
            max_evals=options.max_evals,
            max_step=options.max_step,
            **details,
        )
        solver, name, reason = choose_solver(problem, options.method, steps)
        own = isinstance(solver, SteppedSolver | KrylovOrSteps)
        try:
            problem.require_finite(problem.first_loss)
            if len(times) > 1:
                solve_in_coordinates(solver, problem, name, steps=own)
            early = problem.failures or problem.event_times
            if len(problem.saved) < len(times) and not early:
                raise Stop(f"{name} did not land on t = {problem.flow_time(problem.next_time):g}")
        except KeyboardInterrupt as interrupt:
            # A caller knows nothing of a solve that checks or refines another one.
            own_arguments = not problem.thorough and certified_rtol is None
            if problem.last_checkpoint is not None and own_arguments:
                interrupt.checkpoint = problem.last_checkpoint  # type: ignore[attr-defined]
                interrupt.add_note(
                    "gflow: keep the exception as error (sys.last_value), and integrate with the "
                    "same arguments and resume=error.checkpoint to go on from here"
                )
            raise
        except Stop as stop:
            try:
                path = certified_trajectory(problem, name, reason, None)
            except Exception:
                if stop.__cause__ is None:
                    raise
                raise stop.__cause__ from None  # the flow fails on the path, too
            raise IntegrationError(
                str(stop),
                problem.flow_time(problem.t),
                problem.y,
                path,
                problem.last_checkpoint,
            ) from stop.__cause__
        reference = error = None
        not_run: tuple[str, ...] = ()
        complete = not problem.failures and not problem.event_times
        stepped = not {*(problem.main_methods or [name])} <= {"exact", "krylov"}
        measurable = stepped and len(times) > 1
        fixed_method = name if name in solver.fixed_step else None
        if complete and measurable and (options.estimate_error or problem.closed_form is not None):
            reference, not_run = attempt(
                "error_estimate", lambda: _reference_states(problem, fixed_method)
            )
        if reference is not None:
            error = relative_error(flow, torch.stack(problem.saved), reference)
        path = certified_trajectory(problem, name, reason, error, not_run)
        if measurable and not problem.thorough and problem.closed_form is None:
            # A path that does not hold already needs no finer solve: uphill it takes minutes.
            finer = path.certificate.holds
            escape, missing = attempt(
                "escape_error", lambda: measure_escape(problem, _solve_again if finer else None)
            )
            path = with_escape(path, escape, missing)
        return Solution(path, problem, reference, fixed_method, has_own_steps=own and stepped)


def _solve_again(
    flow: Flow,
    start: Tensor,
    times: list[float],
    options: SolveOptions,
    velocity_factors: Tensor | None,
) -> Trajectory:
    options = options.with_(rtol=max(options.rtol, _smallest_rtol(start)))
    details = SolveDetails(thorough=True, velocity_factors=velocity_factors, dense=True)
    return solve(flow, start, times, options, **details).trajectory


def _reference_states(problem: Problem, fixed_method: str | None) -> Tensor:
    """Return reference states of a solve's error, shape (T, *y0.shape).

    They come from the closed form if there is one, else from a finer solve by ``auto``: a second
    solve by the same method might be blind to the same mode. A method with fixed steps has no
    error control that could be; half its steps also pass the kinks of a flow.
    """
    if problem.closed_form is not None:
        elapsed = torch.tensor(problem.ts, dtype=torch.float64, device=problem.y0.device)
        return problem.flow.exact(elapsed, problem.y0)
    return finer_states(
        problem.flow,
        problem.y0,
        problem.requested,
        SolveOptions(
            method=fixed_method or "auto",
            rtol=problem.rtol,
            atol=problem.atol,
            max_evals=problem.max_evals,
            max_step=problem.max_step,
        ),
        step_size=problem.step_size / 2 if fixed_method and problem.step_size else None,
        progress=problem.progress,
    )


def finer_states(
    flow: Flow,
    y0: Tensor,
    times: Sequence[float],
    options: SolveOptions,
    factor: float = 10.0,
    **details: Unpack[SolveDetails],
) -> Tensor:
    """Solve with tighter tolerances, to measure the error of a solve with the given options.

    The finer solve also lands on the midpoints, so that it differs even if the requested times
    alone set the steps.

    Parameters
    ----------
    flow : Flow
    y0 : Tensor, shape (..., *state)
    times : sequence of float, shape (T,)
    options : SolveOptions
        Of the solve whose error is measured.
    factor : float
        Divisor of the tolerances.
    **details
        As in `integrate`.

    Returns
    -------
    Tensor, shape (T, *y0.shape)
        The states at the given times.

    Raises
    ------
    IntegrationError
        If the solver stops early.

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> finer_states(flow, y0, [0.0, 1.0], SolveOptions()).shape
    torch.Size([2, 4, 3])
    """
    midpoints = [0.5 * (a + b) for a, b in itertools.pairwise(times)]
    details["thorough"] = True
    finer = solve(
        flow,
        y0,
        sorted({*times, *midpoints}),
        options.tighter(factor, _smallest_rtol(y0)),
        **details,
    ).trajectory
    requested = set(times)
    return finer.ys[[t in requested for t in finer.ts.tolist()]]


def _check_times(ts: Tensor | Sequence[float]) -> list[float]:
    times = require_numbers("ts", ts, "[0.0, {}]")
    if any(b <= a for a, b in itertools.pairwise(times)):
        raise InputError("ts must be strictly increasing; sort it and remove repeated times")
    for a, b in itertools.pairwise(times):
        if abs(((b - times[0]) - (a - times[0])) - (b - a)) > _TIME_RESOLUTION * (b - a):
            raise InputError(
                f"t = {a!r} and {b!r} cannot be told apart when time is counted from the start "
                f"{times[0]!r}; start later, or integrate in two calls"
            )
    return times


def _check_event(event: Event, batch: torch.Size, y0: Tensor) -> None:
    """Raise InputError unless an event returns one number for each member."""
    shape = f"one number for each member, of shape {tuple(batch)}"
    state = y0.clone()
    value = evaluated("until(y)", lambda: event(state), f"it must return {shape}")
    if not torch.equal(state, y0):
        raise InputError("until(y) must not change y, but does; work on a copy, y.clone()")
    is_tensor = isinstance(value, Tensor) and value.shape == batch
    if not is_tensor or not value.is_floating_point() or bool(value.isnan().any()):
        got = f"{shown(value)} of {value.dtype}" if is_tensor else shown(value)
        raise InputError(
            f"until(y) must return a floating-point tensor, {shape}, got {got}; it is positive "
            "until the event and falls to zero there, see gflow.events"
        )


def _check_details(flow: Flow, y0: Tensor, details: SolveDetails) -> None:
    """Raise InputError where a keyword cannot be used; put the plain values in their place."""
    event, step_size = details.get("event"), details.get("step_size")
    if event is not None:
        require_callable("until", event, "until(y)")
        _check_event(event, flow.batch_shape(y0), y0)
    every = require_number("checkpoint_every", details.get("checkpoint_every", 60.0))
    if not every >= 0:
        raise InputError(f"checkpoint_every must be at least 0 seconds, got {every}")
    details["checkpoint_every"] = every
    if step_size is not None:
        details["step_size"] = require_positive("step_size", step_size)
    details["dense"] = require_bool("dense", details.get("dense", False))
    if details.get("checkpoint") is not None:
        require_callable("checkpoint", details["checkpoint"], "checkpoint(state)")
    resume = details.get("resume")
    if resume is not None and not isinstance(resume, Checkpoint):
        raise InputError(
            f"resume must be a Checkpoint, got {shown(resume)}; pass that of an IntegrationError, "
            "or one that checkpoint(state) received"
        )
    sharpness = require_count("sharpness", details.get("sharpness", 0), 0)
    details["sharpness"] = sharpness
    if sharpness and flow.batch_shape(y0):
        raise InputError(
            "sharpness is computed along one start, got an ensemble of shape "
            f"{tuple(flow.batch_shape(y0))}; integrate its members one by one"
        )


def _smallest_rtol(y0: Tensor) -> float:
    return 4 * torch.finfo(y0.dtype).eps


def _check_tolerances(flow: Flow, y0: Tensor, options: SolveOptions) -> None:
    rtol, atol = options.rtol, options.atol
    if rtol < _smallest_rtol(y0):
        dtype = str(y0.dtype).removeprefix("torch.")
        raise InputError(
            f"{dtype} cannot reach rtol = {rtol:g}; use rtol ≥ {_smallest_rtol(y0):.1e}"
            + (" or float64" if y0.dtype != torch.float64 else "")
        )
    size = float(flow.norm(y0).min())
    if size > 0 and atol > 0.01 * size:
        warnings.warn(
            f"atol = {atol:g} is not small against the start (norm {size:.2g}): the time it takes "
            "to leave a small start may be wrong; lower atol",
            stacklevel=4,
        )
