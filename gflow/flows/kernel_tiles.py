"""Gram matrices of a kernel function: made once where they fit, else multiplied tile by tile.

A tile on the diagonal is ``kernel(x_i)``, one off it ``kernel(x_i, x_j)`` and serves its mirror
image too, so that the whole is symmetric and has the diagonal that the kernel knows exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.losses import require_finite

MEMORY = 2**32  # bytes
_TILE = 1024  # rows of a tile, so that a kernel's own work takes little beside the matrix
_WORK = 8  # tiles that a kernel is thought to need while it makes one


class KernelFunction(Protocol):
    """kernel(x1, x2=None) ↦ (n1, n2)."""

    def __call__(self, x1: Tensor, x2: Tensor | None = None, /) -> Tensor: ...


class Tiles:
    """v ↦ K(x, z) v for v of shape (n_z,) or (n_z, k), and the matrix K itself.

    Parameters
    ----------
    kernel : callable
        ``kernel(x1, x2=None)`` → Tensor (n1, n2).
    x : Tensor, shape (n, ...)
        Points of the rows.
    z : Tensor, shape (n_z, ...), optional
        Points of the columns; x itself by default, then K is symmetric.
    max_memory : int
        Bytes for a tile and the work on it.

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels import two_layer_relu_gram
    >>> K = Tiles(two_layer_relu_gram, torch.eye(3).double())
    >>> K(torch.ones(3).double()).tolist()
    [0.5, 0.5, 0.5]
    """

    def __init__(
        self, kernel: KernelFunction, x: Tensor, z: Tensor | None = None, max_memory: int = MEMORY
    ):
        self._kernel, self._x, self._z = kernel, x, z
        self.shape = len(x), len(x if z is None else z)
        probe = kernel(x[:1]) if z is None else kernel(x[:1], z[:1])
        if not isinstance(probe, Tensor) or probe.shape != (1, 1):
            got = tuple(probe.shape) if isinstance(probe, Tensor) else type(probe).__name__
            raise InputError(
                f"kernel(x1, x2) must return a tensor (n1, n2), here (1, 1), got {got}"
            )
        self._like = probe
        self._rows = min(_TILE, int((max_memory / (_WORK * probe.element_size())) ** 0.5))
        if self._rows < 1:
            least = _WORK * probe.element_size()
            raise InputError(f"max_memory must be at least {least} bytes, got {max_memory}")

    @property
    def nbytes(self) -> int:
        """Bytes of the matrix."""
        return self.shape[0] * self.shape[1] * self._like.element_size()

    def _each(self) -> Iterator[tuple[slice, slice, Tensor]]:
        x, z, step = self._x, self._z, self._rows
        for i in range(0, self.shape[0], step):
            rows = slice(i, i + step)
            for j in range(i if z is None else 0, self.shape[1], step):
                columns = slice(j, j + step)
                if z is None:
                    tile = self._kernel(x[rows]) if i == j else self._kernel(x[rows], x[columns])
                else:
                    tile = self._kernel(x[rows], z[columns])
                require_finite("the kernel", tile)
                yield rows, columns, tile

    def matrix(self) -> Tensor:
        """K, (n, n_z)."""
        K = self._like.new_empty(self.shape)
        for rows, columns, tile in self._each():
            K[rows, columns] = tile
            if self._z is None and rows != columns:
                K[columns, rows] = tile.mT
        return K

    def __call__(self, v: Tensor) -> Tensor:
        out = v.new_zeros(self.shape[0], *v.shape[1:])
        for rows, columns, tile in self._each():
            out[rows] += tile @ v[columns]
            if self._z is None and rows != columns:
                out[columns] += tile.mT @ v[rows]
        return out


def gram(
    kernel: KernelFunction, x: Tensor, x_test: Tensor | None, max_memory: int
) -> tuple[Tensor | Tiles, Tensor | Tiles | None]:
    """K(x, x) and K(x_test, x): matrices where both fit, else their products by tiles."""
    for name, points in (("x", x), ("x_test", x_test)):
        if points is not None and (not isinstance(points, Tensor) or points.numel() == 0):
            got = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
            raise InputError(f"{name} must be a tensor of points, one a row, got {got}")
    with torch.no_grad():
        own = Tiles(kernel, x, None, max_memory)
        cross = None if x_test is None else Tiles(kernel, x_test, x, max_memory)
        room = max_memory - own.nbytes - (0 if cross is None else cross.nbytes)
        work = _WORK * own._rows**2 * own._like.element_size()
        if room < min(work, own.nbytes * _WORK):
            return own, cross
        return own.matrix(), None if cross is None else cross.matrix()
