"""The step-size study: how the gap to the flow shrinks with the step size.

Gradient descent is explicit Euler, of order one: gap ≈ C·η until η nears the stability
limit 2/λ_max, and ≈ C·η² to the modified flow (`gflow.flows.modified`). An order is fitted
only where that is what the data say, with the solver's own error beside every gap.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.callbacks import Progress, as_progress
from gflow.checks import evaluated, require_bool, require_callable, require_positive, shown
from gflow.descent import Descent, descend_to
from gflow.display import Display, holds, span
from gflow.errors import InputError
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow
from gflow.flows.modified import ModifiedFlow
from gflow.flows.starts import single_start
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.solvers.solve import Solution, solve
from gflow.studies.arguments import distinct_sizes, study_options
from gflow.studies.fitting import OrderFit, fit_order
from gflow.studies.matching import matched_times, max_descent_steps, shared_times
from gflow.studies.stability import stability_limit
from gflow.trajectory import Trajectory

_USAGE = "gflow.step_size_study(flow, y0, t_end, step_sizes)"

#: Tight, so that the solver's error is far below the gaps.
DEFAULTS = SolveOptions(rtol=1e-10, atol=1e-13, points=40)


@dataclass(frozen=True, repr=False)
class StepSizeStudy(Display):
    """Gaps against step sizes, and the orders fitted to them.

    Attributes
    ----------
    step_sizes : tuple of float
        Descending.
    stable : tuple of bool
        Whether each is below the stability limit.
    stability_limit : float
        2/λ_max, the least along the path; infinite where the Hessian has no positive eigenvalue.
    trajectory : Trajectory
        The flow that descent is compared with.
    descents : tuple of Descent
    gap_curves : tuple of (Tensor, Tensor)
        For each step size the times and the gap at them.
    fit : OrderFit
        The largest gap between descent and flow over the matched times, in what is observed,
        and its order.
    modified_fit : OrderFit or None
        The same against the modified flow of each step size, where it was requested; a gap is
        NaN beyond the stability limit, where it is not measured. Its ``solver_error`` is that of
        the modified flow of the smallest step size, where the gap is least.
    modified_trajectories : tuple of (Trajectory or None), or None
        The modified flows; None beyond the stability limit.
    """

    step_sizes: tuple[float, ...]
    stable: tuple[bool, ...]
    stability_limit: float
    trajectory: Trajectory
    descents: tuple[Descent, ...]
    gap_curves: tuple[tuple[Tensor, Tensor], ...]
    fit: OrderFit
    modified_fit: OrderFit | None = None
    modified_trajectories: tuple[Trajectory | None, ...] | None = None

    def __repr__(self) -> str:
        order = f"no order: {self.refusal}" if self.order is None else f"order {self.order:.3f}"
        return (
            f"StepSizeStudy({order}, {len(self.step_sizes)} step sizes {span(self.step_sizes)}, "
            f"gaps {span(self.gaps)}, solver error {self.solver_error:.1e}, "
            f"{holds(self.trajectory.certificate)})"
        )

    @property
    def gaps(self) -> tuple[float, ...]:
        """Largest distance between descent and flow; infinite where descent diverged."""
        return self.fit.gaps

    @property
    def order(self) -> float | None:
        """The fitted order of the gaps; None where the fit is refused."""
        return self.fit.order

    @property
    def order_interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the order."""
        return self.fit.order_interval

    @property
    def fitted(self) -> tuple[bool, ...]:
        """Whether each step size is in the fit."""
        return self.fit.fitted

    @property
    def refusal(self) -> str | None:
        """Why there is no order."""
        return self.fit.refusal

    @property
    def solver_error(self) -> float:
        """The flow's own error, measured as the gaps are."""
        return self.fit.solver_error

    @property
    def modified_gaps(self) -> tuple[float, ...] | None:
        """Largest distance between descent and its modified flow."""
        return None if self.modified_fit is None else self.modified_fit.gaps

    @property
    def modified_order(self) -> float | None:
        """The fitted order of the gaps to the modified flow."""
        return None if self.modified_fit is None else self.modified_fit.order

    @property
    def modified_order_interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of that order."""
        return None if self.modified_fit is None else self.modified_fit.order_interval

    @property
    def modified_fitted(self) -> tuple[bool, ...] | None:
        """Whether each step size is in that fit."""
        return None if self.modified_fit is None else self.modified_fit.fitted

    @property
    def modified_refusal(self) -> str | None:
        """Why there is no such order."""
        return None if self.modified_fit is None else self.modified_fit.refusal

    @property
    def modified_solver_error(self) -> float | None:
        """The error of the modified flow of the smallest step size."""
        return None if self.modified_fit is None else self.modified_fit.solver_error


def step_size_study(
    flow: Flow,
    y0: Tensor,
    t_end: float,
    step_sizes: Sequence[float],
    observe: Callable[[Tensor], Tensor] | None = None,
    *,
    modified: bool = False,
    options: SolveOptions = DEFAULTS,
    progress: Progress | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> StepSizeStudy:
    """Measure the gap between descent and flow for several step sizes and fit its order.

    Parameters
    ----------
    flow : Flow
        The descent of a reduced flow acts on its parameters and is observed on its state.
    y0 : Tensor, shape (*state)
        One start.
    t_end : float
        Length of the path.
    step_sizes : sequence of float
        At least two different ones, at most t_end.
    observe : callable, optional
        State(s) ↦ what the gap is measured in, over leading time dimensions; the state
        itself by default.
    modified : bool
        Measure the gaps to the modified flow too: one more solve for each step size, at about
        three times the cost of an evaluation.
    options : SolveOptions
        Of the solver and of the comparisons; by default rtol is 1e-10, atol 1e-13, and there are
        40 points for each step size. The solver's error is always estimated, by a second solve
        at a tenth of the tolerance or by the closed form.
    progress : callable or bool, optional
        ``progress(t, loss)`` along the flow and the descents; True shows a bar.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

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
    require_flow(flow, _USAGE)
    options = study_options(options, keywords)
    options = options.with_(estimate_error=False)  # measured below, as gaps are
    modified = require_bool("modified", modified)
    sizes = distinct_sizes(step_sizes)
    if len(sizes) < 2:
        raise InputError(f"step_sizes must be at least two different positive numbers, got {sizes}")
    t_end = require_positive("t_end", t_end)
    flow, y0 = single_start("a study", flow, y0, _USAGE)
    if observe is not None:
        _check_observe(observe, y0)
    if not isinstance(progress, bool):
        progress = as_progress(progress)
    if modified:  # a flow without a modified flow is refused before any work
        ModifiedFlow(flow.parameter_flow, sizes[0])
    most = max_descent_steps(flow, y0, t_end / sizes[-1])
    times, counts = matched_times(
        t_end, sizes, options.points, spacing=options.spacing, max_steps=most
    )
    observe = observe or (lambda y: y)
    shown_flow = as_progress(progress, "flow", t_end)
    solution = solve(flow, y0, times, options, progress=shown_flow)
    path, error = solution.trajectory, _error(solution, observe)
    limit = stability_limit(flow, path.ys)
    stable = tuple(s < limit for s in sizes)
    descents = tuple(
        descend_to(
            flow, y0, step, steps, progress=as_progress(progress, f"descent, step {step:g}", t_end)
        )
        for step, steps in zip(sizes, counts, strict=True)
    )
    observed = observe(path.ys)
    curves = tuple(_gap(path.ts, observed, descent, observe) for descent in descents)
    gaps = tuple(
        math.inf if descent.diverged_at is not None else float(gap.max())
        for descent, (_, gap) in zip(descents, curves, strict=True)
    )
    study = StepSizeStudy(
        step_sizes=tuple(sizes),
        stable=stable,
        stability_limit=limit,
        trajectory=path,
        descents=descents,
        gap_curves=curves,
        fit=fit_order(sizes, gaps, stable, error, _extent(observed)),
    )
    return _with_modified(study, y0, observe, options, progress) if modified else study


def _check_observe(observe: Callable[[Tensor], Tensor], y0: Tensor) -> None:
    """Raise InputError unless observe maps states over leading times to tensors over times."""
    require_callable("observe", observe, "observe(states)")
    pair = torch.stack([y0, y0])
    seen = evaluated("observe(states) on two states", lambda: observe(pair))
    if not isinstance(seen, Tensor) or seen.ndim == 0 or len(seen) != 2:
        raise InputError(
            "observe must return a tensor with one entry, or more, for each of the states "
            f"(..., *state) it is given, got {shown(seen)} for two"
        )


def _with_modified(
    study: StepSizeStudy,
    y0: Tensor,
    observe: Callable[[Tensor], Tensor],
    options: SolveOptions,
    progress: Progress | bool | None,
) -> StepSizeStudy:
    """Return the study with its descents compared with the modified flow of each step size."""
    flow = study.trajectory.flow
    gaps, error = [], math.nan
    paths: list[Trajectory | None] = []
    for descent, stable in zip(study.descents, study.stable, strict=True):
        if not stable or descent.diverged_at is not None:
            gaps.append(math.nan)
            paths.append(None)
            continue
        modified = ModifiedFlow(flow.parameter_flow, descent.step_size)
        observe_state = lambda theta: observe(flow.project(theta))  # noqa: E731
        name, t_end = f"modified flow, step {descent.step_size:g}", float(descent.ts[-1])
        shown_flow = as_progress(progress, name, t_end)
        solution = solve(modified, flow.lift(y0), descent.ts, options, progress=shown_flow)
        path = solution.trajectory
        if descent is study.descents[-1]:
            error = _error(solution, observe_state)
        paths.append(path)
        _, gap = _gap(path.ts, observe_state(path.ys), descent, observe)
        gaps.append(float(gap.max()))
    extent = _extent(observe(study.trajectory.ys))
    fit = fit_order(study.step_sizes, gaps, study.stable, error, extent)
    return dataclasses.replace(study, modified_fit=fit, modified_trajectories=tuple(paths))


def _error(solution: Solution, observe: Callable[[Tensor], Tensor]) -> float:
    """Return the solver's error in what is observed."""
    path = solution.trajectory
    observed = observe(path.ys)
    if path.stats.method == "exact":  # up to round-off
        eps = torch.finfo(path.ys.dtype).eps
        return 8 * eps * float(_distance(observed, 0 * observed).max())
    return float(_distance(observed, observe(solution.reference_states())).max())


def _extent(observed: Tensor) -> float:
    """Return how far a path moves from its start."""
    return float(_distance(observed, observed[:1]).max())


def _gap(
    ts: Tensor, observed: Tensor, descent: Descent, observe: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the times that a path and descent share, and the distance at each."""
    rows, columns = shared_times(ts, descent.ts)
    return ts[rows], _distance(observed[rows], observe(descent.ys[columns])).cpu()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distance at each time (first dimension)."""
    return (a - b).reshape(len(a), -1).norm(dim=1)
