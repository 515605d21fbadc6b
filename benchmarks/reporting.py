"""Tables of the rows: the cost of each method at the same true error.

The cost at a matched error is interpolated between tolerances, linearly in the logarithms, along
the cheapest rows. "≤" marks a method whose loosest tolerance already has a smaller error. ">" marks
a method that ran out of time: a lower bound of its cost, extrapolated from the part of the interval
that it covered (sharpness grows on the problems where this happens).
"""

from __future__ import annotations

import datetime
import importlib.metadata
import itertools
import math
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from measuring import Row
from problems import PROBLEMS

LEVELS = (1e-3, 1e-6)
_PACKAGES = (
    *("gflow-ode", "torch", "numpy", "scipy", "torchdiffeq", "torchode"),
    *("diffrax", "jax", "scikit-sundae"),
)


# -- matched error ----------------------------------------------------------------------


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


def wall(row: Row) -> float:
    return row.wall


def fastest(
    groups: dict[str, list[Row]], prefix: str, level: float, cost: Callable[[Row], float]
) -> tuple[str, Matched] | None:
    """Return the method with this prefix and the least cost at an error; bounds count as costs."""
    costs = [
        (name, value)
        for name, group in groups.items()
        if name.startswith(prefix) and name != "gflow auto"
        for value in [matched(group, level, cost)]
        if value is not None
    ]
    return min(costs, key=lambda pair: pair[1].value, default=None)


# -- the report -------------------------------------------------------------------------


def report(rows: list[Row]) -> str:
    """Return Markdown: a table per problem, then `auto` against the best single method."""
    lines = [
        "# Solvers: work at matched error",
        "",
        *_preamble(),
    ]
    for name in PROBLEMS:
        groups = by_method(rows, name)
        if groups:
            lines += ["", *_problem_table(name, groups)]
    lines += ["", *_auto_table(rows)]
    return "\n".join(lines) + "\n"


def _preamble() -> list[str]:
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    return [
        "Gradient-equivalents (right-hand sides + 2 × Jacobian-vector products) and wall seconds "
        "at a true error of 1e-3 and 1e-6,",
        "interpolated between tolerances. In brackets: relative to gflow's `auto`. "
        "≤: the loosest tolerance already has a smaller error;",
        "\\>: out of time, a lower bound. One CPU thread, float64; medians where a solve takes "
        "less than half a second. gflow's seconds include its certificate, diffrax's no "
        "compilation.",
        "Peak is the largest increase of resident memory in one solve. Rows: `solvers.csv`.",
        "",
        f"{datetime.date.today()}, {', '.join(versions)}, Python {platform.python_version()}, "
        f"{_machine()}; load average {os.getloadavg()[1]:.1f} of {os.cpu_count()} cores.",
        "Command: `python benchmarks/work_precision.py`",
    ]


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    return f"{platform.system()} on {model}, one thread"


def _problem_table(name: str, groups: dict[str, list[Row]]) -> list[str]:
    problem = PROBLEMS[name]()
    kind = "root mean square" if problem.rms else "relative"
    lines = [
        f"## {problem.title}",
        "",
        f"{problem.y0.numel():,} states; {kind} error at T.",
        "",
        f"![work-precision](solvers-{name}.png)",
        "",
        "| method | equivalents at 1e-3 | seconds at 1e-3 | equivalents at 1e-6 "
        "| seconds at 1e-6 | peak, MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    auto = groups.get("gflow auto", [])
    for method, group in groups.items():
        if not any(row.answered or row.status == "projected" for row in group):
            continue
        cells = [
            _cell(matched(group, level, cost), matched(auto, level, cost), digits)
            for level in LEVELS
            for cost, digits in ((gradient_equivalents, 0), (wall, 3))
        ]
        peaks = [row.peak_mb for row in group if row.peak_mb is not None]
        chosen = sorted({row.chosen for row in group if row.chosen})
        label = f"**{method}** ({', '.join(chosen)})" if chosen else method
        peak = f"{max(peaks):.1f}" if peaks else "–"
        lines.append(f"| {label} | {' | '.join(cells)} | {peak} |")
    return lines + _failures(groups)


def _cell(value: Matched | None, against: Matched | None, digits: int) -> str:
    if value is None or not math.isfinite(value.value):
        return "–"
    ratio = f" ({value.value / against.value:.2g})" if against is not None else ""
    mark = "\\>" if value.mark == ">" else value.mark
    number = f"{value.value:,.0f}" if digits == 0 else f"{value.value:.{digits}g}"
    return f"{mark} {number}{ratio}".strip()


def _failures(groups: dict[str, list[Row]]) -> list[str]:
    """Return failures, a line per method; gflow methods that do not apply are omitted."""
    lines = []
    for method, group in groups.items():
        bad = [
            f"rtol {row.rtol:.0e}: {row.status}"
            for row in group
            if not row.answered
            and not (row.family == "gflow" and row.status.startswith("not run"))
            and row.family != "yardstick"
        ]
        flagged = [f"rtol {row.rtol:.0e} flagged ({row.flag})" for row in group if row.flag]
        if bad or flagged:
            lines.append(f"- {method}: {'; '.join(bad + flagged)}")
    return ["", "Failures, projections and flags:", "", *lines] if lines else []


def _auto_table(rows: list[Row]) -> list[str]:
    lines = [
        "## `auto` against the best single gflow method",
        "",
        "| problem | error | `auto` | best single | ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, level, ratio, auto, best in auto_ratios(rows):
        lines.append(
            f"| {name} | {level:.0e} | {auto.mark} {auto.value:,.0f} "
            f"| {best[0].removeprefix('gflow ')}: {best[1].mark} {best[1].value:,.0f} "
            f"| {ratio:.2f} |"
        )
    return lines


def auto_ratios(
    rows: list[Row],
) -> list[tuple[str, float, float, Matched, tuple[str, Matched]]]:
    """Return (problem, error, ratio of gradient-equivalents, auto, best single method)."""
    ratios = []
    for name in PROBLEMS:
        groups = by_method(rows, name)
        for level in LEVELS:
            auto = matched(groups.get("gflow auto", []), level, gradient_equivalents)
            best = fastest(groups, "gflow", level, gradient_equivalents)
            if auto is not None and best is not None:
                ratios.append((name, level, auto.value / best[1].value, auto, best))
    return ratios
