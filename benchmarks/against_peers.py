"""The requirements that compare seconds with those of peers.

The seconds of gflow's solve alone are compared, as peers give no certificate; the ratio with the
certificate stands beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ensemble import ENSEMBLE, REFERENCE
from matched_error import (
    LEVELS,
    Matched,
    by_method,
    certified_seconds,
    fastest,
    matched,
    solve_seconds,
)
from measuring import Row
from overhead import ALONE
from peers_jax import COLD
from problems import PROBLEMS

_AUTO = "gflow auto"
_CVODE = "CVODE gmres(30)"
_TSIT5 = "diffrax Tsit5"
_COMPARED = ("completion", "linear_digits", "plateau", "tanh300", "non_stiff")
#: The most that gflow may take beyond an evaluation, in torchdiffeq's dopri5's.
_OVERHEADS = {"bdf": 0.4, "auto": 0.15, "tsit5": 0.15, "dop853": 0.15}


class Requirement(NamedTuple):
    subject: str
    bound: str
    measured: str
    met: bool | None  # None: not measured yet


class Comparison(NamedTuple):
    """gflow's seconds divided by those of a peer, at a matched error."""

    peer: str
    solve: float
    certified: float
    best: tuple[str, float]  # the best gflow method and the ratio of its solve
    mark: str  # "at most " or "at least ", where one of the seconds is a bound


def gflow_rows(rows: list[Row], problem: str, without: tuple[str, ...] = ()) -> list[Row]:
    """Return the answered rows of gflow on a problem."""
    return [
        row
        for row in rows
        if row.problem == problem
        and row.family == "gflow"
        and row.answered
        and row.method.removeprefix("gflow ") not in without
    ]


def against_peers(rows: list[Row]) -> Iterator[Requirement]:
    """Yield every requirement that compares seconds."""
    for name, level, times in (
        ("kernel300", 1e-3, 30.0),
        ("kernel300", 1e-6, 15.0),
        ("tanh300", 1e-3, 6.0),
        ("tanh300", 1e-6, 3.0),
        ("tanh3000", 1e-3, 12.0),
        ("tanh3000", 1e-6, 6.0),
    ):
        yield _faster(rows, name, level, times)
    for level in LEVELS:
        yield _faster(rows, "non_stiff", level, 1.0, "torchdiffeq dopri5")
    for name in _COMPARED:
        for level, most in zip(LEVELS, (1.0, 0.8), strict=True):
            yield _at_most(rows, name, level, most, _CVODE)
    for name, most in (("completion", 1.5), ("linear_digits", 1.5), ("non_stiff", 3.0)):
        for level in LEVELS:
            yield _at_most(rows, name, level, most, _TSIT5)
    yield _ahead_of_cold(rows)
    yield _error_at_equal_tolerance(rows)
    yield from _ensemble(rows)
    yield from _overhead(rows)


def compare(rows: list[Row], name: str, level: float, prefix: str) -> Comparison | None:
    """Compare `auto` with the fastest warm method with this prefix; None without one of them."""
    groups = by_method([row for row in rows if not row.method.endswith(COLD)], name)
    return _compare(groups, level, fastest(groups, prefix, level, solve_seconds))


def _compare(
    groups: dict[str, list[Row]], level: float, peer: tuple[str, Matched] | None
) -> Comparison | None:
    auto = matched(groups.get(_AUTO, []), level, solve_seconds)
    certified = matched(groups.get(_AUTO, []), level, certified_seconds)
    best = fastest(groups, "gflow", level, solve_seconds)
    if peer is None or auto is None or certified is None or best is None:
        return None
    label, theirs = peer
    mark = "at most " if theirs.mark == ">" else "at least " if auto.mark == ">" else ""
    return Comparison(
        label,
        auto.value / theirs.value,
        certified.value / theirs.value,
        (best[0].removeprefix("gflow "), best[1].value / theirs.value),
        mark,
    )


def _not_reached(rows: list[Row], name: str, peer: str, subject: str, bound: str) -> Requirement:
    if any(row.problem == name and row.method.startswith(peer) for row in rows):
        return Requirement(subject, bound, "not reached", False)
    return Requirement(subject, bound, f"{peer} not measured", None)


def _subject(name: str, level: float, peer: str) -> str:
    return f"{PROBLEMS[name]().title}: seconds against {peer}, error {level:.0e}"


def _faster(
    rows: list[Row], name: str, level: float, times: float, prefix: str = "torchdiffeq"
) -> Requirement:
    """Require the solve of `auto` to be some times faster than the fastest peer."""
    subject = _subject(name, level, prefix)
    bound = f"{times:g} times faster" if times != 1 else "not slower"
    found = compare(rows, name, level, prefix)
    if found is None:
        return _not_reached(rows, name, prefix, subject, bound)
    mark = {"at most ": "at least ", "at least ": "at most ", "": ""}[found.mark]
    measured = (
        f"`auto` {mark}{_figure(1 / found.solve)} times ({found.peer}; with the certificate "
        f"{_figure(1 / found.certified)}; best: {found.best[0]} {_figure(1 / found.best[1])})"
    )
    return Requirement(subject, bound, measured, 1 / found.solve >= times)


def _at_most(rows: list[Row], name: str, level: float, most: float, peer: str) -> Requirement:
    """Require the solve of `auto` to take at most some times the seconds of a peer."""
    subject, bound = _subject(name, level, peer), f"at most {most:g}"
    found = compare(rows, name, level, peer)
    if found is None:
        return _not_reached(rows, name, peer, subject, bound)
    return Requirement(subject, bound, _ratio(found), found.solve <= most)


def _ratio(found: Comparison) -> str:
    return (
        f"`auto` {found.mark}{_figure(found.solve)} (with the certificate "
        f"{_figure(found.certified)}; best: {found.best[0]} {_figure(found.best[1])})"
    )


def _figure(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 20 else f"{ratio:.2f}"


def _ahead_of_cold(rows: list[Row]) -> Requirement:
    subject, bound = "seconds against diffrax with its compilation, all problems", "below 1"
    found = []
    for name in PROBLEMS:
        groups = by_method(rows, name)
        for peer in (method for method in groups if method.endswith(COLD)):
            for level in LEVELS:
                value = matched(groups[peer], level, solve_seconds)
                ratio = _compare(groups, level, None if value is None else (peer, value))
                if ratio is not None:
                    found.append((ratio.solve, name, level, ratio))
    if not found:
        return Requirement(subject, bound, "not measured", None)
    worst, name, level, ratio = max(found)
    measured = f"worst of {len(found)}: {_ratio(ratio)} on {name} at {level:.0e}, {ratio.peer}"
    return Requirement(subject, bound, measured, worst < 1)


def _error_at_equal_tolerance(rows: list[Row]) -> Requirement:
    subject, bound = f"{PROBLEMS['plateau']().title}: error at rtol 1e-6", f"at most {_CVODE}'s"
    errors = {
        row.method: row.error or 0.0
        for row in rows
        if row.problem == "plateau" and row.rtol == 1e-6 and row.answered
    }
    if _AUTO not in errors or _CVODE not in errors:
        return _not_reached(rows, "plateau", _CVODE, subject, bound)
    ours, theirs = errors[_AUTO], errors[_CVODE]
    return Requirement(subject, bound, f"`auto` {ours:.1e}, CVODE {theirs:.1e}", ours <= theirs)


def _ensemble(rows: list[Row]) -> Iterator[Requirement]:
    """Compare one call for all starts with a loop, and with one compiled call, per member."""
    for peer, times in (("torchdiffeq", 30.0), ("diffrax", 1.0)):
        subject = f"ensemble of 1,000 deep linear starts against {peer}"
        bound = f"{times:g} times the throughput" if times != 1 else "at least its throughput"
        errors = [r.error or 0.0 for r in rows if r.problem == ENSEMBLE and r.method == REFERENCE]
        level = errors[0] if errors else 0.0
        found = compare(rows, ENSEMBLE, level, peer)
        if found is None:
            yield _not_reached(rows, ENSEMBLE, peer, subject, bound)
            continue
        yield Requirement(
            subject,
            bound,
            f"{_figure(1 / found.solve)} times ({found.peer}; with the certificate "
            f"{_figure(1 / found.certified)}) at error {level:.0e}",
            1 / found.solve >= times,
        )


def _overhead(rows: list[Row]) -> Iterator[Requirement]:
    theirs = [r for r in rows if r.problem == "overhead" and r.family == "torchdiffeq"]
    ours = gflow_rows(rows, "overhead", ("dopri5", "dopri8"))
    for row in ours:
        most = _OVERHEADS.get(row.method.removeprefix("gflow "))
        if most is not None:
            ratio = row.wall / theirs[0].wall
            yield Requirement(
                f"beyond an evaluation, {row.method} against torchdiffeq dopri5",
                f"at most {most:g}",
                f"{ratio:.2f}",
                ratio <= most,
            )
    for row in ours:
        yield Requirement(
            f"beyond an evaluation, {row.method}"
            if not row.method.endswith(ALONE)
            else f"the stepping loop, {row.method}",
            "under 40 µs an evaluation",
            f"{1e6 * row.wall:.0f} µs (torchdiffeq dopri5: {1e6 * theirs[0].wall:.0f})",
            row.wall < 40e-6,
        )
