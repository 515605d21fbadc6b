r"""A scalar function that is known by its derivatives, as part of torch's graph.

The results can be differentiated any number of times: the k-th derivative of a scalar function is
a symmetric tensor, so the derivative of

    D(θ; v_1, …, v_k) = ∇^{k+1}L(θ)·v_1⋯v_k

along w is D(θ; v_1, …, v_k, w) in θ and D(θ; v_1, …, w, …, v_k) in v_i. For functions that torch
cannot differentiate as they are evaluated: a sum over processes, or a module whose parameters are
overwritten.
"""

from __future__ import annotations

import abc
from typing import Any

import torch
from torch import Tensor


class KnownDerivatives(abc.ABC):
    """A scalar function L(θ) and its derivatives of every order."""

    @abc.abstractmethod
    def compute_value(self, y: Tensor) -> Tensor:
        """Compute L(θ), without its graph."""

    @abc.abstractmethod
    def compute_derivative(self, y: Tensor, *vs: Tensor) -> Tensor:
        """Compute D(θ; v_1, …, v_k), without its graph."""

    def compute_value_and_gradient(self, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute L(θ) and, where it is no further work, ∇L(θ), without their graph."""
        return self.compute_value(y), None

    def value(self, y: Tensor) -> Tensor:
        """Compute L(θ), as part of the graph."""
        result: Tensor = _Value.apply(self, y)
        return result

    def derivative(self, y: Tensor, *vs: Tensor) -> Tensor:
        """Compute D(θ; v_1, …, v_k), as part of the graph."""
        result: Tensor = _Derivative.apply(self, y, *vs)
        return result


class _Value(torch.autograd.Function):
    """L(θ)."""

    @staticmethod
    def forward(ctx: Any, function: KnownDerivatives, y: Tensor) -> Tensor:
        ctx.function, ctx.gradient = function, None
        ctx.save_for_backward(y)
        if not ctx.needs_input_grad[1]:
            return function.compute_value(y)
        value, ctx.gradient = function.compute_value_and_gradient(y)
        return value

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> tuple[None, Tensor]:
        (y,) = ctx.saved_tensors
        gradient = ctx.gradient
        if gradient is None or torch.is_grad_enabled():
            gradient = ctx.function.derivative(y)
        return None, along[0][..., None] * gradient


class _Derivative(torch.autograd.Function):
    """D(θ; v_1, …, v_k)."""

    @staticmethod
    def forward(ctx: Any, function: KnownDerivatives, *tensors: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*tensors)
        return function.compute_derivative(*tensors)

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:
        function, (y, *vs), w = ctx.function, ctx.saved_tensors, along[0]
        gradients: list[Tensor | None] = [None]
        for i, is_needed in enumerate(ctx.needs_input_grad[1:]):
            directions = [*vs, w] if i == 0 else [*vs[: i - 1], w, *vs[i:]]
            gradients.append(function.derivative(y, *directions) if is_needed else None)
        return tuple(gradients)
