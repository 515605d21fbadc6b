r"""The regularisation that a step size brings: ‖∇L‖² along descent against flow and modified flow.

Descent with step size η follows, up to O(η²), the flow of L + (η/4)‖∇L‖² (Barrett & Dherin 2021,
arXiv:2009.11162, theorem 3.1): the larger η, the more it is drawn to where ‖∇L‖ is small. Two
measurements, without a fit of the effect's size:

- at equal time t = kη, ‖∇L‖² of descent is O(η) away from the flow's and O(η²) away from the
  modified flow's;
- at equal loss, its ratio to the flow's is below 1, the more so the larger η, as the modified flow
  predicts. A path that were only faster, not another one, would have the ratio 1.

Time unit: t = k·step_size of descent on the same loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from gflow.callbacks import Progress
from gflow.display import Display
from gflow.errors import InputError
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow
from gflow.flows.starts import single_start
from gflow.solvers.integrate import integrate
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.studies.arguments import study_options
from gflow.studies.step_size import StepSizeStudy, step_size_study

_FINE = 10  # times of the flow between two comparisons, to find where its loss is the same

DEFAULTS = SolveOptions(rtol=1e-8, atol=1e-11, points=50)


_USAGE = "implicit_regularization(flow, y0, t_end, step_sizes)"


@dataclass(frozen=True, repr=False)
class ImplicitRegularization(Display):
    """‖∇L‖² along the flow, descents, and their modified flows.

    Attributes
    ----------
    study : StepSizeStudy
        Of ‖∇L‖² at equal times: gaps and orders to both flows.
    slopes : Tensor, shape (T,)
        ‖∇L‖² of the flow at ``study.trajectory.ts``.
    descent_slopes, modified_slopes : tuple of Tensor, one a step size
        ‖∇L‖² of descent at its times, and of its modified flow; NaN beyond the stability limit.
    descent_ratios, modified_ratios : tuple of Tensor, one a step size
        The same divided by ‖∇L‖² of the flow at equal L; NaN at losses that the flow did not
        reach.
    """

    study: StepSizeStudy
    slopes: Tensor
    descent_slopes: tuple[Tensor, ...]
    modified_slopes: tuple[Tensor, ...]
    descent_ratios: tuple[Tensor, ...]
    modified_ratios: tuple[Tensor, ...]

    def __repr__(self) -> str:
        return f"ImplicitRegularization({self.study!r})"


def squared_gradient(flow: Flow, ys: Tensor) -> Tensor:
    """Return ‖∇L‖² at states of parameters, one state at a time.

    Parameters
    ----------
    flow : Flow
    ys : Tensor, shape (T, *state)

    Returns
    -------
    Tensor, shape (T,)

    Examples
    --------
    >>> import torch, gflow
    >>> flow, U = gflow.FactorFlow.example()
    >>> bool((squared_gradient(flow, U[None]) - flow(0.0, U).norm() ** 2).abs() < 1e-12)
    True
    """
    return torch.stack([flow.dissipation(y, flow(0.0, y)) for y in ys])


def implicit_regularization(
    flow: Flow,
    y0: Tensor,
    t_end: float,
    step_sizes: Sequence[float],
    *,
    options: SolveOptions = DEFAULTS,
    progress: Progress | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> ImplicitRegularization:
    """Measure ‖∇L‖² along descent with several step sizes against both flows.

    Parameters
    ----------
    flow : Flow
        A reduced flow is taken at its parameters, as descent is.
    y0 : Tensor, shape (*state)
    t_end : float
    step_sizes : sequence of float
        As in `gflow.step_size_study`.
    options : SolveOptions
        As in `gflow.step_size_study`; by default rtol is 1e-8, atol 1e-11, and there are 50
        points. For a clean order choose points so that all step sizes are compared at the same
        times.
    progress : callable or bool, optional
        ``progress(t, loss)`` along the flows and the descents; True shows a bar.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    ImplicitRegularization

    Raises
    ------
    InputError
        If an argument is out of range, or the loss of the flow does not fall.
    IntegrationError
        If a flow cannot be integrated.

    Examples
    --------
    >>> import gflow
    >>> flow, U = gflow.FactorFlow.example()
    >>> result = implicit_regularization(flow, U, 1.0, [0.04, 0.02, 0.01], points=5)
    >>> round(result.study.order), round(result.study.modified_order)
    (1, 2)
    """
    require_flow(flow, _USAGE)
    options = study_options(options, keywords)
    options = options.with_(estimate_error=False)  # the study does, as it must
    flow, y0 = single_start("a study", flow, y0, _USAGE)
    flow, y0 = flow.parameter_flow, flow.lift(y0)
    observe = lambda ys: squared_gradient(flow, ys)  # noqa: E731
    study = step_size_study(
        flow, y0, t_end, step_sizes, observe, modified=True, options=options, progress=progress
    )
    path = study.trajectory
    times = np.union1d(np.linspace(0, t_end, _FINE * options.points), path.ts.numpy()).tolist()
    ys = integrate(flow, y0, times, options=options, dense=True).ys
    losses, slopes = flow.loss(ys), observe(ys)
    if not bool((losses.diff() < 0).all()) or not bool((slopes > 0).all()):
        raise InputError("the loss must fall all along the flow for a comparison at equal loss")
    modified = []
    for descent, other in zip(study.descents, study.modified_trajectories or (), strict=True):
        missing = torch.full((len(descent.ts), *y0.shape), torch.nan).to(y0)
        modified.append(missing if other is None else other.ys)

    def ratios(states: Tensor) -> Tensor:
        return _ratio(losses, slopes, flow.loss(states), observe(states))

    descents = [descent.ys for descent in study.descents]
    return ImplicitRegularization(
        study=study,
        slopes=observe(path.ys),
        descent_slopes=tuple(observe(states) for states in descents),
        modified_slopes=tuple(observe(states) for states in modified),
        descent_ratios=tuple(ratios(states) for states in descents),
        modified_ratios=tuple(ratios(states) for states in modified),
    )


def _ratio(
    flow_losses: Tensor, flow_slopes: Tensor, path_losses: Tensor, path_slopes: Tensor
) -> Tensor:
    """Return a path's slopes over the flow's at equal loss, by a cubic spline in logarithms."""
    from scipy.interpolate import CubicSpline  # half a second to import

    L, S = flow_losses.cpu().log().numpy(), flow_slopes.cpu().log().numpy()
    logs = path_losses.cpu().log().numpy()
    reached = (logs >= L[-1]) & (logs <= L[0])
    slopes = np.full(logs.shape, np.nan)
    slopes[reached] = CubicSpline(L[::-1], S[::-1])(logs[reached])
    return path_slopes.cpu() / torch.from_numpy(np.exp(slopes)).to(path_slopes.dtype)
