"""Exact solutions of small homogeneous systems of linear equations."""

from __future__ import annotations

from fractions import Fraction


def null_space(rows: list[list[Fraction]], size: int) -> list[list[Fraction]]:
    """Return a basis of the solutions of homogeneous equations, exactly.

    Parameters
    ----------
    rows : list of list of Fraction
        The equations' coefficients, each of length ``size``.
    size : int
        Number of unknowns.

    Returns
    -------
    list of list of Fraction

    Examples
    --------
    >>> [[int(x) for x in v] for v in null_space([[Fraction(1), Fraction(-2)]], 2)]
    [[2, 1]]
    """
    rows = [list(row) for row in rows]
    pivots: list[int] = []
    for column in range(size):
        at = len(pivots)
        pivot = next((i for i in range(at, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[at], rows[pivot] = rows[pivot], rows[at]
        rows[at] = [x / rows[at][column] for x in rows[at]]
        for i, row in enumerate(rows):
            if i != at and row[column]:
                rows[i] = [x - row[column] * p for x, p in zip(row, rows[at], strict=True)]
        pivots.append(column)
    basis = []
    for free in (column for column in range(size) if column not in pivots):
        vector = [Fraction(0)] * size
        vector[free] = Fraction(1)
        for row, column in zip(rows, pivots, strict=False):
            vector[column] = -row[free]
        basis.append(vector)
    return basis
