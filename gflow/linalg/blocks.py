"""Blocks of consecutive indices, as large matrices are computed in."""

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
