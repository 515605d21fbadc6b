"""The requirements on solvers: bound, measured value, and whether it is met."""

from __future__ import annotations

from collections.abc import Iterator

from against_peers import Requirement, against_peers, gflow_rows
from matched_error import solve_seconds
from measuring import Row
from reporting import auto_ratios

# Methods that are not stabilised.
_NOT_STABILISED = (
    *("auto", "exact", "krylov", "bdf"),
    *("tsit5", "dop853", "dopri5", "dopri8"),
)
_FINAL_LOSS = 0.06440  # of the tanh network at T = 300
_EVERY_RTOL = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def requirements_table(rows: list[Row]) -> str:
    """Return the table of requirements in Markdown."""
    lines = [
        "",
        "## Requirements",
        "",
        "| subject | requirement | measured | met |",
        "| --- | --- | --- | --- |",
    ]
    for row in requirements(rows):
        met = {True: "yes", False: "**no**", None: "not measured"}[row.met]
        lines.append(f"| {row.subject} | {row.bound} | {row.measured} | {met} |")
    return "\n".join(lines) + "\n"


def requirements(rows: list[Row]) -> Iterator[Requirement]:
    """Yield every requirement."""
    yield from _within(
        rows,
        "kernel300",
        "kernel flow n = 300, stabilised",
        ((1e-3, 600), (1e-5, 1500), (1e-7, 3000)),
        _NOT_STABILISED,
    )
    yield _auto_against_eigh(rows)
    yield _krylov(rows)
    yield from _within(
        rows, "tanh300", "tanh network T = 300", ((1e-3, 500), (1e-4, 800), (1e-6, 1800)), ()
    )
    yield _never_wrong(rows)
    yield _auto_is_best(rows)
    yield from against_peers(rows)


def _within(
    rows: list[Row],
    problem: str,
    subject: str,
    levels: tuple[tuple[float, int], ...],
    without: tuple[str, ...],
) -> Iterator[Requirement]:
    """Yield the cheapest measured solve (not interpolated) within each level of error."""
    ours = gflow_rows(rows, problem, without)
    for level, max_cost in levels:
        good = [row for row in ours if (row.error or 0) <= level]
        best = min(good, key=lambda row: row.cost, default=None)
        bound = f"error ≤ {level:.0e} within {max_cost:,}"
        if best is None:
            yield Requirement(subject, bound, "not reached", False if ours else None)
            continue
        label = f"{best.method.removeprefix('gflow ')} rtol {best.rtol:.0e}"
        measured = f"{best.cost:,.0f} ({label}, {best.error:.1e})"
        yield Requirement(subject, bound, measured, best.cost <= max_cost)


def _auto_against_eigh(rows: list[Row]) -> Requirement:
    subject, bound = "same, `auto`", "error ≤ 1e-10 in under 1.3 times one `eigh`"
    eigh = [r for r in rows if r.problem == "kernel300" and r.family == "yardstick"]
    good = [r for r in gflow_rows(rows, "kernel300") if r.method == "gflow auto"]
    good = [r for r in good if (r.error or 0) <= 1e-10]
    if not eigh or not good:
        return Requirement(subject, bound, "not reached", False if eigh else None)
    best = min(good, key=solve_seconds)
    ratio, inner = best.wall / eigh[0].wall, best.solve / eigh[0].wall
    return Requirement(
        subject,
        bound,
        f"{inner:.2f} times ({ratio:.2f} with its certificate), error {best.error:.0e}",
        inner < 1.3,
    )


def _krylov(rows: list[Row]) -> Requirement:
    subject = "kernel flow n = 1,797, `krylov`"
    bound = "error ≤ 1e-8 in ≤ 120 products, faster than one `eigh`, no n × n copy"
    eigh = [r for r in rows if r.problem == "kernel1797" and r.family == "yardstick"]
    ours = [r for r in gflow_rows(rows, "kernel1797") if r.method == "gflow krylov"]
    good = [r for r in ours if (r.error or 0) <= 1e-8]
    if not good or not eigh:
        return Requirement(subject, bound, "not reached", False if ours else None)
    best = min(good, key=solve_seconds)
    products = (best.rhs or 0) + (best.jvp or 0)
    peak = best.peak_mb if best.peak_mb is not None else 0.0
    copy = 8 * 1797**2 / 2**20
    return Requirement(
        subject,
        bound,
        f"{products} products, {best.solve / eigh[0].wall:.2f} of one `eigh` "
        f"({best.wall / eigh[0].wall:.2f} with its certificate), "
        f"peak {peak:.1f} MB (H: {copy:.0f}), error {best.error:.0e}",
        products <= 120 and best.solve < eigh[0].wall and peak < copy,
    )


def _never_wrong(rows: list[Row]) -> Requirement:
    subject = "tanh network T = 300, rtol 1e-2 … 1e-6"
    bound = "loss at T within 2 % of 0.06440, never rising, or an error"
    ours = [r for r in gflow_rows(rows, "tanh300") if r.rtol in _EVERY_RTOL]
    wrong = []
    for row in ours:
        off = abs((row.loss or 0) / _FINAL_LOSS - 1)
        if off > 0.02 or "loss_increase" in row.flag:
            flag = "flagged" if row.flag else "silent"
            wrong.append(f"{row.method} {row.rtol:.0e}: {100 * off:.1f} % off, {flag}")
    worst = max((abs((r.loss or 0) / _FINAL_LOSS - 1) for r in ours), default=0)
    text = "; ".join(wrong) if wrong else f"{len(ours)} solves, at most {100 * worst:.2g} % off"
    return Requirement(subject, bound, text, not wrong if ours else None)


def _auto_is_best(rows: list[Row]) -> Requirement:
    ratios = auto_ratios(rows)
    worst = max(ratios, key=lambda ratio: ratio[2], default=None)
    subject, bound = "`auto` against the best single gflow method, all problems", "≤ 1.3"
    if worst is None:
        return Requirement(subject, bound, "not measured", None)
    measured = f"worst {worst[2]:.2f} on {worst[0]} at {worst[1]:.0e}"
    return Requirement(subject, bound, measured, worst[2] <= 1.3)
