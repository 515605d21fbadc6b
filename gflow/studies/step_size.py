"""The step-size study: how the gap to the flow shrinks with the step size.

Gradient descent is explicit Euler, of order one: gap ≈ C·η until η nears the stability
limit 2/λ_max. The order is fitted only where that is what the data say, with the
solver's own error beside every gap.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gflow.descent import descend_to
from gflow.errors import InputError
from gflow.flows.base import Flow
from gflow.solvers.base import Progress
from gflow.solvers.integrate import better_states, integrate
from gflow.spectra import largest_eigenvalue
from gflow.studies.compare import Spacing, _shared, matched_times
from gflow.trajectory import Trajectory

_MARGIN = 10.0  # the smallest gap must exceed the solver's error by this much
_FEWEST = 3
_SLOPE_SPREAD = 0.1  # local orders within this of the finest one count as asymptotic
_STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


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
    refusal : str or None
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
    refusal: str | None


def step_size_study(
    flow: Flow,
    y0: Tensor,
    t_end: float,
    step_sizes: Sequence[float],
    observe: Callable[[Tensor], Tensor] | None = None,
    *,
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
    if not (math.isfinite(t_end) and t_end > 0):
        raise InputError(f"t_end must be a positive number, got {t_end}")
    flow.check_state(y0)
    if y0.ndim != flow.state_ndim:
        raise InputError(f"a study takes one start, got an ensemble of shape {tuple(y0.shape)}")
    times, counts = matched_times(t_end, sizes, points, spacing=spacing)
    flow = flow.for_start(y0)
    look = observe or (lambda y: y)
    path = integrate(flow, y0, times, method, rtol, atol, max_evals=max_evals, progress=progress)
    seen = look(path.ys)
    if path.stats.method == "exact":
        solver_error = 8 * torch.finfo(y0.dtype).eps * float(_distance(seen, 0 * seen).max())
    else:
        truth = better_states(
            flow,
            y0,
            times,
            path.stats.method,
            rtol,
            atol,
            max_evals=10 * max_evals,
            progress=progress,
        )
        solver_error = float(_distance(seen, look(truth)).max())
    limit = stability_limit(flow, path.ys)
    gaps, curves = [], []
    for step, steps in zip(sizes, counts, strict=True):
        descent = descend_to(flow, y0, step, steps, progress=progress)
        rows, columns = _shared(path.ts, descent.ts)
        gap = _distance(seen[rows], look(descent.ys[columns]))
        curves.append((path.ts[rows], gap.cpu()))
        gaps.append(math.inf if descent.diverged_at is not None else float(gap.max()))
    stable = tuple(s < limit for s in sizes)
    order, interval, fitted, refusal = fit_order(sizes, gaps, stable, solver_error)
    return StepSizeStudy(
        step_sizes=tuple(sizes),
        gaps=tuple(gaps),
        order=order,
        order_interval=interval,
        fitted=fitted,
        stable=stable,
        solver_error=solver_error,
        stability_limit=limit,
        gap_curves=tuple(curves),
        trajectory=path,
        refusal=refusal,
    )


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance at each time (first dimension)."""
    return (a - b).reshape(len(a), -1).norm(dim=1)


def stability_limit(flow: Flow, ys: Tensor, samples: int = 5) -> float:
    """2/λ_max, the least over states spread along a path.

    λ_max is the largest Hessian eigenvalue of the objective of the parameters, by Lanczos
    on Jacobian-vector products.

    Parameters
    ----------
    flow : Flow
    ys : Tensor, shape (T, *state)
        States of one path.
    samples : int
        Number of states looked at.
    """
    inner = flow.parameter_flow
    largest = 0.0
    count = min(samples, len(ys))
    for i in sorted({round(j * (len(ys) - 1) / max(count - 1, 1)) for j in range(count)}):
        theta = flow.lift(ys[i])
        noise = torch.Generator().manual_seed(0)
        start = torch.randn(theta.shape, generator=noise, dtype=theta.dtype).to(theta.device)
        value, _ = largest_eigenvalue(functools.partial(_hessian_product, inner, theta), start)
        largest = max(largest, value)
    return 2 / largest if largest > 0 else math.inf


def _hessian_product(flow: Flow, theta: Tensor, v: Tensor) -> Tensor:
    return -flow.jvp(theta, v)


def fit_order(
    step_sizes: Sequence[float],
    gaps: Sequence[float],
    stable: Sequence[bool],
    solver_error: float,
) -> tuple[float | None, tuple[float, float] | None, tuple[bool, ...], str | None]:
    """Slope of log gap against log step size over the asymptotic range.

    The range starts at the smallest step size and goes on while the local orders stay
    within 0.1 of the finest one; unstable step sizes are never in it.

    Returns
    -------
    (order, interval, fitted, refusal)
        ``order`` and ``interval`` are None where ``refusal`` gives a reason.
    """
    nothing = (False,) * len(step_sizes)
    usable = [i for i, ok in enumerate(stable) if ok and 0 < gaps[i] < math.inf]
    usable.sort(key=lambda i: step_sizes[i])
    if len(usable) < _FEWEST:
        why = f"{len(usable)} stable step sizes with a gap, a fit needs {_FEWEST}"
        return None, None, nothing, why
    smallest = min(gaps[i] for i in usable)
    if smallest < _MARGIN * solver_error:
        why = (
            f"the smallest gap {smallest:.2g} is not {_MARGIN:g} times the solver's error "
            f"{solver_error:.2g}; tighten rtol or use larger steps"
        )
        return None, None, nothing, why
    x = np.log([step_sizes[i] for i in usable])
    y = np.log([gaps[i] for i in usable])
    local = np.diff(y) / np.diff(x)
    off = np.flatnonzero(np.abs(local - local[0]) > _SLOPE_SPREAD)
    count = int(off[0]) + 1 if len(off) else len(usable)
    if count < _FEWEST:
        why = f"local orders {np.round(local, 2).tolist()} show no asymptotic range; smaller steps"
        return None, None, nothing, why
    x, y = x[:count], y[:count]
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - slope * x - intercept
    freedom = count - 2
    spread = math.sqrt(float(residual @ residual) / freedom / float(((x - x.mean()) ** 2).sum()))
    half = _STUDENT_95[min(freedom, len(_STUDENT_95)) - 1] * spread
    chosen = set(usable[:count])
    fitted = tuple(i in chosen for i in range(len(step_sizes)))
    return float(slope), (float(slope - half), float(slope + half)), fitted, None
