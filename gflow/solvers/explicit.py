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
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from gflow.linalg.arrays import Array, add_product, device, empty, matrix_product, row_norms, where
from gflow.linalg.large import is_large
from gflow.solvers import elementwise
from gflow.solvers.base import Increment, Step, Stepper
from gflow.solvers.tableaus import DOP853, TSIT5, Tableau


class _Slopes(NamedTuple):
    """Memory for the increments k_i of a step, and views of it."""

    rows: list[Any]  #: each k_i, (members, entries)
    first: list[Any]  #: the first 0, 1, 2, … of them as columns

    @classmethod
    def like(cls, y: Array, count: int) -> _Slopes:
        K = empty((count, *y.shape), y)
        columns = K.reshape(count, -1).T
        return cls(list(K), [columns[:, :i] for i in range(count + 1)])

    def fit(self, y: Array) -> bool:
        """Return whether the memory fits states like y."""
        row = self.rows[0]
        return (row.shape, row.dtype, device(row)) == (y.shape, y.dtype, device(y))


class ExplicitStepper(Stepper):
    """A Runge–Kutta method given by its tableau; a step's last slope is the first of the next."""

    tableau: ClassVar[Tableau]
    _slopes: _Slopes | None = None  # reused from step to step

    def stages(self, reach: float) -> int:
        return len(self.tableau.a)

    def reach(self, stages: int) -> float:
        return self.tableau.stability

    def step(self, increment: Increment, y: Array, k0: Array, stages: int, h: float = 1.0) -> Step:
        table = self.tableau
        a, b, errors = _tableau_like(table, y.dtype, device(y))
        slopes = self._slopes
        if slopes is None or not slopes.fit(y):
            slopes = _Slopes.like(y, len(table.a) + 1)
            self._slopes = None if is_large(y) else slopes  # the steps of others follow
        rows, first = slopes
        start, Y = y.reshape(-1), y
        rows[0][...] = k0
        for i in range(1, len(a)):
            Y = add_product(start, first[i], a[i], h).reshape(y.shape)
            increment(table.c[i], Y, rows[i])
        end = add_product(start, first[len(a)], b, h).reshape(y.shape)
        k = increment(1.0, end, rows[-1])
        error = self.error([matrix_product(first[-1], h * e).reshape(y.shape) for e in errors])

        def stiffness() -> Array:
            return h * row_norms(k - rows[-2]) / row_norms(end - Y)

        return Step(end, k, error, stiffness)

    def energy(self, rates: np.ndarray, stages: int) -> np.ndarray:
        return np.dot(_weights(self.tableau), rates)

    def error(self, estimates: list[Array]) -> Array:
        """Return the error estimate from those of the tableau."""
        return estimates[0]


@functools.lru_cache(maxsize=16)
def _tableau_like(table: Tableau, dtype: Any, device: Any) -> tuple[Any, Any, Any]:
    """Return rows of a, b and the error weights, each as the states are."""

    def vector(values: tuple[float, ...]) -> Any:
        if device is None:
            return np.array(values, dtype)
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

    def error(self, estimates: list[Array]) -> Array:
        """Return the estimate of order 5, reduced by ‖e₅‖/√(‖e₅‖² + ‖e₃‖²/100)."""
        fifth, third = estimates
        small = row_norms(fifth)
        combined = (small**2 + 0.01 * row_norms(third) ** 2) ** 0.5
        return fifth * where(combined > 0, small / combined, combined)[:, None]

    def energy(self, rates: np.ndarray, stages: int) -> np.ndarray:
        integral, fifth, third = super().energy(rates, stages)
        combined = np.hypot(fifth, 0.1 * third)
        return np.stack(
            [integral, fifth * (abs(fifth) / elementwise.where(combined > 0, combined, 1.0))]
        )
