"""Generalised conjugate residuals: a linear solve by products with the matrix alone.

Eisenstat, Elman & Schultz (1983), SIAM J. Numer. Anal. 20, 345-357. The residual cannot grow,
whatever the signs of the eigenvalues, and the matrix need not be symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gflow.linalg.arrays import Array, empty, norm

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
    >>> d, rest = conjugate_residuals(lambda v: A @ v, b, 1e-9, max_products=2)
    >>> torch.allclose(A @ d, b), bool(rest.norm() <= 1e-9)
    (True, True)
    """
    r, d = residual, None
    size, k = norm(r), 0
    directions = images = empty((0, len(residual)), residual)
    while size > tolerance and k < max_products:
        v = r * (length / size)
        w = product(v)
        scale = norm(w)
        if k:
            for _ in range(2):  # twice is enough for orthogonality to round-off
                before = scale
                overlap = images[:k] @ w
                w -= overlap @ images[:k]
                v -= overlap @ directions[:k]
                scale = norm(w)
                if scale > _SETTLED * before:
                    break
        if not scale > 0:  # A v vanishes, or is not finite
            break
        v *= 1 / scale
        w *= 1 / scale
        gain = float(w @ r)
        d = v * gain if d is None else d + v * gain
        r = r - w * gain
        size = norm(r)
        if not math.isfinite(size):
            break
        if size > tolerance:  # the next direction must be orthogonal to this one
            if k == len(images):
                capacity = k + min(max_products, 16)
                directions, images = _grown(directions, capacity), _grown(images, capacity)
            directions[k], images[k] = v, w
        k += 1
    if not size <= tolerance:
        return None, r
    return (0 * r if d is None else d), r


def _grown(rows: Array, capacity: int) -> Array:
    """Return rows at the start of a larger array whose other rows are not initialised."""
    grown = empty((capacity, rows.shape[1]), rows)
    grown[: len(rows)] = rows
    return grown
