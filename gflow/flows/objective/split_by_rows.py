r"""L(θ) = Σ_r L_r(θ), its derivatives and the outputs, over processes r of a team.

The results can be differentiated like those of one process, any number of times: the k-th
derivative of a scalar function is a symmetric tensor, so the derivative of

    D(θ; v_1, …, v_k) = ∇^{k+1}L(θ)·v_1⋯v_k

along w is D(θ; v_1, …, v_k, w) in θ and D(θ; v_1, …, w, …, v_k) in v_i, each of them again a sum
over processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gflow.flows.objective.differentiation import (
    Objective,
    derivative,
    gradient_and_product,
    gradient_by_torch_func,
    value,
    value_and_gradient,
)

if TYPE_CHECKING:
    from gflow.distributed import Team

#: (objective, θ, …) → tensors that are sums over the samples of the objective.
Summand = Callable[..., Sequence[Tensor]]


def _derivative(objective: Objective, theta: Tensor, *vs: Tensor) -> tuple[Tensor]:
    return (derivative(objective, theta, *vs),)


_SUMMANDS: tuple[Summand, ...] = (
    value,
    value_and_gradient,
    gradient_and_product,
    gradient_by_torch_func,
    _derivative,
)


class SampleSums:
    """Sums over all samples of a team, from the sums over each process's samples.

    Parameters
    ----------
    team : Team
        The processes.
    local_sum : callable
        ``local_sum(summand, θ, …)``: the sum over this process's samples.
    local_outputs : callable
        θ (..., p) → the outputs on them, (..., rows, …).
    n : int
        Number of samples in all.
    like : Tensor
        A tensor of the dtype and device of θ.
    """

    def __init__(
        self,
        team: Team,
        local_sum: Callable[..., Sequence[Tensor]],
        local_outputs: Callable[[Tensor], Tensor],
        n: int,
        like: Tensor,
    ):
        def rows_first(y: Tensor) -> Tensor:
            return local_outputs(y).movedim(y.ndim - 1, 0)

        self._totals = {f: team.total(partial(local_sum, f), like) for f in _SUMMANDS}
        self._rows_first = team.concatenation(rows_first, n, like)

    def sum(self, summand: Summand, y: Tensor, *vs: Tensor) -> Sequence[Tensor]:
        """Sum over all samples, as part of the graph."""
        if not (torch.is_grad_enabled() and any(x.requires_grad for x in (y, *vs))):
            return self._totals[summand](y, *vs)
        if summand is gradient_and_product:
            gradient = self.derivative(y)
            return gradient, self.derivative(y, *(vs or (gradient,)))
        if summand is gradient_by_torch_func:
            return (self.derivative(y),)
        loss: Tensor = _Value.apply(self, y)
        return (loss,) if summand is value else (loss, self.derivative(y))

    def outputs(self, y: Tensor) -> Tensor:
        """Compute the outputs on all samples, (..., n, …)."""
        return self._rows_first(y).movedim(0, y.ndim - 1)

    def total(self, summand: Summand, *tensors: Tensor) -> Tensor:
        """Sum over all samples to one number or vector, without its graph."""
        return self._totals[summand](*tensors)[0]

    def derivative(self, y: Tensor, *vs: Tensor) -> Tensor:
        """Compute D(θ; v_1, …, v_k), as part of the graph."""
        result: Tensor = _Derivative.apply(self, y, *vs)
        return result


class _Value(torch.autograd.Function):
    """L(θ)."""

    @staticmethod
    def forward(ctx: Any, sums: SampleSums, y: Tensor) -> Tensor:
        ctx.sums = sums
        ctx.save_for_backward(y)
        return sums.total(value, y)

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> tuple[None, Tensor]:
        (y,) = ctx.saved_tensors
        return None, along[0][..., None] * ctx.sums.derivative(y)


class _Derivative(torch.autograd.Function):
    """D(θ; v_1, …, v_k)."""

    @staticmethod
    def forward(ctx: Any, sums: SampleSums, *tensors: Tensor) -> Tensor:
        ctx.sums = sums
        ctx.save_for_backward(*tensors)
        return sums.total(_derivative, *tensors)

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:
        sums, (y, *vs), w = ctx.sums, ctx.saved_tensors, along[0]
        gradients: list[Tensor | None] = [None]
        for i, is_needed in enumerate(ctx.needs_input_grad[1:]):
            directions = [*vs, w] if i == 0 else [*vs[: i - 1], w, *vs[i:]]
            gradients.append(sums.derivative(y, *directions) if is_needed else None)
        return tuple(gradients)
