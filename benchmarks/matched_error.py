"""The cost of a method at a given true error, from its rows.

The cost is interpolated between tolerances, linearly in the logarithms, along the cheapest rows.
"≤" marks a method whose loosest tolerance already has a smaller error. ">" marks a method that ran
out of time: a lower bound of its cost, extrapolated from the part of the interval that it covered
(sharpness grows on the problems where this happens).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

from measuring import Row

LEVELS = (1e-3, 1e-6)


class Matched(NamedTuple):
    """A cost at a given error; ``mark`` is "", "≤" (an upper bound) or ">" (a lower one)."""

    value: float
    mark: str


def matched(rows: list[Row], level: float, cost: Callable[[Row], float]) -> Matched | None:
    """Return the cost of one method at an error; None where it does not reach the error."""
    # A cost that is NaN is counted in other units.
    points = sorted((cost(r), r.error or 1e-17) for r in rows if r.answered and cost(r) > 0)
    front: list[tuple[float, float]] = []
    for c, e in points:
        if not front or e < front[-1][1]:
            front.append((c, e))
    if front and front[0][1] <= level:
        return Matched(front[0][0], "≤")
    for (c0, e0), (c1, e1) in itertools.pairwise(front):
        if e1 <= level:
            share = math.log(e0 / level) / math.log(e0 / e1)
            return Matched(c0 * (c1 / c0) ** share, "")
    bounds = [cost(r) for r in rows if r.status == "projected"]
    return Matched(max([*bounds, front[-1][0] if front else 0.0]), ">") if bounds else None


def by_method(rows: list[Row], problem: str) -> dict[str, list[Row]]:
    """Return the rows of one problem by method, in the order measured."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.problem == problem:
            groups.setdefault(row.method, []).append(row)
    return groups


def gradient_equivalents(row: Row) -> float:
    return row.cost


def solve_seconds(row: Row) -> float:
    return row.solve


def certified_seconds(row: Row) -> float:
    """Return gflow's seconds with its certificate; NaN for others, which give none."""
    return row.wall if row.inner_seconds else math.nan


def fastest(
    groups: dict[str, list[Row]],
    prefix: str,
    level: float,
    cost: Callable[[Row], float],
    without: tuple[str, ...] = (),
) -> tuple[str, Matched] | None:
    """Return the method with this prefix and the least cost at an error; bounds count as costs."""
    costs = [
        (name, value)
        for name, group in groups.items()
        if name.startswith(prefix) and name not in without and group[0].family != "yardstick"
        for value in [matched(group, level, cost)]
        if value is not None
    ]
    return min(costs, key=lambda pair: pair[1].value, default=None)
