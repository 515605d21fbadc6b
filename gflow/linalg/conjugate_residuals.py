"""Generalised conjugate residuals: a linear solve by products with the matrix alone.

Eisenstat, Elman & Schultz (1983), SIAM J. Numer. Anal. 20, 345-357. The residual cannot grow,
whatever the signs of the eigenvalues, and the matrix need not be symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import vector_norm


def conjugate_residuals(
    product: Callable[[Tensor], Tensor],
    residual: Tensor,
    tolerance: float,
    *,
    length: float = 1.0,
    max_products: int,
) -> tuple[Tensor | None, Tensor]:
    """Solve A d = residual to a tolerance.

    Parameters
    ----------
    product : callable
        v to A v, both (n,); the result is overwritten.
    residual : Tensor, shape (n,)
    tolerance : float
        Largest acceptable ‖residual − A d‖₂.
    length : float
        ‖v‖₂ of the vectors that ``product`` receives: by differences it is accurate at one scale.
    max_products : int

    Returns
    -------
    (Tensor or None, Tensor)
        d, None if the tolerance is not met; and residual − A d.

    Examples
    --------
    >>> A = torch.tensor([[2.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    >>> b = torch.tensor([3.0, 1.0], dtype=torch.float64)
    >>> d, rest = conjugate_residuals(lambda v: A @ v, b, 1e-9, max_products=2)
    >>> torch.allclose(A @ d, b), bool(rest.norm() <= 1e-9)
    (True, True)
    """
    r, d = residual, None
    size, k = float(vector_norm(r)), 0
    directions = images = residual.new_empty((0, residual.numel()))
    while size > tolerance and k < max_products:
        v = r * (length / size)
        w = product(v)
        if k:
            for _ in range(2):  # twice is enough for orthogonality to round-off
                overlap = images[:k] @ w
                w = torch.addmv(w, images[:k].t(), overlap, alpha=-1)
                v = torch.addmv(v, directions[:k].t(), overlap, alpha=-1)
        scale = vector_norm(w)
        direction, image = v / scale, w.div_(scale)
        gain = image.dot(r)
        d = direction * gain if d is None else d.addcmul_(direction, gain)
        r = torch.addcmul(r, image, gain, value=-1)
        size = float(vector_norm(r))
        if not math.isfinite(size):
            break
        if size > tolerance:  # the next direction must be orthogonal to this one
            if k == len(images):
                capacity = k + min(max_products, 16)
                directions, images = _grown(directions, capacity), _grown(images, capacity)
            directions[k], images[k] = direction, image
        k += 1
    if not size <= tolerance:
        return None, r
    return (torch.zeros_like(r) if d is None else d), r


def _grown(rows: Tensor, capacity: int) -> Tensor:
    """Return rows at the start of a larger tensor whose other rows are not initialised."""
    grown = rows.new_empty((capacity, rows.shape[1]))
    grown[: len(rows)] = rows
    return grown
