"""Comparison of runs: what differs in their scenarios, versions, numbers and curves.

Every run is compared with the first. The difference of a curve b to the curve a of the first run is
max|a − b| / max|a| over the times (or other coordinates) that both have, b interpolated linearly to
those of a. Values that are not finite are left out.
"""

from __future__ import annotations

import math
import os.path
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gflow.errors import InputError
from gflow.reporting.damage import damage_is_an_input_error
from gflow.results.lines import format_value
from gflow.results.registry import find_kind
from gflow.runs.reading import Run, load_run

_VERSIONS = ("gflow", "commit", "python", "platform")
_NOT_COMPARED = ("name", "title")


@dataclass(frozen=True)
class CurveDifference:
    """How a curve differs between runs.

    Attributes
    ----------
    name, long_name : str
        The variable in ``result.nc``.
    values : tuple of float or None
        For each other run the relative difference to the first; None where the two curves have
        no common coordinates.
    """

    name: str
    long_name: str
    values: tuple[float | None, ...]

    @property
    def largest(self) -> float:
        """The largest of the differences; 0 where none could be measured."""
        return max((v for v in self.values if v is not None), default=0.0)


@dataclass(frozen=True)
class Comparison:
    """What differs between runs.

    Attributes
    ----------
    labels : tuple of str
        One for each run: the shortest end of its path that differs from the others.
    scenario, versions : mapping of str to tuple
        The keys whose values differ, with the value of each run; None where a run has none.
    numbers : mapping of str to tuple of (float or None)
        The numbers that differ, of the summaries and of their rows.
    equal_numbers : int
        How many numbers are the same in all runs.
    curves : tuple of CurveDifference
        The curves that another run has at common coordinates, the largest difference first;
        curves of measured errors come last.
    """

    labels: tuple[str, ...]
    scenario: Mapping[str, tuple[Any, ...]]
    versions: Mapping[str, tuple[Any, ...]]
    numbers: Mapping[str, tuple[float | None, ...]]
    equal_numbers: int
    curves: tuple[CurveDifference, ...]


def compare_runs(paths: Sequence[str | Path]) -> Comparison:
    """Compare finished runs, each with the first.

    Parameters
    ----------
    paths : sequence of str or Path
        The folders of two or more runs.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If there are fewer than two, or a folder holds no finished run.

    Examples
    --------
    >>> import tempfile
    >>> from gflow.runs import Job, RunOptions, run
    >>> from gflow.scenario import load_scenario
    >>> keys = {"data": "synthetic", "samples": 6, "inputs": 2, "points": 3, "t_end": 1.0}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for depth in (1, 2):
    ...         job = Job(load_scenario("deep-linear", {**keys, "depth": depth}))
    ...         _ = run(job, f"{folder}/{depth}", RunOptions(draw=False))
    ...     compared = compare_runs([f"{folder}/1", f"{folder}/2"])
    >>> compared.labels, dict(compared.scenario)
    (('1', '2'), {'depth': (1, 2)})
    """
    if len(paths) < 2:
        raise InputError(f"a comparison needs at least two runs, got {len(paths)}; name more")
    with damage_is_an_input_error(", ".join(map(str, paths))):
        return comparison_of([load_run(path) for path in paths])


def comparison_of(runs: Sequence[Run]) -> Comparison:
    """Compare runs that are in memory; see `compare_runs`."""
    numbers = _numbers([run.summary for run in runs])
    differing = _differing(numbers, _names(numbers))
    return Comparison(
        labels=labels_of([run.path for run in runs]),
        scenario=_differing([run.scenario for run in runs], _keys(runs)),
        versions=_differing([_made_with(run.manifest) for run in runs]),
        numbers=differing,
        equal_numbers=len(_names(numbers)) - len(differing),
        curves=_curves(runs),
    )


def labels_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the shortest ends of paths by which all can be told apart.

    Examples
    --------
    >>> labels_of([Path("a/run"), Path("b/run")]), labels_of([Path("a/1"), Path("a/2")])
    (('a/run', 'b/run'), ('1', '2'))
    """
    parts = [Path(os.path.abspath(path)).parts[1:] or ("/",) for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(p[-count:]) for p in parts]
        if len(set(ends)) == len(ends):
            return tuple(ends)
    return tuple(f"{'/'.join(p[-1:])} ({i})" for i, p in enumerate(parts, 1))  # one run twice


def _numbers(summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return the numbers of summaries and of their rows.

    Rows are told apart by their labels where all runs have the same, else by their place.
    """
    kinds = [find_kind(summary) for summary in summaries]
    tables = [kind.rows(s) for kind, s in zip(kinds, summaries, strict=True)]
    labels = [[row.get(k.row_label) for row in rows] for k, rows in zip(kinds, tables, strict=True)]
    alike = all(label == labels[0] for label in labels)
    found = []
    for kind, summary, rows in zip(kinds, summaries, tables, strict=True):
        numbers = kind.numbers(summary)
        whole = frozenset(numbers)
        for i, row in enumerate(rows, 1) if len(rows) > 1 else ():  # a single row is in there
            name = kind.row_label.replace("_", " ")
            place = f"{name} {format_value(row.get(kind.row_label))}" if alike else f"row {i}"
            values = kind.row_numbers(row, whole)
            numbers |= {f"{key} ({place})": value for key, value in values.items()}
        found.append(numbers)
    return found


def _made_with(manifest: Mapping[str, Any]) -> dict[str, Any]:
    packages = manifest.get("packages")
    versions = {key: manifest.get(key) for key in _VERSIONS}
    return {**versions, **(packages if isinstance(packages, dict) else {})}


def _keys(runs: Sequence[Run]) -> list[str]:
    return [key for key in _names([run.scenario for run in runs]) if key not in _NOT_COMPARED]


def _names(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(name) for table in tables for name in table))


def _differing(
    tables: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None
) -> dict[str, tuple[Any, ...]]:
    """Return the entries whose values differ."""
    rows = {n: tuple(t.get(n) for t in tables) for n in (names or _names(tables))}
    return {n: values for n, values in rows.items() if not all(_same(values[0], v) for v in values)}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return bool(a == b)


def _curves(runs: Sequence[Run]) -> tuple[CurveDifference, ...]:
    first, *others = [run.result for run in runs]
    curves = []
    for name in map(str, first.data_vars):
        a = first[name]
        if a.ndim == 0 or a.dtype.kind not in "fiub" or not any(name in o for o in others):
            continue
        values = tuple(_difference(a, other[name]) if name in other else None for other in others)
        if any(value is not None for value in values):
            curves.append(CurveDifference(name, str(a.attrs.get("long_name", name)), values))
    return tuple(sorted(curves, key=lambda curve: (_is_check(curve.name), -curve.largest)))


def _is_check(name: str) -> bool:
    """Return whether a curve is a measured error, whose relative difference says little."""
    return name.startswith("drift_") or name.endswith(("_defect", "_slack", "error"))


def _difference(a: xr.DataArray, b: xr.DataArray) -> float | None:
    """Return max|a − b| / max|a|, b interpolated along the one dimension whose values differ."""
    if a.dims != b.dims or b.dtype.kind not in "fiub":
        return None
    apart = [dim for dim in a.dims if not _equal(a, b, str(dim))]
    left, right = np.asarray(a.values, float), np.asarray(b.values, float)
    if apart:
        aligned = _on_common(a, b, str(apart[0])) if len(apart) == 1 else None
        if aligned is None:
            return None
        left, right = aligned
    both = np.isfinite(left) & np.isfinite(right)
    if not both.any():
        return None
    distance, scale = np.abs(left - right)[both].max(), np.abs(left[both]).max()
    return float(distance / scale) if scale > 0 else (0.0 if distance == 0 else math.inf)


def _equal(a: xr.DataArray, b: xr.DataArray, dim: str) -> bool:
    if a.sizes[dim] != b.sizes[dim]:
        return False
    return (dim in a.coords) == (dim in b.coords) and (
        dim not in a.coords or np.array_equal(a[dim].values, b[dim].values)
    )


def _on_common(a: xr.DataArray, b: xr.DataArray, dim: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return both at the times of the first that lie within both; counts are not interpolated."""
    if dim != "time" or dim not in a.coords or dim not in b.coords:
        return None
    x, at = np.asarray(a[dim].values, float), np.asarray(b[dim].values, float)
    inside = (x >= at[0]) & (x <= at[-1])
    if not inside.any() or (np.diff(at) <= 0).any():
        return None
    left = np.moveaxis(np.asarray(a.values, float), a.dims.index(dim), 0)[inside]
    right = np.moveaxis(np.asarray(b.values, float), b.dims.index(dim), 0)
    columns = [np.interp(x[inside], at, c) for c in right.reshape(len(at), -1).T]
    return left.reshape(len(left), -1), np.stack(columns, axis=1)
