r"""Angles between points, right to round-off where points coincide, nearly do, or oppose.

A matrix product gives cosines with an error of a few units of round-off ε, hence angles with
an error of ε/θ: half of the digits are gone at θ = √ε. Pairs with 1 ∓ ρ below ε^{1/3} are
computed again from differences and sums of the unit vectors,

    1 − ρ = ½‖e − e'‖²,    1 + ρ = ½‖e + e'‖²

(Kahan's formula for the angle), so that no angle is wrong by more than about ε^{5/6}: 1e-13
in float64, 2e-6 in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GATHERED = 1 << 20  # numbers gathered at once for the pairs that are computed again


def unit_and_square(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit vectors along the last dimension, and ‖x‖²; a zero vector stays zero.

    Vectors are scaled by a power of two first, which rounds nothing: ‖x‖² of a short vector
    may underflow, its direction does not.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1e-200], [1.0]], dtype=torch.float64) * torch.tensor([3.0, 4.0])
    >>> unit, square = unit_and_square(x)
    >>> round(unit[0, 0].item(), 15), square.tolist()
    (0.6, [0.0, 25.0])
    """
    largest = torch.linalg.vector_norm(x, float("inf"), dim=-1, keepdim=True)
    scale = largest / (2.0 * torch.frexp(largest)[0])
    scale = torch.where(largest > 0, scale, torch.ones_like(largest))
    unit = x / scale
    square = unit.square().sum(dim=-1, keepdim=True)
    unit /= torch.where(square > 0, square.sqrt(), torch.ones_like(square))
    return unit, (square * scale * scale).squeeze(-1)


def one_minus_and_plus_cosine(e1: Tensor, e2: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 − ρ and 1 + ρ of all pairs of unit vectors.

    Parameters
    ----------
    e1, e2 : Tensor, shapes (..., n1, d) and (..., n2, d)
        Unit vectors, or zero.

    Returns
    -------
    minus, plus : Tensor, shape (..., n1, n2)

    Examples
    --------
    >>> import torch
    >>> minus, plus = one_minus_and_plus_cosine(torch.eye(2).double(), torch.eye(2)[:1].double())
    >>> minus.tolist(), plus.tolist()
    ([[0.0], [1.0]], [[2.0], [1.0]])
    """
    cosine = e1 @ e2.mT
    threshold = torch.finfo(cosine.dtype).eps ** (1 / 3)
    low, high = (float(v) for v in torch.aminmax(cosine))
    minus, plus = 1.0 - cosine, cosine.add_(1.0)
    if high > 1.0 - threshold:
        _recompute(minus, plus, e1, e2, threshold, -1.0)
    if low < threshold - 1.0:
        _recompute(plus, minus, e1, e2, threshold, 1.0)
    return minus, plus


def _recompute(
    small: Tensor, other: Tensor, e1: Tensor, e2: Tensor, threshold: float, sign: float
) -> None:
    """Put ½‖e + sign·e'‖² where ``small`` is below the threshold, and 2 minus it in ``other``."""
    pairs = (small < threshold).nonzero()
    for index in pairs.split(max(1, _GATHERED // e1.shape[-1])):
        *batch, i, j = index.unbind(1)
        half = 0.5 * torch.add(e1[(*batch, i)], e2[(*batch, j)], alpha=sign).square().sum(-1)
        small[(*batch, i, j)] = half
        other[(*batch, i, j)] = 2.0 - half
