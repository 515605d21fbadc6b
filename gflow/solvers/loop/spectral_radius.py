"""The negative end of the Jacobian's spectrum, which sets the stages of a stabilised step.

Arnoldi iteration on differences of the right-hand side, one evaluation per product: the
Jacobian of a reduced flow is not symmetric, and a difference gives two digits at half the
cost of an exact product. It starts from the last eigenvector and stops where the estimate
settles. Only max(−Re λ) is estimated: a positive eigenvalue, as at a saddle, needs no
stages, and a norm-based power iteration would lose the sign.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gflow.linalg.arrays import (
    Array,
    empty,
    joined,
    numbers,
    row_norms,
    to_numpy_at_once,
    unit_round_off,
    where,
)
from gflow.linalg.large import is_large
from gflow.linalg.orthogonalisation import orthogonalise
from gflow.linalg.ritz_window import RitzWindow

_MARGIN = 1.15  # on the estimate, which is approached from below
PRODUCTS = 20  # of one estimate at most
_SETTLED = 0.02  # relative change of the estimate that ends the iteration
_SMALL_ENSEMBLE = 8  # members up to which the estimate is computed after every product


def with_margin(top: float | np.ndarray) -> np.ndarray:
    """Return a safe spectral radius from an estimate of max(−Re λ): 0 where nothing decays."""
    return np.maximum(0.0, _MARGIN * top)


def first_vectors(like: Tensor) -> Tensor:
    """Return fixed pseudo-random unit vectors of the shape of like, (members, size)."""
    noise = torch.Generator().manual_seed(0)
    vector = torch.randn(like.shape[1], generator=noise, dtype=torch.float64)
    return (vector / vector.norm()).to(like).expand_as(like).clone()


def spectral_radius(
    rhs: Callable[[Array], Array], y: Array, f: Array, vectors: Array
) -> tuple[np.ndarray, Array]:
    """Return a slight overestimate of max(−Re λ) for every member, 0 where nothing decays.

    Parameters
    ----------
    rhs : callable
        States (members, size) to their velocities.
    y, f : Tensor or ndarray, shape (members, size)
        The states, and rhs(y).
    vectors : Tensor or ndarray, shape (members, size)
        First vectors, of norm 1: the dominant eigenvectors of an earlier estimate.

    Returns
    -------
    radius : ndarray, shape (members,)
        NaN where the right-hand side is not finite near the state.
    vectors : Tensor or ndarray, shape (members, size)
        The dominant Ritz vectors, to start the next estimate from.

    Examples
    --------
    >>> import torch
    >>> rates = torch.tensor([[-1.0, -50.0, 3.0]], dtype=torch.float64)
    >>> y = torch.ones(1, 3, dtype=torch.float64)
    >>> radius, _ = spectral_radius(lambda s: rates * s, y, rates * y, first_vectors(y))
    >>> bool(50 <= radius[0] <= 58)
    True
    """
    B, n = y.shape
    size = row_norms(y)[:, None]
    delta = unit_round_off(y) ** 0.5 * where(size > 0, size, 1.0)
    max_products = min(PRODUCTS, n)
    if is_large(y):
        window = RitzWindow(lambda v: (f - rhs(y + delta * v)) / delta, y)
        return _in_window(window, vectors, max_products)
    basis = empty((B, max_products, n), y)
    basis[:, 0] = vectors
    H = np.zeros((B, PRODUCTS + 1, PRODUCTS))
    top, was_still = np.zeros(B), np.zeros(B, bool)
    unread: list[Any] = []
    for k in range(1, max_products + 1):
        w = ((f - rhs(y + delta * basis[:, k - 1])) / delta)[:, None]  # −J v
        Q = basis[:, :k]
        w, (first, second) = orthogonalise(w, Q)
        overlaps = first + second
        size = row_norms(w[:, 0])[:, None]
        unread.append(joined([overlaps[:, 0], size], axis=1))
        last = k == max_products
        if last or B <= _SMALL_ENSEMBLE or k % 4 == 0:
            for column in to_numpy_at_once(*unread):
                j = column.shape[1] - 1
                H[:, : j + 1, j - 1] = column
                finite = np.isfinite(column).all(axis=1)
                H[~finite] = 0.0
            unread = []
            square = H[:, :k, :k]
            values, ritz = np.linalg.eig(square)
            best = values.real.argmax(axis=1)
            before, top = top, values.real[np.arange(B), best]
            scale = np.abs(square).max(axis=(1, 2))
            closed = column[:, -1] <= 1e-7 * scale  # an invariant subspace
            # Twice in a row: where the Jacobian is not symmetric the estimate may pause.
            still = np.abs(top - before) <= _SETTLED * np.abs(top)
            settled, was_still = still & was_still & (k > 2), still
            if last or (closed | settled | ~finite).all():
                break
        basis[:, k] = w[:, 0] / where(size > 0, size, 1.0)
    weights = numbers(ritz[np.arange(B), :, best].real, y)  # (members, k)
    vector = (weights[:, None] @ basis[:, : weights.shape[1]])[:, 0]
    norm = row_norms(vector)[:, None]
    usable = (norm > 0) & (norm < np.inf)
    vector = where(usable, vector / where(usable, norm, 1.0), vectors)
    radius = with_margin(top)
    radius[~finite] = np.nan
    return radius, vector


def _in_window(window: RitzWindow, vectors: Array, max_products: int) -> tuple[np.ndarray, Array]:
    """Estimate the same from the images −J v in a window, with few vectors in memory."""
    top, was_still = np.zeros(len(vectors)), np.zeros(len(vectors), bool)
    for k in range(1, max_products + 1):
        if k == 1:
            window.add(vectors)
        else:
            window.add_next()
        before, (top, _) = top, window.ritz()
        still = np.abs(top - before) <= _SETTLED * np.abs(top)
        settled, was_still = still & was_still & (k > 2), still
        if (window.lost | settled | ~window.finite).all():
            break
    finite = window.finite
    vector: Any = window.vectors()[:, 0]
    norm = row_norms(vector)[:, None]
    radius = with_margin(top)
    radius[~finite] = np.nan
    usable: Any = (norm > 0.5) & (norm < np.inf)
    found: Array = where(usable, vector, vectors)
    return radius, found
