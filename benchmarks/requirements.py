"""The requirements on solvers: bound, measured value, and whether it is met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from measuring import Row
from overhead import ALONE
from problems import PROBLEMS
from reporting import auto_ratios, by_method, fastest, matched, wall

# Methods that are not stabilised.
_NOT_STABILISED = (
    *("auto", "exact", "krylov", "bdf"),
    *("tsit5", "dop853", "dopri5", "dopri8"),
)
_FINAL_LOSS = 0.06440  # of the tanh network at T = 300
_EVERY_RTOL = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


class Requirement(NamedTuple):
    subject: str
    bound: str
    measured: str
    met: bool | None  # None: not measured yet


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
    for name, level, times in (
        ("kernel300", 1e-3, 30.0),
        ("kernel300", 1e-6, 15.0),
        ("tanh300", 1e-3, 6.0),
        ("tanh300", 1e-6, 3.0),
        ("tanh3000", 1e-3, 12.0),
        ("tanh3000", 1e-6, 6.0),
    ):
        yield _faster(rows, name, level, times)
    for level in (1e-3, 1e-6):
        yield _faster(rows, "non_stiff", level, 1.0, "torchdiffeq dopri5")
    yield _auto_is_best(rows)
    yield _ensemble(rows)
    yield from _overhead(rows)


def _gflow(rows: list[Row], problem: str, without: tuple[str, ...] = ()) -> list[Row]:
    return [
        row
        for row in rows
        if row.problem == problem
        and row.family == "gflow"
        and row.answered
        and row.method.removeprefix("gflow ") not in without
    ]


def _within(
    rows: list[Row],
    problem: str,
    subject: str,
    levels: tuple[tuple[float, int], ...],
    without: tuple[str, ...],
) -> Iterator[Requirement]:
    """Yield the cheapest measured solve (not interpolated) within each level of error."""
    ours = _gflow(rows, problem, without)
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
    good = [r for r in _gflow(rows, "kernel300") if r.method == "gflow auto"]
    good = [r for r in good if (r.error or 0) <= 1e-10]
    if not eigh or not good:
        return Requirement(subject, bound, "not reached", False if eigh else None)
    best = min(good, key=wall)
    ratio, inner = best.wall / eigh[0].wall, best.inner / eigh[0].wall
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
    ours = [r for r in _gflow(rows, "kernel1797") if r.method == "gflow krylov"]
    good = [r for r in ours if (r.error or 0) <= 1e-8]
    if not good or not eigh:
        return Requirement(subject, bound, "not reached", False if ours else None)
    best = min(good, key=wall)
    products = (best.rhs or 0) + (best.jvp or 0)
    peak = best.peak_mb if best.peak_mb is not None else 0.0
    copy = 8 * 1797**2 / 2**20
    return Requirement(
        subject,
        bound,
        f"{products} products, {best.wall / eigh[0].wall:.2f} of one `eigh`, "
        f"peak {peak:.1f} MB (H: {copy:.0f}), error {best.error:.0e}",
        products <= 120 and best.wall < eigh[0].wall and peak < copy,
    )


def _never_wrong(rows: list[Row]) -> Requirement:
    subject = "tanh network T = 300, rtol 1e-2 … 1e-6"
    bound = "loss at T within 2 % of 0.06440, never rising, or an error"
    ours = [r for r in _gflow(rows, "tanh300") if r.rtol in _EVERY_RTOL]
    wrong = []
    for row in ours:
        off = abs((row.loss or 0) / _FINAL_LOSS - 1)
        if off > 0.02 or "loss_increase" in row.flag:
            flag = "flagged" if row.flag else "silent"
            wrong.append(f"{row.method} {row.rtol:.0e}: {100 * off:.1f} % off, {flag}")
    worst = max((abs((r.loss or 0) / _FINAL_LOSS - 1) for r in ours), default=0)
    text = "; ".join(wrong) if wrong else f"{len(ours)} solves, at most {100 * worst:.2g} % off"
    return Requirement(subject, bound, text, not wrong if ours else None)


def _faster(
    rows: list[Row], name: str, level: float, times: float, against: str = "torchdiffeq"
) -> Requirement:
    """Divide the wall seconds of the fastest torchdiffeq method by those of a call of `auto`."""
    groups = by_method(rows, name)
    auto = matched(groups.get("gflow auto", []), level, wall)
    theirs = fastest(groups, against, level, wall)
    subject = f"{PROBLEMS[name]().title}: wall against {against}, error {level:.0e}"
    bound = f"{times:g} times faster" if times != 1 else "not slower"
    if auto is None or theirs is None:
        return Requirement(
            subject, bound, "not reached", False if auto is None and theirs else None
        )
    label, value = theirs
    ratio = value.value / auto.value
    best = fastest(groups, "gflow", level, wall)
    details = f"; best: {best[0]} {_format_ratio(value.value / best[1].value)}" if best else ""
    solve = matched(groups["gflow auto"], level, lambda row: row.inner)
    if solve is not None:
        details = f"; without the certificate {_format_ratio(value.value / solve.value)}{details}"
    mark = "at least " if value.mark == ">" else ""
    measured = f"`auto` {mark}{_format_ratio(ratio)} times ({label}{details})"
    return Requirement(subject, bound, measured, ratio >= times)


def _format_ratio(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.2f}"


def _auto_is_best(rows: list[Row]) -> Requirement:
    ratios = auto_ratios(rows)
    worst = max(ratios, key=lambda ratio: ratio[2], default=None)
    subject, bound = "`auto` against the best single gflow method, all problems", "≤ 1.3"
    if worst is None:
        return Requirement(subject, bound, "not measured", None)
    measured = f"worst {worst[2]:.2f} on {worst[0]} at {worst[1]:.0e}"
    return Requirement(subject, bound, measured, worst[2] <= 1.3)


def _ensemble(rows: list[Row]) -> Requirement:
    subject, bound = "ensemble of 1,000 deep linear starts", "30 times the throughput of a loop"
    theirs = [r for r in rows if r.problem == "ensemble" and r.family == "peer"]
    ours = _gflow(rows, "ensemble")
    good = [r for r in ours if theirs and (r.error or 0) <= (theirs[0].error or 0)]
    if not theirs or not good:
        return Requirement(subject, bound, "not reached", False if theirs else None)
    ratio = theirs[0].wall / good[-1].wall
    return Requirement(
        subject, bound, f"{ratio:.1f} times at error {good[-1].error:.0e}", ratio >= 30
    )


def _overhead(rows: list[Row]) -> Iterator[Requirement]:
    theirs = [r for r in rows if r.problem == "overhead" and r.family == "torchdiffeq"]
    for row in _gflow(rows, "overhead", ("dopri5", "dopri8")):
        yield Requirement(
            f"beyond an evaluation, {row.method}"
            if not row.method.endswith(ALONE)
            else f"the stepping loop, {row.method}",
            "under 40 µs an evaluation",
            f"{1e6 * row.wall:.0f} µs (torchdiffeq dopri5: {1e6 * theirs[0].wall:.0f})",
            row.wall < 40e-6,
        )
