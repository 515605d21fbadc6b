"""States so large that memory counts: from here on algorithms keep few vectors."""

from __future__ import annotations

from gflow.linalg.arrays import Array

LARGE = 2**17  # numbers; a vector takes a megabyte in float64


def is_large(rows: Array) -> bool:
    """Return whether an array is so large that few arrays like it should be kept.

    Parameters
    ----------
    rows : Tensor or ndarray
        A state, or those of all members of an ensemble.

    Returns
    -------
    bool

    Examples
    --------
    >>> import torch
    >>> is_large(torch.zeros(1, 1000)), is_large(torch.zeros(1000, 1000))
    (False, True)
    """
    return rows.shape[-1] * (len(rows) if rows.ndim > 1 else 1) >= LARGE
