r"""L(θ) = Σ_r L_r(θ), its derivatives and the outputs, over processes r of a team.

The results can be differentiated like those of one process: each derivative is again a sum over
processes (`gflow.flows.objective.known_derivatives`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

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
from gflow.flows.objective.known_derivatives import KnownDerivatives
from gflow.flows.objective.network_loss import criterion_value

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
    criterion_value,
    _derivative,
)


class SampleSums(KnownDerivatives):
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
        needs_graph = torch.is_grad_enabled() and any(x.requires_grad for x in (y, *vs))
        if summand is criterion_value or not needs_graph:  # it is only measured
            return self._totals[summand](y, *vs)
        if summand is gradient_and_product:
            gradient = self.derivative(y)
            return gradient, self.derivative(y, *(vs or (gradient,)))
        if summand is gradient_by_torch_func:
            return (self.derivative(y),)
        loss = self.value(y)
        return (loss,) if summand is value else (loss, self.derivative(y))

    def outputs(self, y: Tensor) -> Tensor:
        """Compute the outputs on all samples, (..., n, …)."""
        return self._rows_first(y).movedim(0, y.ndim - 1)

    def compute_value(self, y: Tensor) -> Tensor:
        return self._totals[value](y)[0]

    def compute_derivative(self, y: Tensor, *vs: Tensor) -> Tensor:
        return self._totals[_derivative](y, *vs)[0]
