r"""The normalised flow: the path of a flow on the clock dτ = φ dt,

    dθ/dτ = −∇φ/φ = −∇log φ,

for losses with an exponential tail, which fall for ever: on its own clock the flow takes a time
of 1/φ, and φ underflows; on this one a homogeneous network moves steadily, and log φ has no end
(Lyu & Li 2020, arXiv:1906.05890, section 4 and appendix L of their normalised time).

Of a network that is homogeneous of degree L in its parameters, f(cθ) = c^L f(θ), directions tend
to a margin that cannot be improved: q_min/‖θ‖^L is the normalised margin, and the smoothed margin,
of the sum of all losses in place of the least margin, never falls.

Time unit: τ = Σ φ·step_size of descent on φ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gflow.checks import require_dtype_and_device, require_finite, require_float, require_times
from gflow.errors import InputError
from gflow.flows.base import Flow, Observables
from gflow.flows.network import NetworkFlow
from gflow.flows.objective.criteria import TailCriterion
from gflow.flows.wrapped import WrappedFlow

if TYPE_CHECKING:
    import numpy as np

_HOMOGENEOUS = 1e-6  # relative error of f(cθ) = c^L f(θ) of a homogeneous network
_DOUBLINGS = (1, 10, 20)  # log₂ c
_NODES = 20  # of a Gauss rule on one interval of log_time
_FALL = 4.0  # of log φ, at most, on one interval


class NormalisedFlow(WrappedFlow):
    """The path of a `NetworkFlow` with a named criterion on the clock dτ = φ dt: −∇log φ.

    Parameters
    ----------
    flow : NetworkFlow
        With the criterion ``"cross-entropy"``, ``"logistic"`` or ``"exponential"``, not in chunks.
    direction : Tensor, shape (p,), optional
        To which the observable ``angle`` is measured, such as the maximum-margin one.

    Attributes
    ----------
    degree : float or None
        L of a homogeneous network, measured at the start of ``flow``; None of any other.

    Raises
    ------
    InputError
        If the flow is another one, is split in chunks or processes, has weight decay or rates, or
        the direction does not fit.

    Notes
    -----
    The state is that of ``flow``: ``pack()`` makes it. ``loss`` is log φ, which certificates use.
    Observables: ``loss`` and ``log_loss``, both log φ; ``norm`` ‖θ‖; of a homogeneous network
    ``margin`` and ``smoothed_margin``, normalised by ‖θ‖^L; ``angle`` in radians. `log_time` has
    the time t of the flow itself.

    Examples
    --------
    >>> import torch, gflow
    >>> X = torch.tensor([[2.0, 1.0], [-1.0, -2.0]], dtype=torch.float64)
    >>> linear = torch.nn.Linear(2, 1, bias=False).double()
    >>> inner = gflow.NetworkFlow(linear, "logistic", X, torch.tensor([1, 0]))
    >>> best = torch.ones(2, dtype=torch.float64)
    >>> flow = gflow.NormalisedFlow(inner, best)
    >>> path = gflow.integrate(flow, 0 * flow.pack(), [0.0, 1000.0])
    >>> seen = path.observables()
    >>> bool(seen["log_loss"][-1] < -700), bool(seen["angle"][-1] < 1e-3)   # φ < 1e-304
    (True, True)
    >>> round(seen["margin"][-1].item(), 4)    # 3/√2
    2.1213
    """

    title = "the normalised flow"
    flow: NetworkFlow

    def __init__(self, flow: NetworkFlow, direction: Tensor | None = None):
        super().__init__(flow)
        self._log_flow, self._criterion, self._targets = _log_flow(flow)
        self.degree = _degree(self._log_flow)
        if direction is not None:
            direction = require_float("direction", direction)
            require_finite("direction", direction)
            require_dtype_and_device("direction", direction, flow.pack(), "the flow's data")
            if direction.shape != flow.state_shape or not bool(direction.any()):
                raise InputError(
                    f"direction must be a nonzero vector of shape {flow.state_shape}, got shape "
                    f"{tuple(direction.shape)}"
                )
        self._direction = direction

    def pack(self, parameters: dict[str, Tensor] | None = None) -> Tensor:
        """Concatenate named parameters (by default the module's at construction) to one state."""
        return self.flow.pack(parameters)

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        return self._log_flow(t, y)

    def loss(self, y: Tensor) -> Tensor:
        """Compute log φ."""
        return self._log_flow.loss(y)

    def loss_and_velocity(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._log_flow.loss_and_velocity(y)

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        return self._log_flow.jvp(y, v)

    def linearised(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        return self._log_flow.linearised(y)

    def velocity_and_acceleration(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._log_flow.velocity_and_acceleration(y)

    def reference(self, y: Tensor) -> Tensor:
        return self._log_flow.reference(y)

    def observables(self, y: Tensor) -> Observables:
        """Measure log φ, ‖θ‖, the normalised margins of a homogeneous network, and the angle."""
        log_loss, norm = self.loss(y), y.norm(dim=-1)
        seen = {"loss": log_loss, "log_loss": log_loss, "norm": norm}
        if self.degree is not None:
            margins = self._criterion.margins(self.end_to_end(y), self._targets)
            smoothed = self._criterion.smoothed_margin(log_loss, len(self._targets))
            size = norm.clamp_min(torch.finfo(y.dtype).tiny) ** self.degree
            seen |= {"margin": margins.amin(-1) / size, "smoothed_margin": smoothed / size}
        if self._direction is not None:
            unit = self._direction / self._direction.norm()
            along = y @ unit
            across = (y - along[..., None] * unit).norm(dim=-1)
            seen["angle"] = torch.atan2(across, along)
        return seen

    def log_time(self, ts: Tensor, ys: Tensor) -> Tensor:
        """Compute log t of the flow itself along a path, t = ∫ dτ/φ from its first state.

        Parameters
        ----------
        ts : Tensor, shape (T,)
            Times τ of a path, close enough for a cubic interpolation of log φ between them.
        ys : Tensor, shape (T, ..., p)
            States there.

        Returns
        -------
        Tensor, shape (T, ...)
            −∞ at the first.
        """
        import numpy as np

        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        times = require_times(ts).to(ys)
        values, slopes = [], []
        for y in ys:
            value, velocity = self.loss_and_velocity(y)
            values.append(value)
            slopes.append(-self.inner(velocity, velocity))
        total = torch.full_like(values[0], -math.inf)
        logs = [total]
        for i in range(len(times) - 1):
            step = times[i + 1] - times[i]
            fall = float((values[i] - values[i + 1]).abs().max())
            for s, w in _gauss(nodes, weights, max(1, math.ceil(fall / _FALL))):
                log_loss = _hermite(s, step, values[i : i + 2], slopes[i : i + 2])
                total = torch.logaddexp(total, math.log(w) + step.log() - log_loss)
            logs.append(total)
        return torch.stack(logs)

    def _wrap(self, flow: Flow, index: Tensor) -> Flow:
        return self

    @classmethod
    def example(cls) -> tuple[NormalisedFlow, Tensor]:
        i = torch.arange(6, dtype=torch.float64)
        module = torch.nn.Sequential(
            torch.nn.Linear(2, 3, bias=False), torch.nn.Tanh(), torch.nn.Linear(3, 1)
        ).double()
        X = torch.stack([torch.cos(i), torch.sin(2 * i)], dim=-1)
        inner = NetworkFlow(module, "logistic", X, (torch.sin(i) > 0).double())
        return cls(inner), 1.5 * torch.cos(torch.arange(10, dtype=torch.float64) * 1.3 + 0.5)


def _log_flow(flow: NetworkFlow) -> tuple[NetworkFlow, TailCriterion, Tensor]:
    """Return the flow of log φ, the criterion and the targets; InputError where there is none."""
    network = flow if isinstance(flow, NetworkFlow) else None
    if network is None or not isinstance(network.criterion, TailCriterion):
        got = type(flow).__name__ if network is None else "another criterion"
        raise InputError(
            "the normalised flow needs a NetworkFlow whose criterion is given by name, "
            f'"cross-entropy", "logistic" or "exponential", got {got}'
        )
    if network.is_split:
        raise InputError(
            "the normalised flow needs all samples at once, as log φ is no sum over samples, got "
            "a flow in chunks or across processes; make it without chunk and team"
        )
    if network.parameter_rates is not None or network.is_regularised:
        raise InputError(
            "the normalised flow is that of the criterion alone, got a flow with weight decay, "
            "penalty or rates; make it without weight_decay, penalty and rates"
        )
    inputs, targets = network.samples
    criterion = network.criterion
    return NetworkFlow(network.module, criterion.log, inputs, targets), criterion, targets


def _degree(flow: NetworkFlow) -> float | None:
    """Return L where f(cθ) = c^L f(θ) at the module's parameters, or near them where f is 0.

    Large factors c tell a network that is nearly linear near them from a homogeneous one.
    """
    theta = flow.pack()
    i = torch.arange(theta.numel(), dtype=theta.dtype, device=theta.device)
    theta = theta + 0.1 * torch.cos(1 + i * i)
    with torch.no_grad():
        once = flow.end_to_end(theta)
        scaled = [(exponent, flow.end_to_end(2.0**exponent * theta)) for exponent in _DOUBLINGS]
    size = float(once.norm())
    if not 0 < size < math.inf:
        return None
    direction = once / size
    degree: float | None = None
    for exponent, outputs in scaled:
        growth = float((direction * outputs).sum()) / size
        if degree is None:
            degree = round(math.log2(growth), 3) if 0 < growth < math.inf else 0.0
        elif not math.isfinite(growth):
            break  # an overflow says nothing
        error = float((outputs / 2 ** (exponent * degree) - once).norm()) / size
        allowed = max(_HOMOGENEOUS, 1e3 * exponent * torch.finfo(theta.dtype).eps)
        if degree <= 0 or not error <= allowed:
            return None
    return degree


def _gauss(nodes: np.ndarray, weights: np.ndarray, parts: int) -> list[tuple[float, float]]:
    """Return nodes and weights of a Gauss rule on (0, 1) in equal parts."""
    return [
        ((part + 0.5 * (1 + x)) / parts, 0.5 * w / parts)
        for part in range(parts)
        for x, w in zip(nodes.tolist(), weights.tolist(), strict=True)
    ]


def _hermite(s: float, step: Tensor, values: list[Tensor], slopes: list[Tensor]) -> Tensor:
    """Interpolate values and slopes at both ends of a step, at a fraction s of it."""
    a = (1 + 2 * s) * (1 - s) ** 2 * values[0] + s * s * (3 - 2 * s) * values[1]
    return a + step * s * (1 - s) * ((1 - s) * slopes[0] - s * slopes[1])
