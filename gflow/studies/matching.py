"""Times that a flow and descents share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from gflow.errors import InputError

_MOST_STEPS = 1e8  # of one descent: days


_SAME_TIME = 1e-9  # relative difference of times that count as one


def _shared(first: Tensor, second: Tensor) -> tuple[list[int], list[int]]:
    """Index pairs of times that agree, both ascending."""
    a, b = first.tolist(), second.tolist()
    scale = max(abs(a[-1]), abs(b[-1]), 1e-300)
    rows, columns = [], []
    i = j = 0
    while i < len(a) and j < len(b):
        if abs(a[i] - b[j]) <= _SAME_TIME * scale:
            rows.append(i)
            columns.append(j)
            i, j = i + 1, j + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return rows, columns


Spacing = Literal["linear", "log"]


def matched_times(
    t_end: float, step_sizes: Sequence[float], points: int, *, spacing: Spacing = "linear"
) -> tuple[list[float], list[list[int]]]:
    """Times for one trajectory, and steps for each descent, that can be compared.

    Parameters
    ----------
    t_end : float
    step_sizes : sequence of float
    points : int
        About so many comparisons for each step size, at most one a step.
    spacing : str
        ``linear``, or ``log`` for times that grow by equal factors from the first step on.

    Returns
    -------
    (list of float, list of list of int)
        The union of all k·step_size with 0 and t_end, ascending, and the step counts k of each
        step size, 0 included. Times closer than round-off are one.

    Raises
    ------
    InputError
        If a step size is not positive, absurdly small, or longer than the time span, or
        points is below 1.
    """
    if points < 1:
        raise InputError(f"points must be at least 1, got {points}")
    counts = []
    times: list[float] = [0.0]
    for step in step_sizes:
        if step > 0 and t_end / step > _MOST_STEPS:
            raise InputError(
                f"step size {step:g} takes {t_end / step:.1g} steps to t_end = {t_end:g}; at most "
                f"{_MOST_STEPS:g} are taken: use a larger step or a shorter time"
            )
        total = int(t_end / step * (1 + 1e-12)) if step > 0 else 0
        if total < 1:
            raise InputError(
                f"every step size must be positive and at most t_end = {t_end:g}, got {step:g}"
            )
        if spacing == "log":
            chosen = sorted({0, *(round(total ** (i / points)) for i in range(points + 1))})
        else:
            chosen = sorted({round(total * i / points) for i in range(points + 1)})
        counts.append(chosen)
        times += [k * step for k in chosen]
    times.append(t_end)
    union: list[float] = []
    for t in sorted(times):
        if not union or t - union[-1] > _SAME_TIME * t_end / 10:
            union.append(t)
    return union, counts
