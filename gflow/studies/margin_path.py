r"""Logistic regression on separable data, to losses that only their logarithm can say.

The direction of w tends to that of the maximum margin γ, its angle as 1/log t, and ‖w‖/log t to
1/γ (Soudry et al. 2018, arXiv:1710.10345, theorem 3), where t is the time of the flow on the mean
loss φ. The path is followed on the clock dτ = φ dt (`gflow.flows.normalised`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.baselines import max_margin
from gflow.baselines.margin import MaxMargin
from gflow.callbacks import Stages, as_stages
from gflow.checks import require_number, require_positive
from gflow.display import Display, holds
from gflow.errors import InputError
from gflow.events import loss_reaches
from gflow.flows import NetworkFlow, NormalisedFlow
from gflow.solvers.integrate import integrate
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.studies.arguments import study_options
from gflow.trajectory import Trajectory

_ROOM = 2.0  # times |log φ|/γ², by which the loss is reached
_FIRST = 1e-2  # the first time τ after 0
_LATE = 0.15  # of log φ at the end: from there on the angle is fitted

DEFAULTS = SolveOptions(points=300)


@dataclass(frozen=True, repr=False)
class MarginPath(Display):
    """A linear classifier's path to the maximum-margin direction.

    Attributes
    ----------
    best : MaxMargin
        The maximum margin γ and its direction.
    path : Trajectory
        On the clock τ.
    log_time, log_loss : Tensor, shape (T,)
        log t and log φ.
    norm, margin, angle : Tensor, shape (T,)
        ‖w‖, the least margin over ‖w‖, and the angle to the maximum-margin direction.
    rate : float
        p of angle ∝ (log t)^p, fitted late on the path; theory gives −1.
    """

    best: MaxMargin
    path: Trajectory
    log_time: Tensor
    log_loss: Tensor
    norm: Tensor
    margin: Tensor
    angle: Tensor
    rate: float

    def __repr__(self) -> str:
        return (
            f"MarginPath(to a loss of 1e{float(self.log_loss[-1]) / math.log(10):.0f}, angle "
            f"{float(self.angle[-1]):.2g}, which falls as (log t)^{self.rate:.2f}, "
            f"{holds(self.path.certificate)})"
        )


def margin_path(
    inputs: Tensor,
    labels: Tensor,
    log10_loss_end: float,
    criterion: str = "logistic",
    *,
    t_end: float | None = None,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> MarginPath:
    """Follow a linear classifier without bias from w = 0 to a tiny loss.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        X, separable by a plane through the origin.
    labels : Tensor, shape (n,)
        0 and 1.
    log10_loss_end : float
        log₁₀ of the loss at which the path ends, below 0.
    criterion : {"logistic", "exponential"}
    t_end : float, optional
        The longest time τ; by default long enough, by theory.
    options : SolveOptions
        Of the solver; by default there are 300 points on each path.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for the path; True shows bars.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    MarginPath

    Raises
    ------
    InputError
        If the data are not separable, or the loss is not below that of the start.

    Examples
    --------
    >>> X = torch.tensor([[2.0, 1.0], [-1.0, -3.0]], dtype=torch.float64)
    >>> found = margin_path(X, torch.tensor([1, 0]), -300.0)
    >>> round(float(found.norm[-1] / found.log_time[-1]) * found.best.margin, 2)
    1.0
    """
    options, stages = study_options(options, keywords), as_stages(stages)
    t_end = None if t_end is None else require_positive("t_end", t_end)
    log10_loss_end = require_number("log10_loss_end", log10_loss_end)
    best = max_margin(inputs, labels)
    linear = torch.nn.Linear(inputs.shape[1], 1, bias=False, device=inputs.device)
    inner = NetworkFlow(linear.to(inputs.dtype), criterion, inputs, labels)
    flow = NormalisedFlow(inner, best.solution.to(inputs))
    start = torch.zeros_like(flow.pack())
    log_end = log10_loss_end * math.log(10)
    first = float(flow.loss(start))
    if log_end >= first:
        raise InputError(
            f"the path must end below the loss of its start, 10^{first / math.log(10):.3g}, got "
            f"10^{log10_loss_end:g}; use a smaller one"
        )
    end = t_end or _ROOM * (first - log_end) / best.margin**2
    ts = _times(end, options.points)
    path = integrate(
        flow,
        start,
        ts,
        options=options,
        until=loss_reaches(flow, log_end),
        progress=stages("normalised flow", end),
    )
    seen, log_time = path.observables(), flow.log_time(path.ts, path.ys)
    late = seen["log_loss"] < _LATE * float(seen["log_loss"][-1])
    late &= (log_time > 0) & (seen["angle"] > 0)
    rate = math.nan
    if int(late.sum()) > 1:
        x, y = log_time[late].log(), seen["angle"][late].log()
        x = x - x.mean()
        rate = float((x * (y - y.mean())).sum() / x.square().sum())
    return MarginPath(
        best,
        path,
        log_time,
        seen["log_loss"],
        seen["norm"],
        seen["margin"],
        seen["angle"],
        rate,
    )


def _times(end: float, points: int) -> Tensor:
    """Return times that resolve the beginning and, for tables, the decades of the loss."""
    half = max(2, points // 2)
    first = math.log10(min(_FIRST, 0.01 * end))
    early = torch.logspace(first, math.log10(end), half, dtype=torch.float64)
    even = torch.linspace(0.0, end, points - half + 2, dtype=torch.float64)
    return torch.cat([early[:-1], even]).unique()
