"""What an integration returns: states, statistics, and the certificate.

The certificate is measured evidence that a path is the gradient flow it claims to be:

``energy_residual``
    |φ(y₀) − φ(y_T) − ∫⟨−∇φ, f⟩dt| relative to φ(y₀) (or |φ(y_T)|, the change of φ, or what
    the tolerance resolves, where larger); the integral is carried along by the solver.
``loss_increase``
    The largest rise of φ between accepted steps, relative to the same.
``invariant_drift``
    For every conserved quantity its largest change, relative to its natural scale.
``velocity_error``
    ‖f − f_ref‖/‖f_ref‖ at sampled states, f_ref by automatic differentiation of the
    loss, beyond what an error of rtol in the state explains: a wrong sign, factor or
    transpose shows here, however well it is integrated.
``error_estimate``
    Relative error of the states: against the closed form where there is one, else
    against the same solve at a tenth of the tolerance where that was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gflow.errors import GflowError
from gflow.flows.base import Flow, Observables
from gflow.linalg.arrays import to_numpy

if TYPE_CHECKING:
    from pathlib import Path

    from gflow.execution.checkpointing import Checkpoint


_SAMPLES = 9  # states at which the velocity is checked
_INVARIANT_SAMPLES = 33
_CURVATURE = 100.0  # what errors of the resolution may do to the energy, per unit


@dataclass(frozen=True)
class Stats:
    """What a solve cost and which method did it.

    Attributes
    ----------
    method : str
        The method that ran; ``reason`` says why where it was chosen automatically.
    rhs_evals, jvp_evals : int
        Right-hand sides and Jacobian-vector products.
    accepted, rejected : int or None
        Steps; None where the library that stepped does not tell.
    wall_seconds : float
        Of the solve, certificate excluded.
    """

    method: str
    reason: str
    rhs_evals: int
    jvp_evals: int
    accepted: int
    rejected: int | None
    wall_seconds: float


@dataclass(frozen=True)
class Certificate:
    """Measured evidence for a trajectory, with the bounds it is held against."""

    energy_residual: float
    loss_increase: float
    invariant_drift: Mapping[str, float]
    velocity_error: float
    error_estimate: float | None
    bounds: Mapping[str, float]

    def failures(self) -> list[str]:
        """One phrase for every measurement beyond its bound; empty where all hold."""
        measured: dict[str, float | None] = {
            "energy_residual": self.energy_residual,
            "loss_increase": self.loss_increase,
            "velocity_error": self.velocity_error,
            "error_estimate": self.error_estimate,
        }
        found = []
        for name, value in measured.items():
            if value is not None and not value <= self.bounds[name]:
                found.append(f"{name} {value:.2g} > {self.bounds[name]:.2g}")
        for name, value in self.invariant_drift.items():
            if not value <= self.bounds["invariant_drift"]:
                found.append(f"drift of {name} {value:.2g} > {self.bounds['invariant_drift']:.2g}")
        return found

    @property
    def holds(self) -> bool:
        """Whether every measurement is within its bound."""
        return not self.failures()

    def __repr__(self) -> str:
        drift = max(self.invariant_drift.values(), default=0.0)
        error = "-" if self.error_estimate is None else f"{self.error_estimate:.1e}"
        verdict = "holds" if self.holds else "DOES NOT HOLD: " + "; ".join(self.failures())
        return (
            f"Certificate({verdict} | energy_residual={self.energy_residual:.1e}, "
            f"loss_increase={self.loss_increase:.1e}, invariant_drift={drift:.1e}, "
            f"velocity_error={self.velocity_error:.1e}, error_estimate={error})"
        )


@dataclass(frozen=True, repr=False)
class Trajectory:
    """States of a flow at the requested times.

    Attributes
    ----------
    ts : Tensor, shape (T,)
        Times, float64 on the host, in units of step_size × steps of descent.
    ys : Tensor, shape (T, ..., *state)
        States on the device and in the dtype of the start.
    flow : Flow
        What was integrated.
    stats : Stats
    certificate : Certificate
    ends : Tensor, shape (..., *state)
        The last state of each member, where an event or a failure stopped it before the
        last time; ``ys`` is NaN from there on. A lone start has it as its last state too.
    event_times : mapping of int to float
        When an event stopped a member, by its index in ``y0.reshape(-1, *state)``.
    failures : mapping of int to str
        Why a member failed, likewise. The certificate speaks for the others.
    sharpness : Tensor, shape (T, k)
        The k largest eigenvalues of the Hessian at every time, descending, as
        `gflow.spectra.sharpness` has them; k is 0 unless `gflow.integrate` was asked for more.
    """

    ts: Tensor
    ys: Tensor
    flow: Flow
    stats: Stats
    certificate: Certificate
    ends: Tensor
    event_times: Mapping[int, float] = field(default_factory=dict)
    failures: Mapping[int, str] = field(default_factory=dict)
    sharpness: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    @property
    def losses(self) -> Tensor:
        """φ at every time, shape (T, ...)."""
        return self.flow.loss(self.ys)

    def observables(self) -> Observables:
        """The flow's observables at every time, time first."""
        return self.flow.observables(self.ys)

    def __repr__(self) -> str:
        failed = f"{len(self.failures)} members FAILED, " if self.failures else ""
        return (
            f"Trajectory({failed}{type(self.flow).__name__}, t = {float(self.ts[0]):g} … "
            f"{float(self.ts[-1]):g} at {len(self.ts)} times, {self.stats.method}, "
            f"{self.stats.rhs_evals} evaluations, {self.certificate!r})"
        )


def certify(
    flow: Flow,
    ys: Tensor,
    *,
    rtol: float,
    resolution: float | Tensor,
    dissipated: Tensor | None,
    largest_rise: Tensor,
    error_estimate: float | None,
) -> Certificate:
    """The certificate of a path.

    Parameters
    ----------
    flow : Flow
    ys : Tensor, shape (T, ..., *state)
    rtol : float
        The tolerance asked for; the bounds follow it.
    resolution : float or Tensor
        (atol + rtol‖y‖)²: an energy this small is not resolved, as at a minimum.
    dissipated : Tensor or None
        ∫⟨−∇φ, f⟩dt of each member; None where nothing was integrated.
    largest_rise : Tensor
        Largest rise of φ between accepted steps, of each member.
    error_estimate : float or None
    """
    eps = torch.finfo(ys.dtype).eps
    first, last = to_numpy(flow.loss(torch.stack([ys[0], ys[-1]])))
    missing = np.zeros_like(first) if dissipated is None else first - last - to_numpy(dissipated)
    # A thousand tolerances for what accumulates, capped so that a loose tolerance does not
    # excuse a wrong path; never below round-off.
    accumulated = max(min(1e3 * rtol, 0.05), 1e4 * eps)
    largest = np.maximum(np.maximum(abs(first), abs(last)), abs(first - last))
    unresolved = to_numpy(resolution) if isinstance(resolution, Tensor) else resolution
    scale = largest + (_CURVATURE * unresolved + torch.finfo(ys.dtype).tiny) / accumulated
    return Certificate(
        energy_residual=_worst(abs(missing) / scale),
        loss_increase=_worst(to_numpy(largest_rise) / scale),
        invariant_drift={
            name: _worst(to_numpy(drift))
            for name, drift in invariant_drift(
                flow, ys[_sample(len(ys), _INVARIANT_SAMPLES)]
            ).items()
        },
        velocity_error=_velocity_error(flow, ys[_sample(len(ys), _SAMPLES)], rtol),
        error_estimate=error_estimate,
        bounds={
            "energy_residual": accumulated,
            "error_estimate": accumulated,
            "invariant_drift": accumulated,
            "loss_increase": max(min(10 * rtol, 1e-3), 1e3 * eps),
            "velocity_error": max(accumulated, 10 * eps**0.5),
        },
    )


def _worst(values: np.ndarray) -> float:
    """The largest entry, NaN if any is NaN."""
    return float(values.max()) if values.size else 0.0


def _sample(length: int, count: int) -> list[int]:
    """Up to count indices spread over range(length), both ends included."""
    steps = min(length, count)
    return sorted({round(i * (length - 1) / max(steps - 1, 1)) for i in range(steps)})


def invariant_drift(flow: Flow, ys: Tensor) -> Observables:
    """Change of each invariant since the start, relative to its scale, shape (T, ...)."""
    values, scales = flow.invariants(ys), flow.invariant_scales(ys)
    batch_ndim = ys.ndim - flow.state_ndim
    drift = {}
    for name, value in values.items():
        change = (value - value[0]).reshape(*value.shape[:batch_ndim], -1).norm(dim=-1)
        drift[name] = change / scales[name].amax(dim=0).clamp_min(torch.finfo(ys.dtype).tiny)
    return drift


def _velocity_error(flow: Flow, ys: Tensor, rtol: float) -> float:
    eps = torch.finfo(ys.dtype).eps
    try:
        velocity, reference = flow(0.0, ys), flow.reference(ys)
        size, gap = to_numpy(torch.stack([flow.norm(reference), flow.norm(velocity - reference)]))
        # Near a stationary point the velocity is round-off; a thousandth of the largest
        # speed of the member's path is the floor.
        scale = np.maximum(size, 1e-3 * size.max(axis=0))
        if not (gap <= 100 * eps * scale).all():
            # What the state's own error does to the velocity, about f(y + rtol·y) − f(y), is
            # no fault: it is all there is at rest, and where no saved state moves fast.
            nearby = flow(0.0, (1 + eps**0.5) * ys)
            response = to_numpy(flow.norm(nearby - velocity)) / eps**0.5
            gap = np.maximum(gap - max(rtol, 100 * eps) * response, 0)
    except torch.linalg.LinAlgError:  # states so large that an SVD overflows
        return math.nan
    still = (scale == 0) & (gap == 0)
    with np.errstate(invalid="ignore"):  # infinite states have an error of NaN
        return _worst(gap / np.where(still, 1.0, scale))


def relative_error(flow: Flow, ys: Tensor, truth: Tensor) -> float:
    """max over times and members of ‖y − truth‖ relative to the member's largest ‖truth‖."""
    scale = flow.norm(truth).amax(dim=0)
    gap = flow.norm(ys - truth).amax(dim=0)
    worst = _worst(to_numpy(gap / torch.where(scale > 0, scale, torch.ones_like(scale))))
    return worst if not math.isnan(worst) else math.inf


class IntegrationError(GflowError, RuntimeError):
    """A solver stopped before the last requested time.

    Attributes
    ----------
    reason : str
        Why it stopped, in one line.
    t : float
        The last time at which the state was good.
    y : Tensor
        The state at that time.
    trajectory : Trajectory
        The requested times reached before the stop, with the last good state
        appended, and the statistics up to there.
    checkpoint : Checkpoint or None
        Where one of gflow's own methods stopped: ``gflow.integrate(…, resume=checkpoint)``
        goes on from there, with a larger ``max_evals`` for one.
    folder : Path or None
        Of the run whose solve it was.
    """

    def __init__(
        self,
        reason: str,
        t: float,
        y: Tensor,
        trajectory: Trajectory,
        checkpoint: Checkpoint | None = None,
    ):
        super().__init__(f"integration stopped at t = {t:.6g}: {reason}")
        self.reason = reason
        self.t = t
        self.y = y
        self.trajectory = trajectory
        self.checkpoint = checkpoint
        self.folder: Path | None = None
