"""Gram–Schmidt orthogonalisation, done twice so that round-off leaves orthogonal vectors."""

from __future__ import annotations

import torch
from torch import Tensor


def orthogonalise(vectors: Tensor, bases: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Remove from vectors their components in the span of orthonormal bases.

    Parameters
    ----------
    vectors : Tensor, shape (batch, 1, n)
        One vector for each basis.
    bases : Tensor, shape (batch, k, n)
        Orthonormal rows; rows of zeros change nothing.

    Returns
    -------
    rest : Tensor, shape (batch, 1, n)
        The orthogonal part, not normalised.
    overlaps : tuple of two Tensor, shape (batch, 1, k)
        The components removed in the first and in the second pass; the second are round-off
        unless a vector lies almost in the span.

    Examples
    --------
    >>> import torch
    >>> rest, overlaps = orthogonalise(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[1.0, 0.0]]]))
    >>> rest.tolist(), overlaps[0].tolist()
    ([[[0.0, 4.0]]], [[[3.0]]])
    """
    first = torch.bmm(vectors, bases.mT)
    rest = torch.baddbmm(vectors, first, bases, alpha=-1)
    second = torch.bmm(rest, bases.mT)
    return torch.baddbmm(rest, second, bases, alpha=-1), (first, second)
