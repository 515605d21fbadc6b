"""Gram–Schmidt orthogonalisation, done twice so that round-off leaves orthogonal vectors."""

from __future__ import annotations

import numpy as np

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
    if isinstance(vectors, np.ndarray) and len(vectors) == 1:
        # Without matrices of one row, whose products take longer.
        one, rows = vectors[0, 0], bases[0]
        first = rows.dot(one)
        one = one - first.dot(rows)
        second = rows.dot(one)
        one = one - second.dot(rows)
        return one[None, None], (first[None, None], second[None, None])
    columns = bases.swapaxes(1, 2)
    first = vectors @ columns
    vectors = vectors - first @ bases  # the same name: large vectors are kept no longer than needed
    second = vectors @ columns
    return vectors - second @ bases, (first, second)
