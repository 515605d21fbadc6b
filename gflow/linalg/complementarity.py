"""A linear complementarity problem over the semidefinite cone, of a few dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_CONVERGED = 1e-12  # relative change of the iterates
_MAX_ITERATIONS = 20_000


def complementary(K: Tensor, b: Tensor) -> Tensor:
    """Find X ⪰ 0 with S = K[X] − b ⪰ 0 and ⟨X, S⟩ = 0.

    X minimises ½⟨X, K[X]⟩ − ⟨b, X⟩ over X ⪰ 0. The method is that of projected gradients with
    Nesterov's momentum, restarted where it points uphill; m is small.

    Parameters
    ----------
    K : Tensor, shape (m², m²)
        Positive semidefinite.
    b : Tensor, shape (m, m)
        Symmetric.

    Returns
    -------
    Tensor, shape (m, m)

    Examples
    --------
    >>> import torch
    >>> b = torch.diag(torch.tensor([2.0, -1.0], dtype=torch.float64))
    >>> complementary(torch.eye(4, dtype=torch.float64), b).tolist()   # the positive part
    [[2.0, 0.0], [0.0, 0.0]]
    """
    m = len(b)
    if m == 1:
        return (b / K).clamp_min(0) if bool(K > 0) else torch.zeros_like(b)
    K, target = K.double().cpu(), b.double().cpu()
    bound = float(torch.linalg.eigvalsh(K)[-1])
    X = Z = torch.zeros_like(target)
    if bound == 0:
        return X.to(b)
    momentum = 1.0
    for _ in range(_MAX_ITERATIONS):
        new = _positive_part(Z - ((K @ Z.flatten()).reshape(m, m) - target) / bound)
        moved = new - X
        if float(moved.norm()) <= _CONVERGED * float(new.norm()) and float((new - Z).norm()) <= (
            _CONVERGED * float(new.norm())
        ):
            return new.to(b)
        if float(((Z - new) * moved).sum()) > 0:  # restart
            momentum, Z, X = 1.0, new, new
            continue
        next_momentum = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        Z, X, momentum = new + (momentum - 1) / next_momentum * moved, new, next_momentum
    return X.to(b)


def _positive_part(X: Tensor) -> Tensor:
    lam, V = torch.linalg.eigh((X + X.mT) / 2)
    return (V * lam.clamp_min(0)) @ V.mT
