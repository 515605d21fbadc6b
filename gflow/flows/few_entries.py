r"""Products of layers whose loss depends on few entries of W = W_N⋯W_1, without W.

At the narrowest hidden layer W = A B. With z the entries of A B and G the sparse matrix of ∂ℓ/∂z,
∂ℓ/∂A = G Bᵀ and ∂ℓ/∂B = AᵀG: one pass over the entries each (`gflow.linalg.entries`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from gflow.linalg.eigen import effective_rank
from gflow.linalg.entries import EntryPattern
from gflow.losses import Loss


def few_entries(loss: Loss, width: int) -> EntryPattern | None:
    """Return the entries that a loss depends on, where factors of a width are narrow enough.

    Parameters
    ----------
    loss : Loss
    width : int
        The narrowest hidden layer.

    Returns
    -------
    EntryPattern or None
        None where the products are made.

    Examples
    --------
    >>> import torch
    >>> from gflow.losses import SquaredDistance
    >>> few_entries(SquaredDistance(torch.eye(4)), 1) is None
    True
    """
    return loss.entries if 2 * width <= min(loss.shape) else None


def two_factors(layers: Sequence[Tensor]) -> tuple[int, Tensor, Tensor]:
    """Split a product at its narrowest hidden layer.

    Parameters
    ----------
    layers : sequence of Tensor
        [W_1, …, W_N], N ≥ 2.

    Returns
    -------
    k : int
        Number of layers in B.
    left, right : Tensor
        A = W_N⋯W_{k+1} and B = W_k⋯W_1, whose columns lie together in memory.

    Examples
    --------
    >>> layers = [torch.ones(1, 2), torch.ones(3, 1), torch.ones(2, 3)]
    >>> k, left, right = two_factors(layers)
    >>> k, tuple(left.shape), tuple(right.shape)
    (1, (2, 1), (1, 2))
    """
    k = min(range(1, len(layers)), key=lambda j: layers[j - 1].shape[-2])
    left = functools.reduce(lambda product, layer: product @ layer, reversed(layers[k:]))
    right = functools.reduce(lambda product, layer: layer @ product, layers[:k])
    return k, left, right.mT.contiguous().mT


def thin_singular_values(left: Tensor, right: Tensor) -> Tensor:
    """Compute the singular values of A B, as many as A has columns.

    Parameters
    ----------
    left : Tensor, shape (..., d, r)
        A.
    right : Tensor, shape (..., r, d')
        B.

    Returns
    -------
    Tensor, shape (..., r)

    Examples
    --------
    >>> thin_singular_values(torch.tensor([[3.0], [4.0]]), torch.tensor([[2.0, 0.0]])).tolist()
    [10.0]
    """
    first, second = torch.linalg.qr(left)[1], torch.linalg.qr(right.mT)[1]
    return torch.linalg.svdvals(first @ second.mT)


def thin_observables(left: Tensor, right: Tensor) -> dict[str, Tensor]:
    """Compute singular values, effective rank and nuclear norm of A B.

    Parameters
    ----------
    left : Tensor, shape (..., d, r)
        A.
    right : Tensor, shape (..., r, d')
        B.

    Returns
    -------
    dict of str to Tensor

    Examples
    --------
    >>> seen = thin_observables(torch.tensor([[3.0], [4.0]]), torch.tensor([[2.0, 0.0]]))
    >>> seen["nuclear_norm"].item()
    10.0
    """
    sigma = thin_singular_values(left, right)
    return {
        "singular_values": sigma,
        "effective_rank": effective_rank(sigma),
        "nuclear_norm": sigma.sum(-1),
    }
