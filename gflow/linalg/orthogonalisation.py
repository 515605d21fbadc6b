"""Gram–Schmidt orthogonalisation, done twice so that round-off leaves orthogonal vectors."""

from __future__ import annotations

from gflow.linalg.arrays import Array


def orthogonalise(vectors: Array, bases: Array) -> tuple[Array, tuple[Array, Array]]:
    """Remove from vectors their components in the span of orthonormal bases.

    Parameters
    ----------
    vectors : Tensor or ndarray, shape (batch, 1, n)
        One vector for each basis.
    bases : Tensor or ndarray, shape (batch, k, n)
        Orthonormal rows; rows of zeros change nothing.

    Returns
    -------
    rest : Tensor or ndarray, shape (batch, 1, n)
        The orthogonal part, not normalised.
    overlaps : tuple of two, shape (batch, 1, k)
        The components removed in the first and in the second pass; the second are round-off
        unless a vector lies almost in the span.

    Examples
    --------
    >>> import torch
    >>> rest, overlaps = orthogonalise(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[1.0, 0.0]]]))
    >>> rest.tolist(), overlaps[0].tolist()
    ([[[0.0, 4.0]]], [[[3.0]]])
    """
    columns = bases.swapaxes(1, 2)
    first = vectors @ columns
    rest = vectors - first @ bases
    second = rest @ columns
    return rest - second @ bases, (first, second)
