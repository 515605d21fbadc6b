"""All runs of a sweep as one labelled dataset, made from whatever is done.

Dimensions are the swept keys. Variables are the numbers of the runs' summaries, those of their
tables (over ``step_size``, ``width`` or ``network``, where all runs have the same rows), and
the arrays of their ``result.nc`` that have one shape in all runs. What is not done yet is NaN;
``state`` says what has become of each run, ``run`` is its folder under ``runs/``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gflow.errors import InputError
from gflow.runs import reading
from gflow.sweeping.folder import SweepFolder, read_plan, run_path, status
from gflow.sweeping.plan import Plan

if TYPE_CHECKING:
    import xarray as xr

_TABLES = {
    "descent": "step_size",
    "step_sizes": "step_size",
    "widths": "width",
    "networks": "network",
}
_MAX_BYTES = 2**30  # of all curves together
_LONG_NAMES = {
    "final_loss": "loss at the end of the flow",
    "descent_final_loss": "loss at the end of descent",
    "initial_loss": "loss at the start",
    "largest_gap": "largest distance of descent to the flow",
    "solver_error": "solver's own error",
    "stability_limit": "2/λ_max",
    "step_size": "step size of descent",
    "width": "hidden width m",
    "seed": "seed of everything random",
    "peak_distance": "largest distance of network to kernel",
    "order": "fitted order of the gap",
    "certificate_holds": "whether the certificate holds",
    "wall_seconds": "seconds of the solve",
    "rhs_evals": "right-hand side evaluations",
}
_UNITS = {"wall_seconds": "s", "t_end": "step size × steps"}


GridIndex = tuple[int, ...]  # of a run, along the swept dimensions
Found = dict[GridIndex, np.ndarray]
Arrays = dict[str, tuple[tuple[str, ...], Found]]  # name -> dimensions of its own, values


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary, and those of a table of one row.

    A number of the descent whose name the flow has too is ``descent_…``.

    Examples
    --------
    >>> numbers({"final_loss": 0.5, "descent": [{"step_size": 0.1, "final_loss": 0.4}]})
    {'final_loss': 0.5, 'step_size': 0.1, 'descent_final_loss': 0.4}
    """
    found = _plain_numbers(summary)
    if isinstance(summary.get("certificate"), Mapping):
        found["certificate_holds"] = float(bool(summary["certificate"].get("holds")))
    for name, value in _plain_numbers(summary.get("cost")).items():
        found.setdefault(name, value)
    for table, rows in _tables(summary).items():
        if len(rows) == 1:
            for name, value in _plain_numbers(rows[0]).items():
                found.setdefault(_name(table, name, found), value)
    return found


def _name(table: str, name: str, taken: Iterable[str]) -> str:
    """What a row's number is called; elsewhere than in descent, the same name is the same thing."""
    return f"descent_{name}" if table == "descent" and name in taken else name


def _plain_numbers(values: Any) -> dict[str, float]:
    if not isinstance(values, Mapping):
        return {}
    infinite = {"inf": math.inf, "-inf": -math.inf}
    plain = {k: infinite.get(v, v) if isinstance(v, str) else v for k, v in values.items()}
    return {key: float(value) for key, value in plain.items() if isinstance(value, int | float)}


def _tables(summary: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    found = {name: summary.get(name) for name in _TABLES}
    return {
        name: rows
        for name, rows in found.items()
        if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows)
    }


def load_sweep(path: str | Path, *, curves: bool = True) -> xr.Dataset:
    """All runs of a sweep that are done, as one dataset.

    Parameters
    ----------
    path : str or Path
        The sweep's folder; the sweep may still be going on.
    curves : bool
        Whether to read the runs' arrays too, or their summaries alone.

    Returns
    -------
    xarray.Dataset
        Over the swept keys; ``load_sweep(path, curves=False).to_dataframe()`` is a table of
        pandas with a row for every run.

    Raises
    ------
    InputError
        If there is no sweep, or a file of it is damaged.

    Examples
    --------
    >>> import gflow
    >>> gflow.load_sweep("no/such/sweep")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no sweep at no/such/sweep: sweep.toml is missing
    """
    import xarray as xr

    folder = Path(path)
    plan, known = read_plan(folder), status(folder)
    dims = tuple(group[0].key for group in plan.groups)
    states = dict(known.states)
    ds = xr.Dataset(coords=_coordinates(plan))
    summaries: dict[GridIndex, Mapping[str, Any]] = {}
    found = _Curves({axis.key for group in plan.groups for axis in group})
    for member in plan.members:
        if states[member.id] == "done":
            run = run_path(folder, member.id)
            try:
                summary = reading.read_json(run, "summary.json")
                if curves:
                    found.add(member.index, reading.read_variables(run, "result.nc", found.last))
            except InputError as error:  # the rest is good
                states[member.id] = "damaged"
                warnings.warn(f"{error}; a sweep gone on with runs it anew", stacklevel=2)
            else:
                summaries[member.index] = summary
    arrays = _columns(summaries, set(ds.coords))
    _add_tables(ds, arrays, summaries)
    for name, (own, values) in arrays.items():
        ds[name] = ((*dims, *own), _filled(plan.shape, values), _attributes(name))
    ids = np.array([m.id for m in plan.members]).reshape(plan.shape)
    ends = np.array([states[m.id] for m in plan.members]).reshape(plan.shape)
    ds["run"] = (dims, ids.astype(object), {"long_name": "folder of the run", "units": "1"})
    ds["state"] = (dims, ends.astype(object), {"long_name": "state of the run", "units": "1"})
    found.put(ds, dims, plan.shape)
    ds.attrs |= {"scenario": str(plan.members[0].scenario.name), "runs": len(plan.members)}
    return ds


def _coordinates(plan: Plan) -> dict[str, Any]:
    return {
        axis.key: (group[0].key, list(axis.values), _attributes(axis.key))
        for group in plan.groups
        for axis in group
    }


def _attributes(name: str) -> dict[str, str]:
    label = _LONG_NAMES.get(name, name.replace("_", " "))
    return {"long_name": label, "units": _UNITS.get(name, "1")}


def _filled(shape: Sequence[int], found: Found) -> np.ndarray:
    """Arrays of one shape at their places, NaN elsewhere."""
    first = next(iter(found.values()))
    full = np.full((*shape, *first.shape), np.nan)
    for index, values in found.items():
        full[index] = values
    return full


def _columns(summaries: Mapping[GridIndex, Mapping[str, Any]], taken: Collection[Any]) -> Arrays:
    arrays: Arrays = {}
    for place, summary in summaries.items():
        for name, value in numbers(summary).items():
            if name not in taken:
                arrays.setdefault(name, ((), {}))[1][place] = np.array(value)
    return arrays


def _add_tables(
    ds: xr.Dataset, arrays: Arrays, summaries: Mapping[GridIndex, Mapping[str, Any]]
) -> None:
    """The tables of more than one row, where all runs have the same number of rows."""
    for table, label in _TABLES.items():
        tables = {place: _tables(summary).get(table, []) for place, summary in summaries.items()}
        counts = {len(rows) for rows in tables.values()}
        if len(counts) != 1 or counts <= {0, 1} or label in ds.dims:
            continue
        labels = {tuple(row.get(label) for row in rows) for rows in tables.values()}
        dim = label if len(labels) == 1 else table
        if dim == label:
            ds.coords[dim] = (dim, list(labels.pop()), _attributes(dim))
        taken = set(arrays)
        for name in next(iter(tables.values()))[0]:
            values = {
                place: np.array([_plain_numbers(row).get(name) for row in rows], float)
                for place, rows in tables.items()
            }
            called = _name(table, name, taken)
            if name != dim and called not in arrays and np.isfinite([*values.values()]).any():
                arrays[called] = ((dim,), values)


class _Curves:
    """The arrays of the runs' results, of which those of one shape in all runs are put together."""

    def __init__(self, swept: Set[str]):
        self._swept = swept
        self._found: dict[str, tuple[xr.Variable, Found]] = {}
        self._uneven: set[str] = set()
        self.last: Mapping[str, xr.Variable] | None = None  # of the run read last

    def add(self, place: GridIndex, result: Mapping[str, xr.Variable]) -> None:
        """The arrays of one run; dimensions that the sweep has too are of one value each."""
        self.last = result
        for name, variable in result.items():
            one = variable.squeeze(
                [d for d in variable.dims if d in self._swept and variable.sizes[d] == 1]
            )
            if one.ndim:
                first, values = self._found.setdefault(name, (one, {}))
                values[place] = one.values
                if first.sizes != one.sizes or self._swept & set(one.dims):
                    self._uneven.add(name)

    def put(self, ds: xr.Dataset, dims: tuple[str, ...], shape: tuple[int, ...]) -> None:
        """Put them into the dataset of the sweep; ``left_out`` names those of several shapes."""
        room = _MAX_BYTES
        left_out = set(self._uneven)
        for name, (first, values) in self._found.items():
            if name in self._uneven or name in ds.variables:
                continue
            if first.dims == (name,) and all(
                np.array_equal(v, first.values) for v in values.values()
            ):
                ds.coords[name] = first
                continue
            called = f"{name}_values" if name in first.dims else name  # not a dimension's name
            room -= math.prod(shape) * first.nbytes
            fits = all(ds.sizes.get(d, n) == n for d, n in first.sizes.items())
            fits = fits and not set(first.dims) & set(ds.data_vars) and called not in ds.dims
            if room < 0:
                raise InputError(
                    f"the arrays of the runs must take at most {_MAX_BYTES} bytes together; load "
                    "the sweep with curves=False, or runs one by one"
                )
            if not fits or first.dtype.kind not in "fiub":
                left_out.add(name)
                continue
            ds[called] = ((*dims, *first.dims), _filled(shape, values), first.attrs)
        if left_out:
            ds.attrs["left_out"] = ", ".join(sorted(left_out))


def write_sweep(folder: Path) -> Path:
    """Make ``sweep.nc`` from what is done; without the curves where they are too large."""
    try:
        ds = load_sweep(folder)
    except InputError:
        ds = load_sweep(folder, curves=False)
    SweepFolder(folder).write_dataset("sweep.nc", ds)
    return folder / "sweep.nc"
