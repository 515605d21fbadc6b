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

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from gflow.callbacks import Progress
from gflow.errors import InputError
from gflow.flows.base import Flow
from gflow.solvers import integrate
from gflow.studies.matching import Spacing
from gflow.studies.step_size import StepSizeStudy, step_size_study

_FINE = 10  # times of the flow between two comparisons, to find where its loss is the same


@dataclass(frozen=True)
class ImplicitRegularization:
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
        The same over ‖∇L‖² of the flow at equal L; NaN at losses that the flow did not reach.
    """

    study: StepSizeStudy
    slopes: Tensor
    descent_slopes: tuple[Tensor, ...]
    modified_slopes: tuple[Tensor, ...]
    descent_ratios: tuple[Tensor, ...]
    modified_ratios: tuple[Tensor, ...]


def squared_gradient(flow: Flow, ys: Tensor) -> Tensor:
    """‖∇L‖² at states of parameters, (T, *state) → (T,), one state at a time.

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
    points: int = 50,
    spacing: Spacing = "linear",
    method: str = "auto",
    rtol: float = 1e-8,
    atol: float = 1e-11,
    max_evals: int = 1_000_000,
    progress: Progress | None = None,
) -> ImplicitRegularization:
    """Measure ‖∇L‖² along descent with several step sizes against both flows.

    Parameters
    ----------
    flow : Flow
        A reduced flow is taken at its parameters, as descent is.
    y0 : Tensor, shape (*state)
    t_end, step_sizes, points, spacing, method, rtol, atol, max_evals, progress
        As in `gflow.step_size_study`. For a clean order choose points so that all step sizes
        are compared at the same times.

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
    >>> found = implicit_regularization(flow, U, 1.0, [0.04, 0.02, 0.01], points=5)
    >>> round(found.study.order), round(found.study.modified_order)
    (1, 2)
    """
    flow, y0 = flow.parameter_flow, flow.lift(y0)
    look = lambda ys: squared_gradient(flow, ys)  # noqa: E731
    study = step_size_study(
        flow,
        y0,
        t_end,
        step_sizes,
        look,
        modified=True,
        method=method,
        rtol=rtol,
        atol=atol,
        points=points,
        spacing=spacing,
        max_evals=max_evals,
        progress=progress,
    )
    path = study.trajectory
    fine = np.union1d(np.linspace(0, t_end, _FINE * points), path.ts.numpy()).tolist()
    finer = integrate(flow, y0, fine, method, rtol, atol, dense=True, max_evals=max_evals).ys
    losses, slopes = flow.loss(finer), look(finer)
    if not bool((losses.diff() < 0).all()) or not bool((slopes > 0).all()):
        raise InputError("the loss must fall all along the flow for a comparison at equal loss")
    modified = []
    for descent, other in zip(study.descents, study.modified_trajectories or (), strict=True):
        missing = torch.full((len(descent.ts), *y0.shape), torch.nan).to(y0)
        modified.append(missing if other is None else other.ys)
    paths = [descent.ys for descent in study.descents]
    return ImplicitRegularization(
        study=study,
        slopes=look(path.ys),
        descent_slopes=tuple(look(ys) for ys in paths),
        modified_slopes=tuple(look(ys) for ys in modified),
        descent_ratios=tuple(_ratio(losses, slopes, flow.loss(ys), look(ys)) for ys in paths),
        modified_ratios=tuple(_ratio(losses, slopes, flow.loss(ys), look(ys)) for ys in modified),
    )


def _ratio(losses: Tensor, slopes: Tensor, own_losses: Tensor, own_slopes: Tensor) -> Tensor:
    """Own slopes over those of a path at equal loss, by a cubic spline in logarithms."""
    L, S = losses.cpu().log().numpy(), slopes.cpu().log().numpy()
    own = own_losses.cpu().log().numpy()
    inside = (own >= L[-1]) & (own <= L[0])
    at = np.full(own.shape, np.nan)
    at[inside] = CubicSpline(L[::-1], S[::-1])(own[inside])
    return own_slopes.cpu() / torch.from_numpy(np.exp(at)).to(own_slopes.dtype)
