"""Tables of the rows: the cost of each method at the same true error."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
from pathlib import Path

from matched_error import (
    LEVELS,
    Matched,
    by_method,
    certified_seconds,
    fastest,
    gradient_equivalents,
    matched,
    solve_seconds,
)
from measuring import Row
from problems import PROBLEMS

_AUTO = "gflow auto"
_PACKAGES = (
    *("gflow-ode", "torch", "numpy", "scipy", "torchdiffeq", "torchode"),
    *("diffrax", "jax", "scikit-sundae", "sundials4py"),
)


# -- the report -------------------------------------------------------------------------


def report(rows: list[Row]) -> str:
    """Return Markdown: a table per problem, then those that compare methods on all problems."""
    lines = [
        "# Solvers: work at matched error",
        "",
        *_preamble(),
    ]
    for name in PROBLEMS:
        groups = by_method(rows, name)
        if groups:
            lines += ["", *_problem_table(name, groups)]
    lines += ["", *_fastest_table(rows), "", *_auto_table(rows)]
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
        "at a true error of 1e-3 and 1e-6, interpolated between tolerances.",
        "≤: the loosest tolerance already has a smaller error; \\>: out of time, a lower bound. "
        "One CPU thread, float64; medians where a solve takes less than half a second.",
        "",
        "- **solve**: the seconds of the solve alone, for all methods. Only these are compared "
        "with those of peers, which give no certificate. The equivalents are those of the solve.",
        "- **with certificate**: the seconds of a user's call of gflow, which measures the "
        "certificate: energy, invariants and, for most paths, a second, finer solve.",
        "- **cold**: diffrax's seconds with tracing and compiling, in an empty cache. Without the "
        "word it is warm: compiled before the clock starts.",
        "- In brackets: relative to gflow's `auto`; seconds of either kind relative to those of "
        "its solve alone.",
        "- **peak**: the largest increase of resident memory in one solve.",
        "",
        "Rows: `solvers.csv`.",
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
        "| method | equivalents at 1e-3 | solve, s | with certificate, s "
        "| equivalents at 1e-6 | solve, s | with certificate, s | peak, MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    auto = groups.get(_AUTO, [])
    for method, group in groups.items():
        if not any(row.answered or row.status == "projected" for row in group):
            continue
        cells = [
            _cell(matched(group, level, cost), matched(auto, level, base), digits)
            for level in LEVELS
            for cost, base, digits in (
                (gradient_equivalents, gradient_equivalents, 0),
                (solve_seconds, solve_seconds, 3),
                (certified_seconds, solve_seconds, 3),
            )
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


def _fastest_table(rows: list[Row]) -> list[str]:
    lines = [
        "## Fastest of all methods, in seconds of the solve",
        "",
        "In brackets: relative to the fastest.",
        "",
        "| problem | error | fastest | solve, s | `auto`, solve, s | `auto`, with certificate, s "
        "| gflow's best, solve, s |",
        "| --- | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    for name in PROBLEMS:
        groups = by_method(rows, name)
        for level in LEVELS:
            first = fastest(groups, "", level, solve_seconds)
            if first is None:
                continue
            auto = groups.get(_AUTO, [])
            best = fastest(groups, "gflow", level, solve_seconds)
            cells = [
                _cell(first[1], None, 3),
                _cell(matched(auto, level, solve_seconds), first[1], 3),
                _cell(matched(auto, level, certified_seconds), first[1], 3),
                f"{best[0].removeprefix('gflow ')}: {_cell(best[1], first[1], 3)}" if best else "–",
            ]
            lines.append(f"| {name} | {level:.0e} | {first[0]} | {' | '.join(cells)} |")
    return lines


def _auto_table(rows: list[Row]) -> list[str]:
    lines = [
        "## `auto` against the best single gflow method, in gradient-equivalents",
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
            auto = matched(groups.get(_AUTO, []), level, gradient_equivalents)
            best = fastest(groups, "gflow", level, gradient_equivalents, (_AUTO,))
            if auto is not None and best is not None:
                ratios.append((name, level, auto.value / best[1].value, auto, best))
    return ratios
