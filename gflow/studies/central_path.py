"""The path of a central flow, by fixed steps that carry the eigenvectors at the edge along.

Over a step h the force −½∇⟨H, Σ⟩ is frozen, and θ̇ = −∇L + force solved by the classical
Runge-Kutta method in as many parts as 2/η asks for. What is costly, the eigenvectors and third
derivatives, is done once a step; an adaptive solver on `CentralFlow` would find the eigenvectors
from nothing in every call. The error is O(h): Σ varies as slowly as the sharpness. With
h·rate ≤ 1 an eigenvalue is held at 2/η without overshooting it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.flows.base import Flow
from gflow.flows.central import CentralFlow, Oscillation, oscillation
from gflow.solvers.base import Progress

_WARM = 1e-2  # of the eigenvectors' residuals, from those of the step before
_COLD = 1e-3


@dataclass(frozen=True)
class CentralPath:
    """A central flow at the requested times.

    Attributes
    ----------
    ts : Tensor, shape (T,)
    ys : Tensor, shape (T, *state)
    losses, averaged_losses : Tensor, shape (T,)
        L at the states, and L + tr Σ/η, to which the losses of descent average.
    variances : Tensor, shape (T,)
        tr Σ.
    sharpness : Tensor, shape (T,)
    ranks : Tensor, shape (T,)
        How many eigenvectors Σ is made of.
    """

    ts: Tensor
    ys: Tensor
    losses: Tensor
    averaged_losses: Tensor
    variances: Tensor
    sharpness: Tensor
    ranks: Tensor


def central_path(
    flow: CentralFlow,
    y0: Tensor,
    ts: Sequence[float],
    step: float | None = None,
    *,
    progress: Progress | None = None,
) -> CentralPath:
    """Follow a central flow from a start below the edge.

    Parameters
    ----------
    flow : CentralFlow
    y0 : Tensor, shape (*state)
    ts : sequence of float
        Strictly increasing; the first is the start's.
    step : float, optional
        Longest h, at most 1/rate, the default.
    progress : callable, optional
        ``progress(t, loss)`` at the requested times.

    Raises
    ------
    InputError
        If an argument is out of range, or the start is beyond the edge.

    Examples
    --------
    >>> import torch, gflow
    >>> flow, U = gflow.FactorFlow.example()
    >>> central = gflow.flows.CentralFlow(flow, 0.01)
    >>> path = central_path(central, U, [0.0, 0.5])
    >>> true = gflow.integrate(flow, U, [0.0, 0.5], rtol=1e-10)   # nothing is at the edge here
    >>> bool((path.ys - true.ys).norm() < 1e-6)
    True
    """
    flow.check_state(y0)
    if y0.ndim != flow.state_ndim:
        raise InputError(f"a central path takes one start, got shape {tuple(y0.shape)}")
    times = [float(t) for t in ts]
    if not times or any(not b > a for a, b in itertools.pairwise(times)):
        raise InputError("ts must be at least one time, strictly increasing; sort it")
    longest = 1 / flow.rate if step is None else step
    if not 0 < longest * flow.rate <= 1 + 1e-12:
        raise InputError(
            f"step must be positive and at most 1/rate = {1 / flow.rate:g}, got {step}"
        )
    edge = 2 / flow.step_size
    kept = []
    with torch.no_grad():
        y, now = y0.detach(), _at(flow, y0.detach(), None)
        if float(now.sharpness) > edge * (1 + _COLD):
            raise InputError(
                f"the start must be below the edge, 2/η = {edge:g}, but its sharpness is "
                f"{float(now.sharpness):g}; start before the gradient flow crosses it"
            )
        for i, t in enumerate(times):
            if i > 0:
                steps = math.ceil((t - times[i - 1]) / longest * (1 - 1e-12))
                for _ in range(steps):
                    y = _advance(
                        flow.flow, y, now.force, (t - times[i - 1]) / steps, flow.step_size
                    )
                    now = _at(flow, y, now.vectors)
            if not bool(torch.isfinite(now.sharpness)):
                raise InputError(
                    f"the central flow must stay finite, but did not by t = {t:g}; take a smaller "
                    f"step than {longest:g}, or a lower rate"
                )
            kept.append((y, flow.loss(y), now.variance, now.sharpness, torch.tensor(now.rank)))
            if progress is not None:
                progress(t, float(kept[-1][1]))
    ys, losses, variances, sharpness, ranks = (torch.stack(x) for x in zip(*kept, strict=True))
    return CentralPath(
        ts=torch.tensor(times, dtype=torch.float64),
        ys=ys,
        losses=losses,
        averaged_losses=flow.averaged_loss(losses, variances),
        variances=variances,
        sharpness=sharpness,
        ranks=ranks,
    )


def _at(flow: CentralFlow, y: Tensor, start: Tensor | None) -> Oscillation:
    tol = _COLD if start is None else _WARM
    return oscillation(flow.flow, y, flow.step_size, flow.rate, start=start, tol=tol)


def _advance(flow: Flow, y: Tensor, force: Tensor, span: float, longest: float) -> Tensor:
    """θ̇ = f(θ) + force over a span, by RK4 in parts up to one step of descent, h·λ ≤ 2."""
    parts = math.ceil(span / longest * (1 - 1e-12))
    h = span / parts
    for _ in range(parts):
        k1 = flow(0.0, y) + force
        k2 = flow(0.0, y + h / 2 * k1) + force
        k3 = flow(0.0, y + h / 2 * k2) + force
        k4 = flow(0.0, y + h * k3) + force
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y
