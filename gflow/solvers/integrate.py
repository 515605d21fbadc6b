"""`integrate`: the one way into every solver."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from gflow.callbacks import Progress
from gflow.errors import InputError
from gflow.events import Event
from gflow.execution.checkpointing import Checkpoint
from gflow.flows.base import Flow
from gflow.solvers.certification import certified_trajectory
from gflow.solvers.loop.stepping import SteppedSolver
from gflow.solvers.options import DEFAULT_OPTIONS, SolveOptions
from gflow.solvers.problem import Problem, Save, Stop
from gflow.solvers.resumable import solve_resumable
from gflow.solvers.selection import choose_solver
from gflow.trajectory import IntegrationError, Trajectory, relative_error


def integrate(
    flow: Flow,
    y0: Tensor,
    ts: Tensor | Sequence[float],
    method: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    *,
    options: SolveOptions = DEFAULT_OPTIONS,
    step_size: float | None = None,
    dense: bool = False,
    until: Event | None = None,
    estimate_error: bool | None = None,
    sharpness: int = 0,
    max_evals: int | None = None,
    progress: Progress | None = None,
    checkpoint: Save | None = None,
    checkpoint_every: float = 60.0,
    resume: Checkpoint | None = None,
) -> Trajectory:
    """Integrate a flow and certify the path.

    Parameters
    ----------
    flow : Flow
    y0 : Tensor, shape (..., *state)
        The start, or an ensemble of starts in leading dimensions. Its dtype and device
        are the solve's. With gflow's own methods each member of an ensemble has its own
        steps, and one that fails is named in ``failures`` while the others continue; with
        the libraries' methods all members have common steps and stop together.
    ts : sequence of float, shape (T,)
        Strictly increasing times; the first is the start's. Every one is landed on.
    method : str, optional
        ``auto``, the default; gflow's own ``tsit5``, ``dop853`` (explicit), ``rkc2``, ``rock4``
        (stabilised, for stiff flows), ``bdf`` (implicit); ``exact`` and ``krylov`` where they
        apply; a torchdiffeq method (``dopri5``, ``dopri8``, ``bosh3``, …); or ``scipy:LSODA``,
        ``scipy:BDF``, ``scipy:Radau``, ``scipy:DOP853``. ``auto`` takes the closed form
        where there is one, else starts with an explicit method and switches to an implicit or
        stabilised one where the flow turns out to be stiff.
    rtol, atol : float, optional
        Local error bound ‖e‖₂ ≤ atol + rtol‖y‖₂ (SciPy's methods: its own norm); by default
        1e-6 and 1e-9.
    options : SolveOptions
        Options of the solve that several calls share. ``method``, ``rtol``, ``atol``,
        ``estimate_error`` and ``max_evals``, where given, take precedence over it.
    step_size : float, optional
        Longest step of the fixed-step methods (``euler``, ``rk4``, …), which need it.
    dense : bool
        Take the states at requested times from dense output instead of ending a step on
        each: cheaper where there are many more times than steps.
    until : callable, optional
        An event: ``until(y)``, of the shape of the ensemble, is positive at first, and the
        solve (of that member) stops where it falls to zero; see `gflow.events`.
    estimate_error : bool, optional
        Where there is no closed form, solve once more at a tenth of the tolerance, landing
        on midpoints too, for ``certificate.error_estimate``. This adds one and a half to two
        times the cost of the solve.
    sharpness : int
        The number of largest eigenvalues of the Hessian to compute at every requested
        time, for the trajectory's ``sharpness``; for one start only. gflow's own stepping
        methods take their spectral radius from there while it is fresh. The products are in
        ``stats.jvp_evals``.
    max_evals : int, optional
        Budget of right-hand side evaluations; by default a million.
    progress : callable, optional
        ``progress(t, loss)`` after accepted steps.
    checkpoint : callable, optional
        ``checkpoint(state)`` with the whole state of the solve, every
        ``checkpoint_every`` seconds.
    checkpoint_every : float
        Seconds between two checkpoints.
    resume : Checkpoint, optional
        Continue from there; all else must be as in the solve it was taken from.

    Returns
    -------
    Trajectory
        With ``dense``, ``until``, ``checkpoint`` and ``resume`` the method must be
        ``auto`` or one of gflow's own that steps.

    Raises
    ------
    InputError
        For input that cannot be integrated.
    IntegrationError
        If the solver stops early; it carries the reason, the last good state and the
        trajectory so far.

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.losses import SquaredDistance
    >>> flow = gflow.EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), depth=3)
    >>> W0 = torch.tensor([[0.1, 0.05], [0.0, 0.1]], dtype=torch.float64)
    >>> traj = gflow.integrate(flow, W0, [0.0, 10.0, 30.0])
    >>> traj.certificate.holds, traj.stats.method
    (True, 'tsit5')
    """
    keywords: dict[str, Any] = {
        "method": method,
        "rtol": rtol,
        "atol": atol,
        "max_evals": max_evals,
        "estimate_error": estimate_error,
    }
    given = {name: value for name, value in keywords.items() if value is not None}
    return solve(
        flow,
        y0,
        ts,
        dataclasses.replace(options, **given),
        step_size=step_size,
        dense=dense,
        event=until,
        sharpness=sharpness,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        resume=resume,
    ).trajectory


class SolveDetails(TypedDict, total=False):
    """What belongs to a single solve, as in `integrate`; ``event`` is its ``until``."""

    step_size: float | None
    dense: bool
    event: Event | None
    sharpness: int
    progress: Progress | None
    checkpoint: Save | None
    checkpoint_every: float
    resume: Checkpoint | None


@dataclass(frozen=True)
class Solution:
    """A trajectory with the states that its error was measured against.

    Attributes
    ----------
    trajectory : Trajectory
    problem : Problem
    reference : Tensor, shape (T, *y0.shape), or None
        States without the solver's error, where they were computed.
    """

    trajectory: Trajectory
    problem: Problem
    reference: Tensor | None

    def reference_states(self) -> Tensor:
        """Return ``reference``, computed by the method of the trajectory where it is missing."""
        if self.reference is not None:
            return self.reference
        return _reference_states(self.problem, self.trajectory.stats.method)


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
        If the solver stops early.

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> solution = solve(flow, y0, [0.0, 1.0], SolveOptions())
    >>> error = solution.trajectory.ys - solution.reference_states()
    >>> 0 < float(error.norm()) < 1e-5
    True
    """
    times = _check_times(ts)
    flow.check_state(y0)
    y0 = y0.detach()
    _check_tolerances(flow, y0, options)
    _check_sharpness(flow, y0, details.get("sharpness", 0))
    flow = flow.for_start(y0)
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
            max_evals=options.max_evals,
            **details,
        )
        solver, name, reason = choose_solver(problem, options.method, steps)
        try:
            problem.require_finite(problem.first_loss)
            if len(times) > 1:
                solve_resumable(solver, problem, name, steps=isinstance(solver, SteppedSolver))
            early = problem.failures or problem.event_times
            if len(problem.saved) < len(times) and not early:
                raise Stop(f"{name} did not land on t = {problem.next_time:g}")
        except Stop as stop:
            path = certified_trajectory(problem, name, reason, None)
            raise IntegrationError(
                str(stop), problem.t, problem.y, path, problem.last_checkpoint
            ) from None
        reference = error = None
        complete = not problem.failures and not problem.event_times
        measurable = complete and name not in ("exact", "krylov")
        if measurable and (options.estimate_error or problem.closed_form is not None):
            reference = _reference_states(problem, options.method)
            error = relative_error(flow, torch.stack(problem.saved), reference)
        return Solution(certified_trajectory(problem, name, reason, error), problem, reference)


def _reference_states(problem: Problem, method: str) -> Tensor:
    """Return states to measure a solve's error against, shape (T, *y0.shape).

    By the closed form where there is one, else by a finer solve with a method.
    """
    if problem.closed_form is not None:
        elapsed = torch.tensor(problem.ts, dtype=torch.float64, device=problem.y0.device)
        return problem.flow.exact(elapsed - problem.ts[0], problem.y0)
    step_size = problem.step_size
    return finer_states(
        problem.flow,
        problem.y0,
        problem.ts,
        SolveOptions(method, problem.rtol, problem.atol, problem.max_evals),
        step_size=None if step_size is None else step_size / 2,
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

    The finer solve lands on the midpoints too, so that it differs even where the requested times
    alone set the steps.

    Parameters
    ----------
    flow : Flow
    y0 : Tensor, shape (..., *state)
    times : sequence of float, shape (T,)
    options : SolveOptions
        Of the solve whose error is measured.
    factor : float
        The tolerances are divided by it.
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
    times = [float(t) for t in ts]
    if not times:
        raise InputError("ts must hold at least one time, got none")
    if not all(math.isfinite(t) for t in times):
        raise InputError("ts must be finite, got NaN or infinity")
    if any(b <= a for a, b in itertools.pairwise(times)):
        raise InputError("ts must be strictly increasing; sort it and remove repeated times")
    return times


def _check_sharpness(flow: Flow, y0: Tensor, sharpness: int) -> None:
    if not isinstance(sharpness, int) or sharpness < 0:
        raise InputError(f"sharpness must be the number of eigenvalues to compute, got {sharpness}")
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
