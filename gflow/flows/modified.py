r"""The modified flow: the flow that gradient descent with step size η follows more closely.

Backward error analysis of Euler's method on θ̇ = f(θ) (Hairer, Lubich & Wanner 2006, section IX.1):
descent is, up to O(η²) or O(η³), the flow of

    θ̇ = f − (η/2)f'f                                  (order 2)
    θ̇ = f − (η/2)f'f + η²(f''(f, f)/12 + f'f'f/3)     (order 3)

With f = −g, g = ∇L, H = ∇²L the first is −(g + (η/2)Hg), the gradient flow of L + (η/4)‖∇L‖²
(Barrett & Dherin 2021, arXiv:2009.11162, theorem 3.1). The second is the gradient flow of nothing:
its terms are −∇³L[g, g]/12 and −H²g/3, and a gradient would need them as 1 : 2. With heavy-ball
momentum β the first order-2 term is −½τs·f'f (`gflow.flows.momentum`).

Time unit: t = kη of descent on the same L, or kη/(1 − β) with momentum. Valid while η is below
2/λ_max of H, the stability limit.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gflow.checks import require_count, require_float, require_fraction, require_positive
from gflow.errors import InputError
from gflow.flows.base import Flow, ParameterFlow, split_ensemble
from gflow.flows.factorization import FactorFlow
from gflow.flows.momentum import inertia, slow_start, time_unit
from gflow.flows.wrapped import WrappedFlow

_APART = 1e-2  # of 1 + ‖y‖, between states whose Hessians are compared
_MISMATCH = 0.05  # relative, from which derivatives and differences of the Hessian contradict
_HALVINGS = 4  # of their distance, while the two still differ
_LOSSY = 1e-6  # relative error of a product that is itself a difference


class ModifiedFlow(WrappedFlow):
    """Gradient flow of L + (η/4)‖∇L‖²: what descent with step size η follows to order η².

    Parameters
    ----------
    flow : ParameterFlow
        The gradient flow of L. Descent acts on parameters: of a reduced flow take
        ``flow.parameter_flow`` and start from ``flow.lift(y0)``.
    step_size : float or Tensor
        Step size η > 0 of descent; a tensor of the shape of the ensemble gives each member its own.
    momentum : float
        Heavy-ball β in [0, 1); then start from ``start(y0)``.
    order : int
        2, or 3 for one term more (without momentum), which is no gradient: the loss, still
        L + (η/4)‖∇L‖², falls along it for small η only. An evaluation takes one Hessian product
        at order 2, and four at order 3.

    Raises
    ------
    InputError
        If the flow is not one of parameters, or a number is out of range.

    Notes
    -----
    ``loss`` is the modified loss, which certificates use; L itself is ``flow.flow.loss(y)``.
    Invariants of the flow of L, such as balancedness, are not conserved by this one.

    Examples
    --------
    >>> import torch, gflow
    >>> flow, U = gflow.FactorFlow.example()
    >>> modified = ModifiedFlow(flow, 0.1)
    >>> path = gflow.integrate(modified, U, [0.0, 1.0], rtol=1e-9, atol=1e-12)
    >>> plain = gflow.integrate(flow, U, [0.0, 1.0], rtol=1e-9, atol=1e-12)
    >>> gd = gflow.descend(flow, U, 0.1, 10)
    >>> bool((path.ys[-1] - gd.ys[-1]).norm() < 0.3 * (plain.ys[-1] - gd.ys[-1]).norm())
    True
    """

    title = "the modified flow"

    def __init__(
        self,
        flow: Flow,
        step_size: float | Tensor,
        *,
        momentum: float = 0.0,
        order: int = 2,
    ):
        super().__init__(flow)
        if isinstance(step_size, np.ndarray) and step_size.ndim:
            step_size = require_float("step_size", step_size)
        if isinstance(step_size, Tensor) and step_size.ndim:
            require_float("step_size", step_size)
            for step in step_size.flatten().tolist():
                require_positive("step_size", step)
        else:
            step_size = require_positive("step_size", step_size)
        momentum = require_fraction("momentum", momentum)
        order = require_count("order", order)
        if order not in (2, 3) or (order == 3 and momentum):
            raise InputError(
                f"order must be 2, or 3 without momentum, got {order} with momentum {momentum:g}"
            )
        self.step_size = step_size
        self.momentum = momentum
        self.order = order

    def _unit(self, y: Tensor, ndim: int) -> float | Tensor:
        """τ in a shape that broadcasts against tensors of ndim dimensions beyond the ensemble's."""
        if isinstance(self.step_size, float):
            return time_unit(self.step_size, self.momentum)
        steps = self.step_size.to(y).reshape(*self.step_size.shape, *[1] * ndim)
        return steps / (1 - self.momentum)

    def start(self, y0: Tensor) -> Tensor:
        """Return the start whose flow follows descent from rest at y0; y0 without momentum."""
        unit = self._unit(y0, self.state_ndim)
        return slow_start(self.flow, y0, unit, self.momentum)

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        velocity, acceleration = self.flow.velocity_and_acceleration(y)
        unit = self._unit(y, self.state_ndim)
        rate = velocity - 0.5 * inertia(self.momentum) * unit * acceleration
        if self.order == 2:
            return rate
        curvature = second_derivative(self.flow, y, velocity, velocity)
        return rate + unit * unit * (curvature / 12 + self.flow.jvp(y, acceleration) / 3)

    def loss(self, y: Tensor) -> Tensor:
        value, velocity = self.flow.loss_and_velocity(y)
        unit = self._unit(y, 0)
        squared_gradient = self.flow.dissipation(y, velocity)
        return value + 0.25 * inertia(self.momentum) * unit * squared_gradient

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        if self.order == 2:
            return super().dissipation(y, velocity)
        descent_direction = ModifiedFlow(self.flow, self.step_size)(0.0, y)
        return self.metric_inner(descent_direction, velocity)

    def reference(self, y: Tensor) -> Tensor:
        if self.order == 2:
            return super().reference(y)
        r = torch.ones_like(y) if self.parameter_rates is None else self.parameter_rates
        with torch.enable_grad():  # from the loss alone
            leaf = y.detach().requires_grad_()
            (g,) = torch.autograd.grad(self.flow.loss(leaf).sum(), leaf, create_graph=True)
            v = r * g.detach()
            (Hv,) = torch.autograd.grad(g, leaf, v, create_graph=True)
            (HHv,) = torch.autograd.grad(g, leaf, r * Hv.detach(), retain_graph=True)
            third = torch.zeros_like(v)
            if Hv.requires_grad:  # else the objective is quadratic, at least piece by piece
                (third,) = torch.autograd.grad((v * Hv).sum(), leaf)
        unit = self._unit(y, self.state_ndim)
        return -v - r * (0.5 * unit * Hv.detach() + unit * unit * (third / 12 + HHv / 3))

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        # Reverse mode twice: forward mode does not pass through every flow's product.
        product: Tensor = torch.autograd.functional.jvp(lambda s: self(0.0, s), y, v)[1]
        return product

    def _wrap(self, flow: Flow, index: Tensor) -> Flow:
        steps = self.step_size
        if isinstance(steps, Tensor) and steps.ndim:
            steps = steps.reshape(-1)[index.to(steps.device)]
        return ModifiedFlow(flow, steps, momentum=self.momentum, order=self.order)

    def check_state(self, y: Tensor) -> None:
        super().check_state(y)
        if self.order == 3:
            self._require_second_derivative(y)
        batch = self.for_start(y).batch_shape(y)
        if isinstance(self.step_size, Tensor) and self.step_size.shape not in ((), batch):
            raise InputError(
                "step_size must be one number or have the shape of the ensemble, "
                f"{tuple(batch)}, got {tuple(self.step_size.shape)}; expand it"
            )

    def _require_second_derivative(self, y: Tensor) -> None:
        """Raise InputError unless torch has the right third derivatives of the loss."""
        state = split_ensemble(y, self.state_ndim)[0][0]
        # Kinks that are passed between two states are not met between closer ones.
        if not any(
            second_derivative_agrees(self.flow, state, apart * _APART) for apart in (1, 0.1, 0.01)
        ):
            raise InputError(
                "the modified flow of order 3 needs third derivatives of the loss, but those of "
                "torch are not the slopes of its Hessian; take order 2, or replace the operation "
                "of which torch has no right third derivative"
            )

    @classmethod
    def example(cls) -> tuple[ModifiedFlow, Tensor]:
        flow, start = FactorFlow.example()
        return cls(flow, 0.05), start


def second_derivative(flow: Flow, y: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """Compute f''(v, w) of a gradient flow f.

    It is the gradient of ⟨v, f'(y)w⟩, by the symmetry of ∇³L; in the metric of the flow's rates.

    Parameters
    ----------
    flow : ParameterFlow
        The gradient flow f = −∇L.
    y : Tensor, shape (..., *state)
        A state or an ensemble.
    v, w : Tensor, shape (..., *state)
        Directions.

    Returns
    -------
    Tensor, shape (..., *state)
        The second derivative; zero where L is quadratic.

    Examples
    --------
    >>> import torch, gflow
    >>> flow = gflow.FactorFlow(gflow.losses.SquaredDistance(torch.zeros(1, 1).double()))
    >>> one = torch.ones(1, 1).double()   # L = u⁴/2, f = −2u³
    >>> second_derivative(flow, 3 * one, one, one).item()
    -36.0
    """
    differentiable = torch.is_grad_enabled() and y.requires_grad
    with torch.enable_grad():
        # A clone: where the caller differentiates, v and w depend on y too.
        leaf = y.clone() if differentiable else y.detach().requires_grad_()
        first, second = (v, w) if differentiable else (v.detach(), w.detach())
        rates = flow.parameter_rates if isinstance(flow, ParameterFlow) else None
        first = first if rates is None else first / rates
        value = (first * flow.jvp(leaf, second)).sum()
        if not value.requires_grad:  # a quadratic objective
            return torch.zeros_like(y)
        (gradient,) = torch.autograd.grad(
            value, leaf, create_graph=differentiable, allow_unused=True
        )
    if gradient is None:
        return torch.zeros_like(y)
    return gradient if rates is None else rates * gradient


def second_derivative_agrees(flow: Flow, y: Tensor, apart: float = _APART) -> bool:
    """Return whether f''(v, v) is the slope of f'v, along one direction v.

    It is not where the Hessian jumps between the states compared, nor where torch's derivative of
    an operation is wrong.

    Parameters
    ----------
    flow : ParameterFlow
        The gradient flow f = −∇L.
    y : Tensor, shape (*state)
        A state.
    apart : float
        Distance of y to the states compared, relative to 1 + ‖y‖.

    Returns
    -------
    bool

    Examples
    --------
    >>> import torch, gflow
    >>> flow = gflow.FactorFlow(gflow.losses.SquaredDistance(torch.zeros(1, 1).double()))
    >>> second_derivative_agrees(flow, torch.ones(1, 1).double())
    True
    """
    mismatch = _mismatch(flow, y, apart)
    for _ in range(_HALVINGS):
        if mismatch <= _MISMATCH:
            return True
        # Of a smooth f it falls to about a quarter; at kinks, and for wrong derivatives, it stays.
        apart, before = apart / 2, mismatch
        mismatch = _mismatch(flow, y, apart)
        if not 0.1 < mismatch / before < 0.7:
            return False
    return mismatch <= _MISMATCH


def _mismatch(flow: Flow, y: Tensor, apart: float) -> float:
    """Return how far f''(v, v) is from differences, of what is above round-off."""
    v = torch.cos(1.3 * torch.arange(y.numel(), device=y.device) + 0.4).to(y).reshape(y.shape)
    v = v / flow.norm(v)
    h = apart * (1 + flow.norm(y))
    along = second_derivative(flow, y, v, v)
    ahead, behind = flow.jvp(y + h * v, v), flow.jvp(y - h * v, v)
    differences = (ahead - behind) / (2 * h)
    noise = _LOSSY * torch.maximum(ahead.abs().max(), behind.abs().max()) / h
    distance = flow.norm(along - differences)
    if not bool(torch.isfinite(distance)):
        return math.inf
    size = torch.maximum(flow.norm(along), flow.norm(differences))
    return float((distance - noise).clamp(min=0) / size.clamp(min=torch.finfo(y.dtype).tiny))
