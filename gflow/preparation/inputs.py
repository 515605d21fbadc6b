"""Transformations of a table of inputs; all return float64 at any scale of the entries."""

from __future__ import annotations

import numpy as np

from gflow.checks import require_table
from gflow.errors import InputError


def standardise(x: np.ndarray, by: np.ndarray | None = None) -> np.ndarray:
    """Shift and scale every column to mean 0 and standard deviation 1; a constant column to 0.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Samples, one a row.
    by : ndarray, shape (m, d), optional
        Samples whose means and standard deviations are taken, such as those to train on; x itself
        by default.

    Returns
    -------
    ndarray, shape (n, d)
        A column whose spread is round-off (below 1e-13 of its largest entry) is constant.

    Raises
    ------
    InputError
        If x is no matrix, empty or not finite, or ``by`` has other columns.

    Examples
    --------
    >>> standardise(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    >>> standardise(np.array([[5.0, 5.0]]), by=np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[3.0, 0.0]]
    """
    require_table("the table to standardise", x)
    if by is None:
        x = _scaled(x, axis=0)
        known = x = x - x.mean(axis=0)
    else:
        require_table("the table that gives means and deviations", by)
        if by.shape[1:] != x.shape[1:]:
            raise InputError(
                f"both tables must have the same columns, got {x.shape[1]} and {by.shape[1]}; "
                "select them"
            )
        both = _scaled(np.concatenate([by, x]), axis=0)
        known, x = both[: len(by)], both[len(by) :]
        mean = known.mean(axis=0)
        known, x = known - mean, x - mean
    deviation = known.std(axis=0)
    return np.where(_varying(known), x / np.where(deviation > 0, deviation, 1.0), 0.0)


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Divide every row by its Euclidean norm.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Samples, one a row.

    Returns
    -------
    ndarray, shape (n, d)

    Raises
    ------
    InputError
        If x is no matrix, empty or not finite, or a row is zero.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    require_table("the table to scale", x)
    x = _scaled(x, axis=1)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    zero = np.flatnonzero(norm == 0)
    if len(zero):
        raise InputError(
            f"every row must be nonzero to have a direction, got row {zero[0]} (counted from 0; "
            f"{len(zero)} such rows); remove it"
        )
    return x / norm


def correlation(x: np.ndarray) -> np.ndarray:
    """Compute the correlation matrix of the columns of x; constant columns are dropped.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Samples, one a row.

    Returns
    -------
    ndarray, shape (k, k)
        k ≤ d: the number of columns that vary. Symmetric, positive semidefinite up to
        round-off, unit diagonal.

    Raises
    ------
    InputError
        If x is no matrix or not finite, or has fewer than two rows or two varying columns.

    Examples
    --------
    >>> correlation(np.array([[1.0, 2.0, 7.0], [2.0, 4.0, 7.0], [3.0, 6.0, 7.0]])).round(12)
    array([[1., 1.],
           [1., 1.]])
    """
    require_table("the table to correlate", x)
    varying = _varying(_scaled(x, axis=0))
    if len(x) < 2 or varying.sum() < 2:
        raise InputError(
            "a correlation needs at least two rows and two columns that vary, "
            f"got {len(x)} rows and {varying.sum()} such columns; use other data"
        )
    z = standardise(x[:, varying])
    C = z.T @ z / len(z)
    C = (C + C.T) / 2
    np.fill_diagonal(C, 1.0)
    return C


def _scaled(x: np.ndarray, axis: int) -> np.ndarray:
    """Return x times a power of two, so that squares neither over- nor underflow."""
    _, exponent = np.frexp(np.abs(x).max(axis=axis, keepdims=True, initial=0.0))
    return np.ldexp(x, -exponent)


def _varying(x: np.ndarray) -> np.ndarray:
    """Return which columns of entries in [−1, 1] are not constant, (d,)."""
    return np.ptp(x, axis=0) > 1e-13
