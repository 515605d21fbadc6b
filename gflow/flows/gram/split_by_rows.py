"""Gram matrices of a kernel function whose rows are held, or made, by the processes of a team.

Process r has the rows K_r of its points: K v = [K_1 v; …; K_R v].
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gflow.checks import require_dtype_and_device
from gflow.flows.gram.tiles import KernelFunction, Tiles, fit, require_points

if TYPE_CHECKING:
    from gflow.distributed import Team

_ROWS = 256  # rows looked at in one go, so that no second matrix is made


class SharedGram:
    """v ↦ K v for v of shape (n,) or (n, k), as the first process of a team asks for it.

    Attributes
    ----------
    shape : (int, int)
        Of the whole K.
    held : bool
        Whether the rows are held as matrices, not made anew in every product.
    """

    def __init__(self, team: Team, part: Tensor | Tiles, rows: int, like: Tensor):
        self.shape = rows, part.shape[1]
        self.held = isinstance(part, Tensor)
        self._product = team.concatenation(functools.partial(_product, part), rows, like)
        if isinstance(part, Tensor):
            sizes = functools.partial(absolute_product, part)
            self._absolute = team.concatenation(sizes, rows, like)
            self._entries = team.concatenation(lambda: part, rows, like)

    def __call__(self, v: Tensor) -> Tensor:
        return self._product(v)

    def absolute(self, v: Tensor) -> Tensor:
        """|K| v, where the rows are held."""
        return self._absolute(v)

    @functools.cached_property
    def entries(self) -> Tensor:
        """The whole K in the first process, where the rows are held: for a decomposition."""
        return self._entries()


def absolute_product(H: Tensor, x: Tensor) -> Tensor:
    """|H| x without a copy of H."""
    return torch.cat([rows.abs() @ x for rows in H.split(_ROWS)])


def _product(part: Tensor | Tiles, v: Tensor) -> Tensor:
    return part @ v if isinstance(part, Tensor) else part(v)


def shared_gram(
    team: Team,
    kernel: KernelFunction,
    x: Tensor,
    targets: Tensor,
    x_test: Tensor | None,
    max_memory: int,
) -> tuple[SharedGram, SharedGram | None]:
    """K(x, x) and K(x_test, x) by rows: matrices where both fit into every process's max_memory.

    Every process calls this with all points and makes the rows of its own.
    """
    require_points(x, x_test)
    points = [x] if x_test is None else [x, x_test]
    with team.together(), torch.no_grad():
        team.require_alike("points and targets", [*points, targets])
        own = Tiles(kernel, x, None, max_memory, team.rows(len(x)))
        cross = (
            None if x_test is None else Tiles(kernel, x_test, x, max_memory, team.rows(len(x_test)))
        )
        require_dtype_and_device("targets", targets, own.like, "H")
        held = bool(team.least(torch.tensor(int(fit(own, cross, max_memory)))))
    H = SharedGram(team, own.matrix() if held else own, len(x), own.like)
    if cross is None or x_test is None:
        return H, None
    return H, SharedGram(team, cross.matrix() if held else cross, len(x_test), own.like)
