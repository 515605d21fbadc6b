"""Gram matrices of a kernel function: stored where they fit, else multiplied tile by tile.

A tile on the diagonal is ``kernel(x_i)``, one off it ``kernel(x_i, x_j)`` and serves its mirror
image too, so that the matrix is symmetric and has the diagonal that the kernel knows exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from gflow.checks import evaluated, require_finite
from gflow.errors import InputError
from gflow.linalg.blocks import spans

MEMORY = 2**32  # bytes
_TILE = 1024  # rows of a tile, so that a kernel's own work takes little beside the matrix
_WORK = 8  # estimate of the memory that a kernel takes while it computes a tile, in tiles


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
    rows : slice, optional
        Take these rows of K alone; then no tile serves its mirror image.

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels import two_layer_relu_gram
    >>> K = Tiles(two_layer_relu_gram, torch.eye(3).double())
    >>> K(torch.ones(3).double()).tolist()
    [0.5, 0.5, 0.5]
    """

    def __init__(
        self,
        kernel: KernelFunction,
        x: Tensor,
        z: Tensor | None = None,
        max_memory: int = MEMORY,
        rows: slice | None = None,
    ):
        self._kernel, self._x, self._z = kernel, x, z
        self._mirrored = z is None and rows is None
        self._range = range(len(x)) if rows is None else range(rows.start, rows.stop)
        self.shape = len(self._range), len(x if z is None else z)
        points = (x[:1],) if z is None else (x[:1], z[:1])
        probe = evaluated("kernel(x1, x2)", lambda: kernel(*points))
        if not isinstance(probe, Tensor) or probe.shape != (1, 1):
            received = tuple(probe.shape) if isinstance(probe, Tensor) else type(probe).__name__
            raise InputError(
                f"kernel(x1, x2) must return a tensor (n1, n2), here (1, 1), got {received}"
            )
        #: A tensor of the dtype and on the device of K.
        self.reference_tensor = probe
        self._rows = min(_TILE, int((max_memory / (_WORK * probe.element_size())) ** 0.5))
        if self._rows < 1:
            least = _WORK * probe.element_size()
            raise InputError(f"max_memory must be at least {least} bytes, got {max_memory}")

    @property
    def nbytes(self) -> int:
        """Size of the matrix in bytes."""
        return self.shape[0] * self.shape[1] * self.reference_tensor.element_size()

    @property
    def work(self) -> int:
        """Estimate of the bytes that computing a tile takes."""
        return _WORK * self._rows**2 * self.reference_tensor.element_size()

    def _tiles(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield rows (counted from the first one taken), columns, and their tile."""
        x, z = self._x, self._z
        first = self._range.start
        for rows in spans(self._range.stop, self._rows, first):
            for columns in self._columns(rows):
                if z is not None:
                    tile = self._kernel(x[rows], z[columns])
                elif rows == columns:
                    tile = self._kernel(x[rows])
                else:
                    tile = self._kernel(x[rows], x[columns])
                require_finite("the kernel", tile)
                yield slice(rows.start - first, rows.stop - first), columns, tile

    def _columns(self, rows: slice) -> Iterator[slice]:
        """Yield the columns of the tiles in these rows, their diagonal tile among them."""
        if self._z is not None:
            yield from spans(self.shape[1], self._rows)
            return
        if not self._mirrored:
            yield from spans(rows.start, self._rows)
        yield rows
        yield from spans(self.shape[1], self._rows, rows.stop)

    def matrix(self) -> Tensor:
        """Compute K, (n, n_z), or its rows."""
        K = self.reference_tensor.new_empty(self.shape)
        for rows, columns, tile in self._tiles():
            K[rows, columns] = tile
            if self._mirrored and rows != columns:
                K[columns, rows] = tile.mT
        return K

    def __call__(self, v: Tensor) -> Tensor:
        out = v.new_zeros(self.shape[0], *v.shape[1:])
        for rows, columns, tile in self._tiles():
            out[rows] += tile @ v[columns]
            if self._mirrored and rows != columns:
                out[columns] += tile.mT @ v[rows]
        return out


def gram(
    kernel: KernelFunction, x: Tensor, x_test: Tensor | None, max_memory: int
) -> tuple[Tensor | Tiles, Tensor | Tiles | None]:
    """Build K(x, x) and K(x_test, x), as matrices where both fit, else as products by tiles.

    Parameters
    ----------
    kernel : callable
        ``kernel(x1, x2=None)`` → Tensor (n1, n2).
    x : Tensor, shape (n, ...)
        Training points.
    x_test : Tensor of shape (n_test, ...), or None
        Points not trained on.
    max_memory : int
        Bytes for both matrices and the work on a tile.

    Returns
    -------
    H, H_test : Tensor or Tiles, and Tensor, Tiles or None
        K(x, x), (n, n), and K(x_test, x), (n_test, n).

    Raises
    ------
    InputError
        If the points or the kernel's values do not serve, or max_memory holds no tile.

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels import two_layer_relu_gram
    >>> gram(two_layer_relu_gram, torch.eye(2), None, 2**20)
    (tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]]), None)
    """
    require_points(x, x_test)
    with torch.no_grad():
        square = Tiles(kernel, x, None, max_memory)
        cross = None if x_test is None else Tiles(kernel, x_test, x, max_memory)
        if not fit(square, cross, max_memory):
            return square, cross
        return square.matrix(), None if cross is None else cross.matrix()


def require_points(x: Tensor, x_test: Tensor | None) -> None:
    """Raise InputError unless both arguments are tensors of points.

    Parameters
    ----------
    x : Tensor, shape (n, ...)
        Training points.
    x_test : Tensor of shape (n_test, ...), or None
        Points not trained on.

    Raises
    ------
    InputError
        If one is no tensor or has no entries.

    Examples
    --------
    >>> import torch
    >>> require_points(torch.eye(2), None)
    """
    for name, points in (("x", x), ("x_test", x_test)):
        if points is not None and (
            not isinstance(points, Tensor) or points.numel() == 0 or points.ndim == 0
        ):
            received = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
            raise InputError(f"{name} must be a tensor of points, one a row, got {received}")


def fit(square: Tiles, cross: Tiles | None, max_memory: int) -> bool:
    """Whether both matrices fit into max_memory, with the work on a tile.

    Parameters
    ----------
    square : Tiles
        K(x, x), or rows of it.
    cross : Tiles or None
        K(x_test, x), or rows of it.
    max_memory : int
        Bytes.

    Returns
    -------
    bool
        Whether they fit.

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels import two_layer_relu_gram
    >>> K = Tiles(two_layer_relu_gram, torch.eye(3))
    >>> fit(K, None, max_memory=9 * K.nbytes), fit(K, None, max_memory=8 * K.nbytes)
    (True, False)
    """
    remaining = max_memory - square.nbytes - (0 if cross is None else cross.nbytes)
    return remaining >= min(square.work, square.nbytes * _WORK)
