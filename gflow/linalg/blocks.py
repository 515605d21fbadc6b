"""Indices: blocks in which large matrices are computed, and samples of a long sequence."""

from __future__ import annotations

from collections.abc import Iterator


def spans(stop: int, size: int, start: int = 0) -> Iterator[slice]:
    """Yield slices of consecutive indices that cover ``range(start, stop)``.

    Parameters
    ----------
    stop : int
        End of the range.
    size : int
        Indices in each slice; the last one may have fewer.
    start : int
        Beginning of the range.

    Yields
    ------
    slice

    Examples
    --------
    >>> [(s.start, s.stop) for s in spans(7, 3)]
    [(0, 3), (3, 6), (6, 7)]
    """
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def spread(length: int, count: int) -> list[int]:
    """Return indices spread evenly over ``range(length)``, both ends included.

    Parameters
    ----------
    length : int
    count : int
        The largest number of indices.

    Returns
    -------
    list of int

    Examples
    --------
    >>> spread(9, 3), spread(2, 5)
    ([0, 4, 8], [0, 1])
    """
    steps = min(length, count)
    return sorted({round(i * (length - 1) / max(steps - 1, 1)) for i in range(steps)})
