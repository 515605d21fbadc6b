"""The path of a central flow, by fixed steps that update the eigenvectors at the edge.

Over a step h the force −½∇⟨H, Σ⟩ is frozen, and θ̇ = −∇L + force is solved by the classical
Runge-Kutta method in substeps of at most η. The costly part, the eigenvectors and third
derivatives, is done once a step; an adaptive solver on `CentralFlow` would compute the
eigenvectors from scratch in every call. The error is O(h): Σ varies as slowly as the sharpness.
With h·rate ≤ 1 an eigenvalue is held at 2/η without overshooting it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from gflow.callbacks import Progress, as_progress
from gflow.checks import require_numbers, require_positive, shown
from gflow.display import Display
from gflow.errors import InputError
from gflow.execution import current
from gflow.execution.checkpointing import Checkpoint
from gflow.flows.base import Flow
from gflow.flows.central import CentralFlow, Oscillation, oscillation
from gflow.flows.starts import single_start

_WARM = 1e-2  # of the eigenvectors' residuals, from those of the step before
_COLD = 1e-3


@dataclass(frozen=True, repr=False)
class CentralPath(Display):
    """A central flow at the requested times.

    Attributes
    ----------
    ts : Tensor, shape (T,)
    ys : Tensor, shape (T, *state)
    losses, averaged_losses : Tensor, shape (T,)
        L at the states, and L + tr Σ/η, the average of descent's losses.
    variances : Tensor, shape (T,)
        tr Σ.
    sharpness : Tensor, shape (T,)
    ranks : Tensor, shape (T,)
        The rank of Σ.
    """

    ts: Tensor
    ys: Tensor
    losses: Tensor
    averaged_losses: Tensor
    variances: Tensor
    sharpness: Tensor
    ranks: Tensor

    def __repr__(self) -> str:
        return (
            f"CentralPath({len(self.ts)} times to t = {float(self.ts[-1]):g}, loss "
            f"{float(self.losses[0]):.3g} to {float(self.losses[-1]):.3g}, sharpness at the end "
            f"{float(self.sharpness[-1]):.3g})"
        )


def central_path(
    flow: CentralFlow,
    y0: Tensor,
    ts: Sequence[float],
    step: float | None = None,
    *,
    progress: Progress | bool | None = None,
) -> CentralPath:
    """Follow a central flow from a start below the edge.

    Parameters
    ----------
    flow : CentralFlow
    y0 : Tensor, shape (*state)
    ts : sequence of float
        Strictly increasing; the first is the start's.
    step : float, optional
        The longest step h; at most 1/rate, the default.
    progress : callable or bool, optional
        ``progress(t, loss)`` at the requested times; True shows a bar.

    Returns
    -------
    CentralPath

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
    if not isinstance(flow, CentralFlow):
        raise InputError(
            f"flow must be a CentralFlow, got {shown(flow)}; write CentralFlow(flow, step_size)"
        )
    usage = "central_path(CentralFlow(flow, step_size), y0, ts)"
    started, y0 = single_start("a central path", flow, y0, usage)
    flow = cast(CentralFlow, started)
    times = require_numbers("ts", ts, "[0.0, {}]")
    if any(not b > a for a, b in itertools.pairwise(times)):
        raise InputError("ts must be strictly increasing; sort it and remove repeated times")
    longest = 1 / flow.rate if step is None else require_positive("step", step)
    progress = as_progress(progress, "central flow", times[-1])
    if not 0 < longest * flow.rate <= 1 + 1e-12:
        raise InputError(
            f"step must be positive and at most 1/rate = {1 / flow.rate:g}, got {step}"
        )
    edge = 2 / flow.step_size
    inputs: dict[str, Any] = {
        "ts": times,
        "step": longest,
        "step_size": flow.step_size,
        "rate": flow.rate,
    }
    rows: list[dict[str, Tensor]] = []
    with torch.no_grad(), current().resumable("central path", start=y0, **inputs) as piece:
        if piece.finished is not None:
            return _path(flow, times, piece.finished.tensors)
        if piece.resumed is not None:
            tensors = {name: value.to(y0.device) for name, value in piece.resumed.tensors.items()}
            y, force, vectors = (tensors.pop(name) for name in ("y", "force", "vectors"))
            count = len(tensors["ys"])
            rows = [{name: value[i] for name, value in tensors.items()} for i in range(count)]
        else:
            y, measured = y0.detach(), _oscillation_at(flow, y0.detach(), None)
            if float(measured.sharpness) > edge * (1 + _COLD):
                raise InputError(
                    f"the sharpness at the start must be below the edge, 2/η = {edge:g}, got "
                    f"{float(measured.sharpness):g}; start before the gradient flow crosses it"
                )
            force, vectors = measured.force, measured.vectors
            rows.append(_row(flow, y, measured))
        for before, t in itertools.islice(itertools.pairwise(times), len(rows) - 1, None):
            steps = math.ceil((t - before) / longest * (1 - 1e-12))
            for _ in range(steps):
                y = _advance(flow.flow, y, force, (t - before) / steps, flow.step_size)
                measured = _oscillation_at(flow, y, vectors)
                force, vectors = measured.force, measured.vectors
            if not bool(torch.isfinite(measured.sharpness)):
                raise InputError(
                    f"the central flow became infinite or NaN before t = {t:g}; use a step smaller "
                    f"than {longest:g}, or a lower rate"
                )
            rows.append(_row(flow, y, measured))
            if progress is not None:
                progress(t, float(rows[-1]["losses"]))
            state = {"y": y, "force": force, "vectors": vectors}
            piece.step(functools.partial(_checkpoint, state, rows))
        piece.finish(lambda: Checkpoint(_stacked(rows)))
        return _path(flow, times, _stacked(rows))


def _row(flow: CentralFlow, y: Tensor, measured: Oscillation) -> dict[str, Tensor]:
    """Return the measurements at one requested time."""
    return {
        "ys": y,
        "losses": flow.loss(y),
        "variances": measured.variance,
        "sharpness": measured.sharpness,
        "ranks": torch.tensor(measured.rank),
    }


def _checkpoint(state: dict[str, Tensor], rows: list[dict[str, Tensor]]) -> Checkpoint:
    return Checkpoint({**state, **_stacked(rows)})


def _stacked(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _path(flow: CentralFlow, times: list[float], curves: Mapping[str, Tensor]) -> CentralPath:
    """Return the path from its measurements at all times."""
    return CentralPath(
        ts=torch.tensor(times, dtype=torch.float64),
        averaged_losses=flow.averaged_loss(curves["losses"], curves["variances"]),
        **curves,
    )


def _oscillation_at(flow: CentralFlow, y: Tensor, start: Tensor | None) -> Oscillation:
    tol = _COLD if start is None else _WARM
    return oscillation(flow.flow, y, flow.step_size, flow.rate, start=start, tol=tol)


def _advance(flow: Flow, y: Tensor, force: Tensor, span: float, longest: float) -> Tensor:
    """Solve θ̇ = f(θ) + force over a span, by RK4 in substeps of at most η, so that h·λ ≤ 2."""
    substeps = math.ceil(span / longest * (1 - 1e-12))
    h = span / substeps
    for _ in range(substeps):
        k1 = flow(0.0, y) + force
        k2 = flow(0.0, y + h / 2 * k1) + force
        k3 = flow(0.0, y + h / 2 * k2) + force
        k4 = flow(0.0, y + h * k3) + force
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y
