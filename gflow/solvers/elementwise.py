"""Decisions on numbers of which every member has one.

Many members have arrays, a lone start NumPy's scalars: arithmetic on these takes a tenth of the
time of arrays of one, and is the same to the last bit, with the same infinities and NaN. What
Python's operators do not say, these functions say of both; NumPy's own are slow on scalars.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

#: One entry a member: an array, or a scalar for a lone start.
Values: TypeAlias = Any
#: Which members: an array of rows, or 0 for a lone start.
Rows: TypeAlias = Any

ONE = np.zeros(1, np.int64)  # the only row of a lone start, as an array
NONE = np.zeros(0, np.int64)


def some(mask: Values) -> int:
    """How many are true: for few members much faster than ``any``."""
    return int(np.count_nonzero(mask)) if isinstance(mask, np.ndarray) else int(mask)


def every(mask: Values) -> bool:
    """Whether all are true."""
    return np.count_nonzero(mask) == len(mask) if isinstance(mask, np.ndarray) else bool(mask)


def choose(mask: Values, yes: Values, no: Values) -> Values:
    """``yes`` where the mask is true, else ``no``."""
    return np.where(mask, yes, no) if isinstance(mask, np.ndarray) else yes if mask else no


def larger(a: Values, b: Values) -> Values:
    """The larger of two; NaN where either is."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.maximum(a, b)
    return a if a >= b or math.isnan(a) else b


def smaller(a: Values, b: Values) -> Values:
    """The smaller of two; NaN where either is."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.minimum(a, b)
    return a if a <= b or math.isnan(a) else b


def largest(a: Values) -> float:
    """Of all; NaN where any is."""
    return float(a.max() if isinstance(a, np.ndarray) else a)


def finite(a: Values) -> Values:
    """Neither infinite nor NaN."""
    return abs(a) < math.inf


def missing(a: Values) -> Values:
    """NaN."""
    return a != a


def those(mask: Values, *values: Values) -> tuple[Values, ...]:
    """The entries of values where the mask, true somewhere, is true."""
    return values if every(mask) else tuple(v[mask] for v in values)


def rows_of(rows: Rows, mask: Values) -> np.ndarray:
    """The rows where the mask is true, as an array in any case."""
    if isinstance(mask, np.ndarray):
        found: np.ndarray = rows[mask]
        return found
    return ONE if mask else NONE
