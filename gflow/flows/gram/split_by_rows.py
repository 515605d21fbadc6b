"""Gram matrices of a kernel function, their rows split across the processes of a team.

Process r stores, or computes in every product, the rows K_r of its points: K v = [K_1 v; …; K_R v].
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

_ROWS = 256  # rows at a time, so that no second matrix is made


class SharedGram:
    """The product v ↦ K v for v of shape (n,) or (n, k), called on rank 0 of a team.

    Parameters
    ----------
    team : Team
        The processes.
    part : Tensor of shape (rows of this process, n), or Tiles
        The rows of this process, stored or computed in every product.
    rows : int
        Number of rows of K.
    like : Tensor
        A tensor of the dtype and device of K.

    Attributes
    ----------
    shape : (int, int)
        Shape of K.
    has_entries : bool
        Whether the rows are stored as matrices, not computed in every product.
    """

    def __init__(self, team: Team, part: Tensor | Tiles, rows: int, like: Tensor):
        self.shape = rows, part.shape[1]
        self.has_entries = isinstance(part, Tensor)
        self._product = team.concatenation(functools.partial(_product, part), rows, like)
        if isinstance(part, Tensor):
            sizes = functools.partial(absolute_product, part)
            self._absolute = team.concatenation(sizes, rows, like)
            self._entries = team.concatenation(lambda: part, rows, like)

    def __call__(self, v: Tensor) -> Tensor:
        return self._product(v)

    def absolute(self, v: Tensor) -> Tensor:
        """Compute |K| v, where the rows are stored."""
        return self._absolute(v)

    @functools.cached_property
    def entries(self) -> Tensor:
        """K gathered on rank 0, where the rows are stored: for a decomposition."""
        return self._entries()


def absolute_product(H: Tensor, x: Tensor) -> Tensor:
    """Compute |H| x without a copy of H.

    Parameters
    ----------
    H : Tensor, shape (m, n)
        Matrix.
    x : Tensor, shape (n,) or (n, k)
        Vector or vectors.

    Returns
    -------
    Tensor, shape (m,) or (m, k)
        |H| x, with the absolute value of every entry of H.

    Examples
    --------
    >>> import torch
    >>> absolute_product(torch.tensor([[1.0, -2.0]]), torch.ones(2)).tolist()
    [3.0]
    """
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
    """Build K(x, x) and K(x_test, x), their rows split across the processes of a team.

    They are stored where both fit into every process's max_memory. Every process calls this with
    all points and computes its own rows.

    Parameters
    ----------
    team : Team
        The processes.
    kernel : callable
        ``kernel(x1, x2=None)`` → Tensor (n1, n2).
    x : Tensor, shape (n, ...)
        Training points.
    targets : Tensor, shape (n,) or (n, k)
        Their targets, which must be the same in all processes.
    x_test : Tensor of shape (n_test, ...), or None
        Points not trained on.
    max_memory : int
        Bytes that each process may use for its rows and the work on a tile.

    Returns
    -------
    H, H_test : SharedGram, SharedGram or None
        K(x, x) and K(x_test, x).

    Raises
    ------
    InputError
        If points, targets or the kernel's values do not serve, or differ between processes.

    Examples
    --------
    >>> import gflow, torch                                # under torchrun
    >>> with gflow.distributed.processes() as team:        # doctest: +SKIP
    ...     H, H_test = shared_gram(team, gflow.kernels.ntk, x, targets, x_test, 2**30)
    """
    require_points(x, x_test)
    points = [x] if x_test is None else [x, x_test]
    with team.collective(), torch.no_grad():
        team.require_equal("points and targets", [*points, targets])
        square = Tiles(kernel, x, None, max_memory, team.rows(len(x)))
        cross = (
            None if x_test is None else Tiles(kernel, x_test, x, max_memory, team.rows(len(x_test)))
        )
        require_dtype_and_device("targets", targets, square.reference_tensor, "H")
        fits = bool(team.minimum(torch.tensor(int(fit(square, cross, max_memory)))))
    H = SharedGram(team, square.matrix() if fits else square, len(x), square.reference_tensor)
    if cross is None or x_test is None:
        return H, None
    return H, SharedGram(
        team, cross.matrix() if fits else cross, len(x_test), square.reference_tensor
    )
