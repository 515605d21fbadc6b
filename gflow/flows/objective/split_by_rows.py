r"""L(θ) = Σ_r L_r(θ), its derivatives and the outputs, over processes r of a team.

The results can be differentiated like those of one process, as often as one likes: the k-th
derivative of a scalar function is a symmetric tensor, so that of

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
    by_torch_func,
    derivative,
    gradient_and_product,
    value,
    value_and_gradient,
)

if TYPE_CHECKING:
    from gflow.distributed import Team

#: (objective, θ, …) → tensors that add up over the samples of the objective.
Summand = Callable[..., Sequence[Tensor]]


def _derivative(objective: Objective, theta: Tensor, *vs: Tensor) -> tuple[Tensor]:
    return (derivative(objective, theta, *vs),)


_SUMMANDS: tuple[Summand, ...] = (
    value,
    value_and_gradient,
    gradient_and_product,
    by_torch_func,
    _derivative,
)


class Sums:
    """What a team knows of a loss, from what every process knows of its own samples.

    Parameters
    ----------
    team : Team
    own_sum : callable
        ``own_sum(summand, θ, …)``: over this process's samples.
    own_outputs : callable
        θ (..., p) → the outputs on them, (..., rows, …).
    n : int
        Samples in all.
    like : Tensor
        Of the dtype and device of θ.
    """

    def __init__(
        self,
        team: Team,
        own_sum: Callable[..., Sequence[Tensor]],
        own_outputs: Callable[[Tensor], Tensor],
        n: int,
        like: Tensor,
    ):
        def rows_first(y: Tensor) -> Tensor:
            return own_outputs(y).movedim(y.ndim - 1, 0)

        self._totals = {f: team.total(partial(own_sum, f), like) for f in _SUMMANDS}
        self._rows_first = team.concatenation(rows_first, n, like)

    def sum(self, summand: Summand, y: Tensor, *vs: Tensor) -> Sequence[Tensor]:
        """A summand over all samples."""
        if not (torch.is_grad_enabled() and any(x.requires_grad for x in (y, *vs))):
            return self._totals[summand](y, *vs)
        if summand is gradient_and_product:
            slope = self.derivative(y)
            return slope, self.derivative(y, *(vs or (slope,)))
        if summand is by_torch_func:
            return (self.derivative(y),)
        loss: Tensor = _Value.apply(self, y)
        return (loss,) if summand is value else (loss, self.derivative(y))

    def outputs(self, y: Tensor) -> Tensor:
        """The outputs on all samples, (..., n, …)."""
        return self._rows_first(y).movedim(0, y.ndim - 1)

    def total(self, summand: Summand, *tensors: Tensor) -> Tensor:
        """One number or vector, without its graph."""
        return self._totals[summand](*tensors)[0]

    def derivative(self, y: Tensor, *vs: Tensor) -> Tensor:
        """D(θ; v_1, …, v_k), as part of the graph."""
        found: Tensor = _Derivative.apply(self, y, *vs)
        return found


class _Value(torch.autograd.Function):
    """L(θ)."""

    @staticmethod
    def forward(ctx: Any, sums: Sums, y: Tensor) -> Tensor:
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
    def forward(ctx: Any, sums: Sums, *tensors: Tensor) -> Tensor:
        ctx.sums = sums
        ctx.save_for_backward(*tensors)
        return sums.total(_derivative, *tensors)

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:
        sums, (y, *vs), w = ctx.sums, ctx.saved_tensors, along[0]
        slopes: list[Tensor | None] = [None]
        for i, wanted in enumerate(ctx.needs_input_grad[1:]):
            others = [*vs, w] if i == 0 else [*vs[: i - 1], w, *vs[i:]]
            slopes.append(sums.derivative(y, *others) if wanted else None)
        return tuple(slopes)
