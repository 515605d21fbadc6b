"""The step-size study: how the gap to the flow shrinks with the step size.

Gradient descent is explicit Euler, of order one: gap ≈ C·η until η nears the stability
limit 2/λ_max, and ≈ C·η² to the modified flow (`gflow.flows.modified`). An order is fitted
only where that is what the data say, with the solver's own error beside every gap.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.callbacks import Progress
from gflow.checks import require_positive, require_single_start
from gflow.descent import Descent, descend_to
from gflow.errors import InputError
from gflow.flows.base import Flow
from gflow.flows.modified import ModifiedFlow
from gflow.solvers.integrate import better_states, integrate
from gflow.studies.fitting import fit_order
from gflow.studies.matching import Spacing, _shared, matched_times
from gflow.studies.stability import stability_limit
from gflow.trajectory import Trajectory


@dataclass(frozen=True)
class StepSizeStudy:
    """Gaps against step sizes with the fitted order.

    Attributes
    ----------
    step_sizes : tuple of float
        Descending.
    gaps : tuple of float
        Largest distance between descent and flow over the matched times, of what is
        observed; infinite where descent diverged.
    order : float or None
        Slope of log gap against log step size over the asymptotic range; None where a
        fit is refused, and then ``refusal`` says why.
    order_interval : (float, float) or None
        95 % confidence interval of the slope (Student's t).
    fitted : tuple of bool
        Which step sizes were in the fit.
    stable : tuple of bool
        Which are below the stability limit.
    solver_error : float
        The flow's own error, measured as the gaps are.
    stability_limit : float
        2/λ_max, the least along the path; infinite where nothing is curved.
    gap_curves : tuple of (Tensor, Tensor)
        For each step size the times and the gap at them.
    trajectory : Trajectory
        The flow they are measured against.
    descents : tuple of Descent
    refusal : str or None
    modified_gaps, modified_order, modified_order_interval, modified_fitted, modified_refusal
        The same against the modified flow of each step size, where that was asked for; a
        gap is NaN beyond the stability limit, where it is not measured.
    modified_solver_error : float or None
        The error of the modified flow of the smallest step size, where the gap is least.
    modified_trajectories : tuple of (Trajectory or None), or None
        The modified flows; None beyond the stability limit.
    """

    step_sizes: tuple[float, ...]
    gaps: tuple[float, ...]
    order: float | None
    order_interval: tuple[float, float] | None
    fitted: tuple[bool, ...]
    stable: tuple[bool, ...]
    solver_error: float
    stability_limit: float
    gap_curves: tuple[tuple[Tensor, Tensor], ...]
    trajectory: Trajectory
    descents: tuple[Descent, ...]
    refusal: str | None
    modified_gaps: tuple[float, ...] | None = None
    modified_order: float | None = None
    modified_order_interval: tuple[float, float] | None = None
    modified_fitted: tuple[bool, ...] | None = None
    modified_refusal: str | None = None
    modified_solver_error: float | None = None
    modified_trajectories: tuple[Trajectory | None, ...] | None = None


def step_size_study(
    flow: Flow,
    y0: Tensor,
    t_end: float,
    step_sizes: Sequence[float],
    observe: Callable[[Tensor], Tensor] | None = None,
    *,
    modified: bool = False,
    method: str = "auto",
    rtol: float = 1e-10,
    atol: float = 1e-13,
    points: int = 40,
    spacing: Spacing = "linear",
    max_evals: int = 1_000_000,
    progress: Progress | None = None,
) -> StepSizeStudy:
    """Measure the gap between descent and flow for several step sizes and fit its order.

    Parameters
    ----------
    flow : Flow
        A reduced flow's descent acts on its parameters and is observed on its state.
    y0 : Tensor, shape (*state)
        One start.
    t_end : float
        Length of the path.
    step_sizes : sequence of float
        At least two different ones, at most t_end.
    observe : callable, optional
        State(s) ↦ what the gap is measured on, over leading time dimensions; the state
        itself by default.
    modified : bool
        Measure the gaps to the modified flow too: one more solve for each step size, at about
        three times the price an evaluation.
    method, rtol, atol
        Of the solver; it runs a second time at a tenth of the tolerance for its own
        error, or is compared with the closed form.
    points : int
        Matched times for each step size.
    spacing : str
        Of these times, ``linear`` or ``log``.
    max_evals : int
        Budget of right-hand side evaluations of each solve.
    progress : callable, optional
        ``progress(t, loss)`` along the flow and the descents.

    Returns
    -------
    StepSizeStudy

    Raises
    ------
    InputError
        If arguments are out of range.
    IntegrationError
        If the flow cannot be integrated.

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.tensor([[1.0]], dtype=torch.float64)
    >>> flow = gflow.KernelFlow(H, torch.ones(1, dtype=torch.float64))
    >>> sizes = [0.04, 0.02, 0.01, 0.005]
    >>> study = gflow.step_size_study(flow, torch.zeros(1, dtype=torch.float64), 2.0, sizes)
    >>> round(study.order, 1), study.stability_limit
    (1.0, 2.0)
    """
    sizes = sorted({float(s) for s in step_sizes}, reverse=True)
    if len(sizes) < 2 or not all(math.isfinite(s) and s > 0 for s in sizes):
        raise InputError(f"step_sizes must be at least two different positive numbers, got {sizes}")
    require_positive("t_end", t_end)
    flow.check_state(y0)
    require_single_start("a study", y0, flow.state_ndim)
    if modified:  # whether there is one is said before any work
        ModifiedFlow(flow.parameter_flow, sizes[0])
    times, counts = matched_times(t_end, sizes, points, spacing=spacing)
    flow = flow.for_start(y0)
    look = observe or (lambda y: y)
    solve = functools.partial(
        _solve, method=method, rtol=rtol, atol=atol, max_evals=max_evals, progress=progress
    )
    path, error = solve(flow, y0, times, look)
    limit = stability_limit(flow, path.ys)
    stable = tuple(s < limit for s in sizes)
    descents = [
        descend_to(flow, y0, step, steps, progress=progress)
        for step, steps in zip(sizes, counts, strict=True)
    ]
    curves = [_gap(path.ts, look(path.ys), descent, look) for descent in descents]
    gaps = tuple(
        math.inf if descent.diverged_at is not None else float(gap.max())
        for descent, (_, gap) in zip(descents, curves, strict=True)
    )
    order, interval, fitted, refusal = fit_order(sizes, gaps, stable, error)
    study = StepSizeStudy(
        step_sizes=tuple(sizes),
        gaps=gaps,
        order=order,
        order_interval=interval,
        fitted=fitted,
        stable=stable,
        solver_error=error,
        stability_limit=limit,
        gap_curves=tuple(curves),
        trajectory=path,
        descents=tuple(descents),
        refusal=refusal,
    )
    return _with_modified(study, flow, y0, look, solve) if modified else study


def _with_modified(
    study: StepSizeStudy,
    flow: Flow,
    y0: Tensor,
    look: Callable[[Tensor], Tensor],
    solve: Callable[..., tuple[Trajectory, float]],
) -> StepSizeStudy:
    """The study with its descents measured against the modified flow of each step size."""
    gaps, error = [], math.nan
    paths: list[Trajectory | None] = []
    for descent, stable in zip(study.descents, study.stable, strict=True):
        if not stable or descent.diverged_at is not None:
            gaps.append(math.nan)
            paths.append(None)
            continue
        inner = ModifiedFlow(flow.parameter_flow, descent.step_size)
        seen = lambda theta: look(flow.project(theta))  # noqa: E731
        least = descent is study.descents[-1]
        path, own = solve(inner, flow.lift(y0), descent.ts, seen, estimate=least)
        error = own if least else error
        paths.append(path)
        gaps.append(float(_gap(path.ts, seen(path.ys), descent, look)[1].max()))
    order, interval, fitted, refusal = fit_order(study.step_sizes, gaps, study.stable, error)
    return dataclasses.replace(
        study,
        modified_gaps=tuple(gaps),
        modified_order=order,
        modified_order_interval=interval,
        modified_fitted=fitted,
        modified_refusal=refusal,
        modified_solver_error=error,
        modified_trajectories=tuple(paths),
    )


def _solve(
    flow: Flow,
    y0: Tensor,
    times: Sequence[float] | Tensor,
    look: Callable[[Tensor], Tensor],
    *,
    method: str,
    rtol: float,
    atol: float,
    max_evals: int,
    progress: Progress | None,
    estimate: bool = True,
) -> tuple[Trajectory, float]:
    """A path and its error in what is looked at, NaN unless that is to be estimated."""
    path = integrate(flow, y0, times, method, rtol, atol, max_evals=max_evals, progress=progress)
    seen = look(path.ys)
    if path.stats.method == "exact":
        return path, 8 * torch.finfo(y0.dtype).eps * float(_distance(seen, 0 * seen).max())
    if not estimate:
        return path, math.nan
    truth = better_states(
        flow,
        y0,
        path.ts.tolist(),
        path.stats.method,
        rtol,
        atol,
        max_evals=10 * max_evals,
        progress=progress,
    )
    return path, float(_distance(seen, look(truth)).max())


def _gap(
    ts: Tensor, seen: Tensor, descent: Descent, look: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The times that a path and descent share, and the distance at each."""
    rows, columns = _shared(ts, descent.ts)
    return ts[rows], _distance(seen[rows], look(descent.ys[columns])).cpu()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance at each time (first dimension)."""
    return (a - b).reshape(len(a), -1).norm(dim=1)
