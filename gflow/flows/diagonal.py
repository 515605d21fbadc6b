r"""Diagonal linear networks, w = u^N − v^N by entries.

On φ(u, v) = 1/(2n)‖Xw − y‖², with g = Xᵀ(Xw − y)/n (Woodworth et al. 2020, arXiv:2002.09277),

    u̇ = −N u^{N−1} ∘ g,    v̇ = N v^{N−1} ∘ g

conserves u∘v at N = 2, and u^{2−N} + v^{2−N} at N ≥ 3. At depth 2 the path from u = v = α·1 moves
in the n variables of `gflow.flows.diagonal_dual`, in which starts of any size stay accurate.

Time unit: t = k·step_size of descent on u and v, with φ a mean over samples.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gflow.checks import (
    require_count,
    require_dtype_and_device,
    require_finite,
    require_float,
    require_nonempty,
    require_number,
    require_positive,
)
from gflow.errors import InputError
from gflow.flows.array_form import ArrayForm, squared_speed
from gflow.flows.base import Coordinates, Flow, Observables, ParameterFlow
from gflow.flows.diagonal_dual import DualFlow, weight_observables
from gflow.linalg.arrays import Array, shared_array


def diagonal_rhs(u: Array, v: Array, slope: Array, depth: int) -> tuple[Array, Array]:
    """Compute u̇ = −N u^{N−1} ∘ g and v̇ = N v^{N−1} ∘ g.

    Parameters
    ----------
    u, v : Tensor or array, shape (..., d)
        The factors.
    slope : Tensor or array, shape (..., d)
        g, the gradient of the loss by w.
    depth : int
        N.

    Returns
    -------
    (u̇, v̇), each of shape (..., d)

    Examples
    --------
    >>> import torch
    >>> diagonal_rhs(torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([-1.0]), 3)
    (tensor([12.]), tensor([-3.]))
    """
    return -depth * u ** (depth - 1) * slope, depth * v ** (depth - 1) * slope


class DiagonalFlow(ParameterFlow):
    """Gradient flow of u and v in w = u^N − v^N on 1/(2n)‖Xw − y‖².

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        Inputs X, one sample a row.
    targets : Tensor, shape (n,)
        Targets y.
    depth : int
        N ≥ 2.

    Raises
    ------
    InputError
        If shapes do not fit, an argument is not finite, or the depth is below 2.

    Notes
    -----
    The state is [u; v], (..., 2d). At depth 2 a state of n + 1 numbers is [ν; log α] of the dual
    variable of `gflow.flows.diagonal_dual`: ``start(log_scale=…)`` makes it, for starts that no
    floating-point number holds. `gflow.integrate` follows a depth-2 start without zeros in that
    variable by itself, where n < 2d.

    Examples
    --------
    >>> import torch, gflow
    >>> X = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    >>> flow = gflow.DiagonalFlow(X, torch.ones(1, dtype=torch.float64))
    >>> path = gflow.integrate(flow, flow.start(1e-3), [0.0, 100.0])
    >>> [round(x, 2) for x in flow.end_to_end(path.ys[-1]).tolist()]   # of least ‖w‖₁
    [0.0, 0.5]
    >>> path = gflow.integrate(flow, flow.start(log_scale=-2302.6), [0.0, 5000.0])
    >>> [round(x, 6) for x in flow.end_to_end(path.ys[-1]).tolist()]
    [0.0, 0.5]
    """

    observable_dims: ClassVar = {"weights": ("coordinate",)}

    def __init__(self, inputs: Tensor, targets: Tensor, depth: int = 2):
        inputs, targets = require_float("inputs", inputs), require_float("targets", targets)
        for name, value in (("inputs", inputs), ("targets", targets)):
            require_finite(name, value)
            require_nonempty(name, value)
            require_dtype_and_device(name, value, inputs, "inputs")
        if inputs.ndim != 2 or targets.shape != inputs.shape[:1]:
            raise InputError(
                "inputs must have shape (n, d) and targets (n,), "
                f"got {tuple(inputs.shape)} and {tuple(targets.shape)}; reshape them"
            )
        self.inputs, self.targets = inputs, targets
        self.depth = require_count("depth", depth)
        if self.depth < 2:
            raise InputError(f"depth must be at least 2, got {self.depth}; w = u^N − v^N")

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (2 * self.inputs.shape[1],)

    @property
    def reference_tensor(self) -> Tensor:
        return self.inputs

    # -- the two forms of a state ---------------------------------------------------

    @property
    def _dual(self) -> DiagonalDualFlow:
        return DiagonalDualFlow(self.inputs, self.targets)

    def _is_dual(self, y: object) -> bool:
        length = len(self.targets) + 1
        is_other = self.depth == 2 and length != self.state_shape[0]
        return is_other and isinstance(y, Tensor) and y.shape[-1:] == (length,)

    def check_state(self, y: Tensor) -> None:
        if self._is_dual(y):
            self._dual.check_state(y)
        else:
            super().check_state(y)

    def for_start(self, y0: Tensor) -> Flow:
        """Return this flow, or that of the dual variable for a start [ν; log α]."""
        return self._dual if self._is_dual(y0) else self

    def start(self, scale: float | None = None, *, log_scale: float | None = None) -> Tensor:
        """Return the start u = v = α·1.

        Parameters
        ----------
        scale : float, optional
            α > 0: the state is [u; v], (2d,).
        log_scale : float, optional
            log α, at depth 2, in place of ``scale``: the state is [ν; log α], (n + 1,), ν = 0.

        Returns
        -------
        Tensor

        Raises
        ------
        InputError
            If both or neither are given; with ``log_scale``, if the depth is not 2 or n + 1 = 2d,
            where the two forms of a state cannot be told apart.
        """
        if (scale is None) == (log_scale is None):
            raise InputError("start needs one of scale and log_scale; write start(0.01)")
        if log_scale is None:
            alpha = require_positive("scale", scale)
            return self.inputs.new_full(self.state_shape, alpha)
        n, d = self.inputs.shape
        if self.depth != 2:
            raise InputError(
                f"log_scale needs depth 2, got depth {self.depth}; give scale, α itself"
            )
        if n + 1 == 2 * d:
            raise InputError(
                "log α needs another number of inputs than half of samples + 1, but n + 1 = 2d = "
                f"{2 * d}, where [ν; log α] is as long as [u; v]; use one input more"
            )
        log_alpha = require_number("log_scale", log_scale)
        if not math.isfinite(log_alpha):
            raise InputError(f"log_scale must be finite, got {log_alpha}; give log α, not α")
        return self._dual.start(log_alpha)

    # -- the flow ---------------------------------------------------------------------

    def end_to_end(self, y: Tensor) -> Tensor:
        """Compute w, shape (..., d)."""
        if self._is_dual(y):
            return self._dual.end_to_end(y)
        u, v = y.chunk(2, dim=-1)
        return u**self.depth - v**self.depth

    def _residual(self, y: Tensor) -> Tensor:
        return self.end_to_end(y) @ self.inputs.mT - self.targets

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        return self.loss_and_velocity(y)[1]

    def loss(self, y: Tensor) -> Tensor:
        """Compute 1/(2n)‖Xw − y‖²."""
        return self._residual(y).square().sum(-1) / (2 * len(self.targets))

    def loss_and_velocity(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if self._is_dual(y):
            return self._dual.loss_and_velocity(y)
        residual = self._residual(y)
        slope = residual @ self.inputs / len(self.targets)
        u, v = y.chunk(2, dim=-1)
        rates = diagonal_rhs(u, v, slope, self.depth)
        loss = residual.square().sum(-1) / (2 * len(self.targets))
        return loss, torch.cat(rates, dim=-1)

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        if self._is_dual(y):
            return self._dual.jvp(y, v)
        N, n = self.depth, len(self.targets)
        signs = torch.ones_like(y)
        signs[..., y.shape[-1] // 2 :] = -1.0
        change = N * signs * y ** (N - 1) * v
        a, b = change.chunk(2, dim=-1)
        slope = self._residual(y) @ self.inputs / n
        bent = (a + b) @ self.inputs.mT @ self.inputs / n
        curvature = (N - 1) * y ** (N - 2) * v * torch.cat([slope, slope], dim=-1)
        return -N * signs * (curvature + y ** (N - 1) * torch.cat([bent, bent], dim=-1))

    def reference(self, y: Tensor) -> Tensor:
        return self._dual.reference(y) if self._is_dual(y) else super().reference(y)

    def array_form(self) -> ArrayForm | None:
        X, y = shared_array(self.inputs), shared_array(self.targets)
        if X is None or y is None or type(self) is not DiagonalFlow:
            return None
        depth, (n, d) = self.depth, X.shape

        def residual(state: np.ndarray) -> np.ndarray:
            powers = state**depth
            return X @ (powers[:d] - powers[d:]) - y

        def loss_and_velocity(state: np.ndarray) -> tuple[float, np.ndarray]:
            missing = residual(state)
            rates = diagonal_rhs(state[:d], state[d:], missing @ X / n, depth)
            return float(missing @ missing) / (2 * n), np.concatenate(rates)

        def loss(state: np.ndarray) -> float:
            missing = residual(state)
            return float(missing @ missing) / (2 * n)

        return ArrayForm(
            lambda state: loss_and_velocity(state)[1], loss, squared_speed, loss_and_velocity
        )

    def coordinates(self, y0: Tensor) -> Coordinates | None:
        """Return the dual variable, at depth 2, for a start without zeros, where it is shorter."""
        n, d = self.inputs.shape
        if self.depth != 2 or type(self) is not DiagonalFlow or n + 1 >= 2 * d or y0.ndim > 1:
            return None
        logs = 2 * y0.abs().log()
        if not bool(logs.isfinite().all()):
            return None
        both = (logs[:d], logs[d:])
        dual = DiagonalDualFlow(self.inputs, self.targets, both, has_scale=False)
        signs = y0.sign()
        return Coordinates(
            dual,
            dual.start(),
            lambda state: signs * dual.lift(state),
            note="in the dual variable",
        )

    # -- what is known of a state -------------------------------------------------------

    def invariants(self, y: Tensor) -> Observables:
        """Compute ``uv`` at depth 2, else (u^{2−N} + v^{2−N})^{1/(2−N)}, as ``smaller_factor``."""
        if self._is_dual(y):
            return self._dual.invariants(y)
        u, v = y.chunk(2, dim=-1)
        if self.depth == 2:
            return {"uv": u * v}
        power = self.depth - 2
        sizes = torch.stack([u.abs(), v.abs()])
        least, most = sizes.amin(dim=0), sizes.amax(dim=0)
        ratio = least / torch.where(most > 0, most, torch.ones_like(most))
        sign = (u * v).sign() if power % 2 else torch.ones_like(u)
        total = (1 + torch.where(sign < 0, -1.0, 1.0) * ratio**power).clamp_min(
            torch.finfo(y.dtype).eps
        )
        return {"smaller_factor": least / total ** (1 / power)}

    def observables(self, y: Tensor) -> Observables:
        """Measure loss, w as ``weights``, ‖w‖₁ and ‖w‖₂."""
        return {"loss": self.loss(y), **weight_observables(self.end_to_end(y))}

    @classmethod
    def example(cls) -> tuple[DiagonalFlow, Tensor]:
        i = torch.arange(3, dtype=torch.float64)
        X = 0.6 * torch.cos(1 + (2 + i[:, None]) * torch.arange(4, dtype=torch.float64))
        state = 0.7 + 0.3 * torch.sin(3 * torch.arange(8, dtype=torch.float64))
        return cls(X, torch.sin(2 + i)), state


class DiagonalDualFlow(DualFlow):
    """The flow of [ν; log α] that a `DiagonalFlow` of depth 2 induces; it makes this flow itself.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        X.
    targets : Tensor, shape (n,)
        y.
    log_squares : (Tensor, Tensor), each of shape (d,), optional
    has_scale : bool
        As in `gflow.flows.diagonal_dual.DualFlow`.

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = DiagonalDualFlow.example()
    >>> y0.shape, flow.end_to_end(y0).shape
    (torch.Size([4]), torch.Size([5]))
    """

    @property
    def parameter_flow(self) -> DiagonalFlow:
        """`DiagonalFlow` of the same data."""
        return DiagonalFlow(self.inputs, self.targets)

    @classmethod
    def example(cls) -> tuple[DiagonalDualFlow, Tensor]:
        i = torch.arange(3, dtype=torch.float64)
        X = 0.6 * torch.cos(1 + (2 + i[:, None]) * torch.arange(5, dtype=torch.float64))
        state = torch.tensor([0.3, -0.2, 0.1, -0.4], dtype=torch.float64)
        return cls(X, torch.sin(2 + i)), state
