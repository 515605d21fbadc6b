r"""``tsit5`` and ``dop853``: explicit Runge–Kutta methods for flows that are not stiff.

    k_i = h·F(t + c_i h, z + Σ_{j<i} a_ij k_j),   z⁺ = z + Σ b_i k_i

Tsitouras (2011), Comput. Math. Appl. 62, 770-775, table 1: order 5 with an error
estimate of order 4 (its local error is O(h⁵)), 6 evaluations a step. Hairer, Nørsett &
Wanner, Solving Ordinary Differential Equations I (2nd ed.), section II.10: order 8 with
estimates of orders 5 and 3 combined as in their eq. 10.17, 12 evaluations a step.

Both have a last stage at c = 1 beside the end of the step, so the difference of the two
slopes over the difference of the two states measures h|λ| of the stiffest mode for free
(their section IV.2). `auto` detects stiffness by it.
"""

from __future__ import annotations

import functools
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.solvers.base import Increment, Step, Stepper
from gflow.solvers.elementwise import where
from gflow.solvers.tableaus import DOP853, TSIT5, Tableau


class _Slopes(NamedTuple):
    """Memory for the increments k_i of a step, and views of it."""

    rows: tuple[Tensor, ...]  #: each k_i, (members, entries)
    first: list[Tensor]  #: the first 0, 1, 2, … of them as columns

    @classmethod
    def like(cls, y: Tensor, count: int) -> _Slopes:
        K = y.new_empty(count, *y.shape)
        columns = K.view(count, -1).t()
        return cls(K.unbind(), [columns[:, :i] for i in range(count + 1)])

    def fit(self, y: Tensor) -> bool:
        """Return whether the memory fits states like y."""
        row = self.rows[0]
        return (row.shape, row.dtype, row.device) == (y.shape, y.dtype, y.device)


class ExplicitStepper(Stepper):
    """A Runge–Kutta method given by its tableau; a step's last slope is the first of the next."""

    tableau: ClassVar[Tableau]
    _slopes: _Slopes | None = None  # reused from step to step

    def stages(self, reach: float) -> int:
        return len(self.tableau.a)

    def reach(self, stages: int) -> float:
        return self.tableau.stability

    def step(
        self, increment: Increment, y: Tensor, k0: Tensor, stages: int, h: float = 1.0
    ) -> Step:
        table = self.tableau
        a, b, errors = _tensors(table, y.dtype, y.device)
        if self._slopes is None or not self._slopes.fit(y):
            self._slopes = _Slopes.like(y, len(table.a) + 1)
        rows, first = self._slopes
        start, Y = y.view(-1), y
        rows[0].copy_(k0)
        for i in range(1, len(a)):
            Y = torch.addmv(start, first[i], a[i], alpha=h).view_as(y)
            increment(table.c[i], Y, rows[i])
        end = torch.addmv(start, first[len(a)], b, alpha=h).view_as(y)
        k = increment(1.0, end, rows[-1])
        estimates = [torch.addmv(start, first[-1], e, beta=0, alpha=h) for e in errors]
        error = self.error([estimate.view_as(y) for estimate in estimates])

        def stiffness() -> Tensor:
            return h * vector_norm(k - rows[-2], dim=1) / vector_norm(end - Y, dim=1)

        return Step(end, k, error, stiffness)

    def energy(self, rates: np.ndarray, stages: int) -> np.ndarray:
        return np.dot(_weights(self.tableau), rates)

    def error(self, estimates: list[Tensor]) -> Tensor:
        """Return the error estimate from those of the tableau."""
        return estimates[0]


@functools.lru_cache(maxsize=16)
def _tensors(
    table: Tableau, dtype: torch.dtype, device: torch.device
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Return rows of a, b and the error weights on the device of the states."""

    def vector(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    errors = [vector(e) for e in table.errors]
    return [vector(row) for row in table.a], vector(table.b), errors


@functools.cache
def _weights(table: Tableau) -> np.ndarray:
    """Return b and the error weights as rows of one array."""
    return np.array([(*table.b, 0.0), *table.errors])


class Tsit5(ExplicitStepper):
    """Tsitouras' method of order 5."""

    name = "tsit5"
    error_order = 5
    tableau = TSIT5


class Dop853(ExplicitStepper):
    """Dormand and Prince's method of order 8."""

    name = "dop853"
    error_order = 8
    tableau = DOP853

    def error(self, estimates: list[Tensor]) -> Tensor:
        """Return the estimate of order 5, reduced by ‖e₅‖/√(‖e₅‖² + ‖e₃‖²/100)."""
        fifth, third = estimates
        small = vector_norm(fifth, dim=1)
        combined = torch.hypot(small, 0.1 * vector_norm(third, dim=1))
        return fifth * torch.where(combined > 0, small / combined, combined)[:, None]

    def energy(self, rates: np.ndarray, stages: int) -> np.ndarray:
        integral, fifth, third = super().energy(rates, stages)
        combined = np.hypot(fifth, 0.1 * third)
        return np.stack([integral, fifth * (abs(fifth) / where(combined > 0, combined, 1.0))])
