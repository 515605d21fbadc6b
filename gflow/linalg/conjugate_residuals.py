"""Generalised conjugate residuals: a linear solve by products with the matrix alone.

Eisenstat, Elman & Schultz (1983), SIAM J. Numer. Anal. 20, 345-357. The residual cannot grow,
whatever the signs of the eigenvalues, and the matrix need not be symmetric.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from gflow.linalg.arrays import Array, add_multiple, empty, matrix_product, norm
from gflow.linalg.large import is_large

_FEW = 3  # pairs in memory where vectors are large
_SETTLED = 0.5  # of its norm: a vector that keeps so much is orthogonal to round-off


def conjugate_residuals(
    product: Callable[[Array], Array],
    residual: Array,
    tolerance: float,
    *,
    length: float = 1.0,
    max_products: int,
) -> tuple[Array | None, Array]:
    """Solve A d = residual to a tolerance.

    Parameters
    ----------
    product : callable
        v to A v, both (n,); the result is overwritten.
    residual : Tensor or ndarray, shape (n,)
        It is overwritten.
    tolerance : float
        Largest acceptable ‖residual − A d‖₂.
    length : float
        ‖v‖₂ of the vectors that ``product`` receives: by differences it is accurate at one scale.
    max_products : int

    Returns
    -------
    (Tensor or None, Tensor), or ndarrays
        d, None if the tolerance is not met; and residual − A d.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[2.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    >>> b = torch.tensor([3.0, 1.0], dtype=torch.float64)
    >>> d, rest = conjugate_residuals(lambda v: A @ v, b.clone(), 1e-9, max_products=2)
    >>> torch.allclose(A @ d, b), bool(rest.norm() <= 1e-9)
    (True, True)
    """
    r, d = residual, None
    size, k = norm(r), 0
    pairs: Any = _FewPairs() if is_large(residual) else _Pairs(residual, max_products)
    while size > tolerance and k < max_products:
        v = r * (length / size)
        w = product(v)
        scale = norm(w)
        if k:
            for _ in range(2):  # twice is enough for orthogonality to round-off
                before = scale
                pairs.remove(v, w)
                scale = norm(w)
                if scale > _SETTLED * before:
                    break
        if not scale > 0:  # A v vanishes, or is not finite
            break
        v *= 1 / scale
        w *= 1 / scale
        gain = float(w.dot(r))
        d = v * gain if d is None else add_multiple(d, v, gain)
        r = add_multiple(r, w, -gain)
        size = norm(r)
        if not math.isfinite(size):
            break
        if size > tolerance:  # the next direction must be orthogonal to this one
            pairs.append(v, w)
        k += 1
    if not size <= tolerance:
        return None, r
    return (0 * r if d is None else d), r


class _Pairs:
    """Directions and their images, whose images are orthonormal, in arrays that grow.

    Parameters
    ----------
    like : Tensor or ndarray, shape (n,)
    most : int
        The largest number of pairs.
    """

    def __init__(self, like: Array, most: int):
        self._directions: Any = empty((0, len(like)), like)
        self._images = self._directions
        self._count, self._most = 0, most

    def remove(self, v: Array, w: Array) -> None:
        """Remove the components of an image w along the others, and its direction's, in place."""
        k = self._count
        images = self._images[:k]
        overlap = matrix_product(images, w)
        w -= matrix_product(overlap, images)
        v -= matrix_product(overlap, self._directions[:k])

    def append(self, v: Array, w: Array) -> None:
        """Add a direction and its image."""
        k = self._count
        if k == len(self._images):
            capacity = k + min(self._most, 16)
            self._directions = _grown(self._directions, capacity)
            self._images = _grown(self._images, capacity)
        self._directions[k], self._images[k] = v, w
        self._count += 1


class _FewPairs:
    """The same with the last pairs alone: where A is symmetric the image is orthogonal to others.

    (Orthomin: Vinsome 1976, doi:10.2118/5729-MS.)
    """

    def __init__(self) -> None:
        self._pairs: deque[tuple[Any, Any]] = deque(maxlen=_FEW)

    def remove(self, v: Array, w: Array) -> None:
        """Remove the components of an image w along the last ones, and its direction's."""
        for direction, image in self._pairs:
            overlap = float(image.dot(w))
            add_multiple(w, image, -overlap)
            add_multiple(v, direction, -overlap)

    def append(self, v: Array, w: Array) -> None:
        """Add a direction and its image, and drop the oldest pair if there are too many."""
        self._pairs.append((v, w))


def _grown(rows: Array, capacity: int) -> Array:
    """Return rows at the start of a larger array whose other rows are not initialised."""
    grown = empty((capacity, rows.shape[1]), rows)
    grown[: len(rows)] = rows
    return grown
