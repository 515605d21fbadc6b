"""The certificate: measured evidence that a path is the gradient flow it claims to be.

``energy_residual``
    |φ(y₀) − φ(y_T) − ∫⟨−∇φ, f⟩dt| relative to φ(y₀) (or |φ(y_T)|, the change of φ, or the
    resolution of the tolerance, where larger); the solver integrates the integral along the path.
``loss_increase``
    The largest rise of φ between accepted steps, relative to the same.
``invariant_drift``
    For every conserved quantity its largest change, relative to its natural scale; of one that
    decays as e^{−rt}, as laws of networks do under weight decay, the change beyond that.
``discrete_changes``
    Of what the flow conserves beside: rank, the sign of the determinant, and modes of the start
    that are still resolved; see `Flow.discrete_changes`.
``velocity_error``
    ‖f − f_ref‖/‖f_ref‖ at sampled states, f_ref by automatic differentiation of the
    loss, minus the part that round-off explains: a wrong sign, factor or transpose shows here,
    however well it is integrated.
``amplification``
    The largest growth of a perturbation along the path; near a saddle errors grow as much.
``escape_error``
    Relative error of the states against a finer solve that resolves growing modes, measured where
    the amplification is large and all other measurements hold; or the relative size that a mode
    should have reached which stands still on a saddle, as the state cannot hold it.
``error_estimate``
    Relative error of the states: against the closed form where there is one, else
    against the same solve at a tenth of the tolerance where ``estimate_error`` is set.
``round_off``
    What round-off does to a flow that is affine in its state, relative to the largest state: modes
    with eigenvalues near eps·λ_max are learned so late that it decides about them.
``underflow``
    Whether the loss at the end is lost to round-off: `gflow.trajectory.underflow`.

A check that cannot run (a network whose operations cannot be differentiated that way, memory that
is exhausted) is named in ``not_run``. The path is kept, and the other checks decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gflow.flows.base import Flow, Observables
from gflow.linalg.arrays import to_numpy
from gflow.linalg.blocks import spread
from gflow.text import brief
from gflow.trajectory.round_off import round_off_bound
from gflow.trajectory.underflow import underflow

_T = TypeVar("_T")

_VELOCITY_SAMPLES = 9  # states at which the velocity is checked
_SLOWEST = 3  # of them, the slowest
_DIGITS = 16  # units of round-off between two states that round-off makes different
_WAYS = 3  # of changing the last digits of a state
_ROUND_OFF = 30  # times that difference is no fault
_INVARIANT_SAMPLES = 33  # states at which invariants are measured
_ESCAPE = 50.0  # tolerances: the error of a path that left a saddle at the right time
# What a change is, where its name does not say so.
_CAUSES = {"resolved_rank": "a mode was lost in round-off where it may have grown since"}
_CURVATURE = 100.0  # change of the energy that an error of the resolution may cause, per unit


@dataclass(frozen=True)
class Escape:
    """What a path amplified near saddles, and whether it left them at the right time.

    Attributes
    ----------
    gain : float
        Log of the largest growth of a perturbation along the path.
    error : float or None
        Relative error of the states, measured where the gain is large.
    rest : str
        The mode that should leave the saddle on which the path ends, if any.
    evals : int
        Evaluations that these measurements took.
    """

    gain: float
    error: float | None
    rest: str
    evals: int


@dataclass(frozen=True)
class Certificate:
    """Measured evidence for a trajectory, with a bound for each measurement.

    Attributes
    ----------
    energy_residual, loss_increase : float
        Relative measurements; see `gflow.trajectory.certificate`.
    invariant_drift : mapping of str to float
        Relative drift of each invariant.
    velocity_error : float or None
        Relative error of the velocity; None where the check could not run.
    error_estimate : float or None
        Relative error of the states, where it was measured.
    bounds : mapping of str to float
        The largest values that count as correct, by name.
    not_run : tuple of str
        The checks that could not run, each with its cause.
    round_off : float
        Relative error of the states by round-off; 0 where it is far below the tolerance.
    underflow : str or None
        How the loss has underflowed at the end, if it has.
    amplification : float or None
        Largest growth of a perturbation along the path; None where it was not measured.
    escape_error : float or None
        Relative error of the states against a finer solve, or the size that a mode should have
        reached which stands still; None where so little is amplified that the tolerance bounds it,
        or where another measurement fails.
    rest : str
        Where the path ends at rest on a saddle: the mode that should leave it.
    discrete_changes : mapping of str to float
        Change of each conserved rank or sign; 0 where there is none.
    all_modes : str
        The flow whose coordinates resolve all modes, if there is one; see
        `Flow.in_singular_coordinates`.
    """

    energy_residual: float
    loss_increase: float
    invariant_drift: Mapping[str, float]
    velocity_error: float | None
    error_estimate: float | None
    bounds: Mapping[str, float]
    not_run: tuple[str, ...] = ()
    round_off: float = 0.0
    underflow: str | None = None
    amplification: float | None = None
    escape_error: float | None = None
    rest: str = ""
    discrete_changes: Mapping[str, float] = field(default_factory=dict)
    all_modes: str = ""

    def failures(self) -> list[str]:
        """Return one phrase for every measurement above its bound; empty where all hold."""
        return list(self.failed().values())

    def failed(self) -> dict[str, str]:
        """Return the measurements above their bounds, by name, and one phrase for each."""
        measured: dict[str, float | None] = {
            "energy_residual": self.energy_residual,
            "loss_increase": self.loss_increase,
            "velocity_error": self.velocity_error,
            "error_estimate": self.error_estimate,
            "escape_error": self.escape_error,
        }
        if "round_off" in self.bounds:
            measured["round_off"] = self.round_off
        failed = {}
        for name, value in measured.items():
            if value is not None and not value <= self.bounds[name]:
                failed[name] = f"{name} {value:.2g} > {self.bounds[name]:.2g}"
                if name == "escape_error":
                    grown = f"errors grew by up to {self.amplification:.1g} along the path"
                    failed[name] += self._explained(grown, self.rest)
        bound = self.bounds["invariant_drift"]
        for name, value in self.invariant_drift.items():
            if not value <= bound:
                failed[f"drift of {name}"] = f"drift of {name} {value:.2g} > {bound:.2g}"
        if self.underflow is not None:
            failed["underflow"] = self.underflow
        for name, value in self.discrete_changes.items():
            if not value <= self.bounds["discrete_changes"]:
                cause = self._explained(_CAUSES.get(name, ""))
                failed[name] = f"{name} changed, {value:.2g}{cause}"
        return failed

    def _explained(self, *causes: str) -> str:
        """Return causes in parentheses, and which flow has none of them."""
        other = f"{self.all_modes} follows all modes" if self.all_modes else ""
        text = "; ".join(filter(None, (*causes, other)))
        return f" ({text})" if text else ""

    @property
    def holds(self) -> bool:
        """Whether every measurement is within its bound."""
        return not self.failures()

    def __repr__(self) -> str:
        drift = max(self.invariant_drift.values(), default=0.0)
        error = "-" if self.error_estimate is None else f"{self.error_estimate:.1e}"
        velocity = "-" if self.velocity_error is None else f"{self.velocity_error:.1e}"
        verdict = "holds" if self.holds else "DOES NOT HOLD: " + "; ".join(self.failures())
        if self.amplification is not None and self.amplification > 1:
            escape = "-" if self.escape_error is None else f"{self.escape_error:.1e}"
            error += f", amplification={self.amplification:.1g}, escape_error={escape}"
            error += f" | {self.rest}" if self.rest else ""
        missing = f" | not run: {'; '.join(self.not_run)}" if self.not_run else ""
        return (
            f"Certificate({verdict} | energy_residual={self.energy_residual:.1e}, "
            f"loss_increase={self.loss_increase:.1e}, invariant_drift={drift:.1e}, "
            f"velocity_error={velocity}, error_estimate={error}{missing})"
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
    not_run: tuple[str, ...] = (),
    round_off: float = 0.0,
    discrete_changes: Mapping[str, float] | None = None,
    ts: Sequence[float] | None = None,
    stops: Tensor | None = None,
) -> Certificate:
    """Measure the certificate of a path.

    Parameters
    ----------
    flow : Flow
        The flow that was integrated.
    ys : Tensor, shape (T, ..., *state)
        States at the requested times.
    rtol : float
        The relative tolerance of the solve, from which the bounds are derived.
    resolution : float or Tensor, shape (...)
        (atol + rtol‖y‖)²: an energy this small is not resolved, as at a minimum.
    dissipated : Tensor or None, shape (...)
        ∫⟨−∇φ, f⟩dt of each member; None where nothing was integrated.
    largest_rise : Tensor, shape (...)
        Largest rise of φ between accepted steps, of each member.
    error_estimate : float or None
        Relative error of the states, where it was measured.
    not_run : tuple of str
        Checks of the caller's that could not run.
    round_off : float
        Relative error of the states by round-off, as the solver and `product_round_off` measure it.
    discrete_changes : mapping of str to float, optional
        Measured by the caller, who knows the coordinates.
    ts : sequence of float, shape (T,), optional
        Times of the states, at which the velocity is checked; 0 by default.
    stops : Tensor, shape (...), optional
        The time at which each member of an ensemble stopped, after which its state is the same.

    Returns
    -------
    Certificate
        The measurements and their bounds.

    Examples
    --------
    >>> import torch, gflow
    >>> flow, y0 = gflow.KernelFlow.example()
    >>> ys = flow.exact(torch.linspace(0, 1, 5), y0)
    >>> dissipated, rise = flow.loss(ys[0]) - flow.loss(ys[-1]), torch.zeros(())
    >>> certificate = certify(
    ...     flow, ys, rtol=1e-6, resolution=0.0, dissipated=dissipated, largest_rise=rise,
    ...     error_estimate=None)
    >>> certificate.holds
    True
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
    times = [0.0] * len(ys) if ts is None else ts
    some = spread(len(ys), _INVARIANT_SAMPLES)
    drift, without_drift = attempt(
        "invariant_drift",
        lambda: {
            name: _worst(to_numpy(change))
            for name, change in invariant_drift(
                flow, ys[some], [times[i] for i in some], stops
            ).items()
        },
    )
    at = _velocity_samples(flow, times, ys)
    velocity_error, without_velocity = attempt(
        "velocity_error",
        lambda: _velocity_error(flow, [times[i] for i in at], ys[at]),
    )
    lost, without_underflow = attempt("underflow", lambda: underflow(flow, ys[0], ys[-1]))
    energy_residual = _worst(abs(missing) / scale)
    not_run = (*not_run, *without_drift, *without_velocity, *without_underflow)
    if not_run and dissipated is velocity_error is error_estimate is None and not drift:
        energy_residual = math.nan  # nothing but the loss could run, which is no evidence
    return Certificate(
        energy_residual=energy_residual,
        loss_increase=_worst(to_numpy(largest_rise) / scale),
        invariant_drift=drift or {},
        velocity_error=velocity_error,
        error_estimate=error_estimate,
        bounds={
            "energy_residual": accumulated,
            # Where the error itself is known, it may be a hundred tolerances.
            "error_estimate": max(min(100 * rtol, 0.05), 1e4 * eps),
            "escape_error": escape_bound(rtol, ys.dtype),
            "invariant_drift": accumulated,
            "discrete_changes": accumulated,
            "loss_increase": max(min(10 * rtol, 1e-3), 1e3 * eps),
            "round_off": round_off_bound(rtol, ys.dtype),
            # A velocity off by a factor moves a path as much, however small the steps.
            "velocity_error": max(min(100 * rtol, 1e-3), 10 * eps**0.5),
        },
        not_run=not_run,
        round_off=round_off,
        underflow=lost,
        discrete_changes=discrete_changes or {},
        all_modes=flow.in_singular_coordinates(ys[0]),
    )


def escape_bound(rtol: float, dtype: torch.dtype) -> float:
    """Return the largest ``escape_error`` of a path that left its saddles at the right time.

    Parameters
    ----------
    rtol : float
        The relative tolerance of the solve.
    dtype : torch.dtype
        Of its states.

    Returns
    -------
    float

    Examples
    --------
    >>> import torch
    >>> round(escape_bound(1e-6, torch.float64), 9)
    5e-05
    """
    return max(min(_ESCAPE * rtol, 0.05), 1e4 * torch.finfo(dtype).eps)


def attempt(name: str, check: Callable[[], _T]) -> tuple[_T | None, tuple[str, ...]]:
    """Run a check behind a solve, whose path must not be lost where the check cannot run.

    Parameters
    ----------
    name : str
        Name of the measurement.
    check : callable
        ``check()`` measures it.

    Returns
    -------
    value : object or None
        The measurement; None where the check raised.
    not_run : tuple of str
        The name with the cause, where the check raised; else empty.

    Examples
    --------
    >>> attempt("ratio", lambda: 1 / 2)
    (0.5, ())
    >>> attempt("ratio", lambda: 1 / 0)
    (None, ('ratio (ZeroDivisionError: division by zero)',))
    """
    try:
        return check(), ()
    except Exception as error:  # of any kind: the network's operations may raise what they like
        cause = (str(error).splitlines() or [""])[0]
        return None, (f"{name} ({type(error).__name__}: {brief(cause, str)})",)


def _worst(values: np.ndarray) -> float:
    """The largest entry, NaN if any is NaN."""
    return float(values.max()) if values.size else 0.0


def invariant_drift(
    flow: Flow, ys: Tensor, ts: Sequence[float] | Tensor, stops: Tensor | None = None
) -> Observables:
    """Measure the change of each invariant since the start, relative to its scale.

    Parameters
    ----------
    flow : Flow
        The flow, with its invariants.
    ys : Tensor, shape (T, ..., *state)
        States of a path.
    ts : Tensor or sequence of float, shape (T,)
        Their times, for invariants that decay.
    stops : Tensor, shape (...), optional
        The time at which each member of an ensemble stopped, after which its state is the same.

    Returns
    -------
    dict of str to Tensor, shape (T, ...)
        The relative change of each invariant, beyond its decay (`Flow.invariant_rates`).

    Examples
    --------
    >>> import torch, gflow
    >>> loss = gflow.losses.SquaredDistance(torch.eye(1))
    >>> flow = gflow.LayerwiseFlow(loss, [1, 1, 1])   # D_1 = w_2² − w_1², of scale w_1² + w_2²
    >>> ys = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    >>> invariant_drift(flow, ys, [0.0, 1.0])["balancedness_1"].tolist()
    [0.0, 1.0]
    """
    values, scales = flow.invariants(ys), flow.invariant_scales(ys)
    if values.keys() - scales.keys():  # of a flow of one's own
        scales = Flow.invariant_scales(flow, ys) | scales
    batch_ndim = ys.ndim - flow.state_ndim
    rates = flow.invariant_rates()
    elapsed = torch.as_tensor(ts, dtype=ys.dtype, device=ys.device)
    elapsed = elapsed.reshape(-1, *[1] * (batch_ndim - 1))
    if stops is not None:
        elapsed = torch.minimum(elapsed, stops.to(elapsed))
    elapsed = (elapsed - elapsed[0]).expand(ys.shape[:batch_ndim])
    drift = {}
    for name, value in values.items():
        expected = value[0]
        if rate := rates.get(name, 0.0):
            left = (-rate * elapsed).exp()
            expected = left.reshape(*left.shape, *[1] * (value.ndim - batch_ndim)) * value[0]
        change = (value - expected).reshape(*value.shape[:batch_ndim], -1).norm(dim=-1)
        drift[name] = change / scales[name].amax(dim=0).clamp_min(torch.finfo(ys.dtype).tiny)
    return drift


def _velocity_samples(flow: Flow, ts: Sequence[float], ys: Tensor) -> list[int]:
    """Indices of the states at which the velocity is checked: spread, and the slowest."""
    if len(ys) <= _VELOCITY_SAMPLES:
        return list(range(len(ys)))
    # A fault on a plateau hardly shows in the energy, nor in states and velocities elsewhere.
    moved = (
        to_numpy(flow.norm(ys[1:] - ys[:-1])).reshape(len(ys) - 1, -1).min(axis=1, initial=np.inf)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        slowest = np.argsort(moved / np.diff(ts), kind="stable")
    chosen = {*spread(len(ys), _VELOCITY_SAMPLES - _SLOWEST)}
    chosen |= {int(i) for i in [i for i in slowest if i not in chosen][:_SLOWEST]}
    return sorted(chosen)


def _velocity_error(flow: Flow, ts: Sequence[float], ys: Tensor) -> float:
    try:
        errors = [_velocity_error_at(flow, t, y) for t, y in zip(ts, ys, strict=True)]
    except torch.linalg.LinAlgError:  # states so large that an SVD overflows
        return math.nan
    return _worst(np.array(errors))


def _velocity_error_at(flow: Flow, t: float, y: Tensor) -> float:
    """The largest ‖f − f_ref‖/‖f_ref‖ of all members, without what round-off explains."""
    eps = torch.finfo(y.dtype).eps
    velocity, reference = flow(t, y), flow.reference(y)
    size, gap = to_numpy(torch.stack([flow.norm(reference), flow.norm(velocity - reference)]))
    if not (gap <= 100 * eps * size).all():
        # Both are taken at the same state, so a state's error explains nothing. Round-off does: it
        # also changes the reference between states that differ in their last digits.
        # In several ways, as one may leave just the difference alone that decides.
        squares = torch.arange(y.numel(), dtype=y.dtype, device=y.device) ** 2
        for way in range(1, _WAYS + 1):
            signs = torch.cos(way * squares + way - 1).sign()
            nearby = y * (1 + _DIGITS * eps * signs.reshape(y.shape))
            noise = to_numpy(flow.norm(flow.reference(nearby) - reference))
            gap = np.maximum(gap - _ROUND_OFF * noise, 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # infinite states have an error of NaN
        return _worst(np.where((size == 0) & (gap == 0), 0.0, gap / size))


def relative_error(flow: Flow, ys: Tensor, truth: Tensor) -> float:
    """Compute the largest `Flow.relative_distance`, ‖y − truth‖ over the largest ‖truth‖.

    Parameters
    ----------
    flow : Flow
        The flow, with the norm of its states.
    ys, truth : Tensor, shape (T, ..., *state)
        States at the same times.

    Returns
    -------
    float
        The maximum over times and members; infinite where a state is NaN.

    Examples
    --------
    >>> import torch, gflow
    >>> flow, u = gflow.KernelFlow.example()
    >>> truth = torch.ones(2, 5).double()
    >>> round(relative_error(flow, 1.25 * truth, truth), 12)
    0.25
    """
    worst = _worst(to_numpy(flow.relative_distance(ys, truth)))
    return worst if not math.isnan(worst) else math.inf
