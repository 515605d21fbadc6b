r"""``tsit5`` and ``dop853``: explicit Runge–Kutta methods for what is not stiff.

    k_i = h·F(t + c_i h, z + Σ_{j<i} a_ij k_j),   z⁺ = z + Σ b_i k_i

Tsitouras (2011), Comput. Math. Appl. 62, 770-775, table 1: order 5 with an error
estimate of order 4 (its local error is O(h⁵)), 6 evaluations a step. Hairer, Nørsett &
Wanner, Solving Ordinary Differential Equations I (2nd ed.), section II.10: order 8 with
estimates of orders 5 and 3 combined as in their eq. 10.17, 12 evaluations a step.

Both have a last stage at c = 1 beside the end of the step, so the difference of the two
slopes over the difference of the two states measures h|λ| of the stiffest mode for free
(their section IV.2): how `auto` notices stiffness.
"""

from __future__ import annotations

import functools
from typing import ClassVar

import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.solvers.base import Increment, Step, Stepper
from gflow.solvers.tableaus import DOP853, TSIT5, Tableau


class ExplicitStepper(Stepper):
    """A Runge–Kutta method given by its tableau; the slope at the end is the next's first."""

    tableau: ClassVar[Tableau]

    def stages(self, reach: float) -> int:
        return len(self.tableau.a)

    def reach(self, stages: int) -> float:
        return self.tableau.stability

    def step(self, increment: Increment, z: Tensor, k0: Tensor, stages: int) -> Step:
        table = self.tableau
        a, b, errors = _on(table, z.dtype, z.device)
        K = z.new_empty(len(table.a) + 1, *z.shape)
        start, slopes, rows = z.view(-1), K.view(len(K), -1).t(), K.unbind()
        rows[0].copy_(k0)
        Y = z
        for i in range(1, len(a)):
            Y = torch.addmv(start, slopes[:, :i], a[i]).view(z.shape)
            increment(table.c[i], Y, rows[i])
        z_new = torch.addmv(start, slopes[:, :-1], b).view(z.shape)
        k = increment(1.0, z_new, rows[-1])
        error = self.error([torch.mv(slopes, e).view(z.shape) for e in errors])

        def stiffness() -> Tensor:
            return vector_norm(k - rows[-2], dim=1) / vector_norm(z_new - Y, dim=1)

        return Step(z_new, k, error, stiffness)

    def error(self, estimates: list[Tensor]) -> Tensor:
        """The one error estimate from those of the tableau."""
        return estimates[0]


@functools.lru_cache(maxsize=16)
def _on(
    table: Tableau, dtype: torch.dtype, device: torch.device
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Rows of a, b and the error weights where the states are."""

    def vector(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    return [vector(row) for row in table.a], vector(table.b), [vector(e) for e in table.errors]


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
        # The state and the energy integral have units of their own.
        of_state, of_energy = (_combined(*(e[:, part] for e in estimates)) for part in _PARTS)
        return torch.cat([of_state, of_energy], dim=1)


_PARTS = slice(None, -1), slice(-1, None)


def _combined(fifth: Tensor, third: Tensor) -> Tensor:
    """The estimate of order 5, smaller by ‖e₅‖/√(‖e₅‖² + ‖e₃‖²/100)."""
    small = vector_norm(fifth, dim=1)
    both = torch.hypot(small, 0.1 * vector_norm(third, dim=1))
    return fifth * torch.where(both > 0, small / both, both)[:, None]
