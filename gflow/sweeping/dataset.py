"""All runs of a sweep as one labelled dataset, made from whatever is done.

Dimensions are the swept keys. Variables are the numbers of the runs' summaries, those of their
tables (over ``step_size``, ``width`` or ``network``, where all runs have the same rows), and
the arrays of their ``result.nc`` that have one shape in all runs. What is not done yet is NaN;
``state`` says what has become of each run, ``run`` is its folder under ``runs/``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gflow import store
from gflow.errors import InputError
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
    "peak_distance": "largest distance of network to kernel over the epochs",
    "order": "fitted order of the gap",
    "certificate_holds": "whether the certificate holds",
    "wall_seconds": "seconds of the solve",
    "rhs_evals": "right-hand side evaluations",
}
_UNITS = {"wall_seconds": "s", "t_end": "step size × steps"}


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
    ds = xr.Dataset(coords=_coordinates(plan))
    places = {m.id: m.index for m in plan.members if known.states[m.id] == "done"}
    summaries = {id: store.read_json(run_path(folder, id), "summary.json") for id in places}
    columns: dict[str, dict[tuple[int, ...], Any]] = {}
    for id, summary in summaries.items():
        for name, value in numbers(summary).items():
            columns.setdefault(name, {})[places[id]] = np.array(value)
    arrays = {name: ((), found) for name, found in columns.items() if name not in ds.coords}
    _add_tables(ds, arrays, summaries, places)
    for name, (own, found) in arrays.items():
        ds[name] = ((*dims, *own), _filled(plan.shape, found), _attributes(name))
    for name, values in {
        "state": {m.index: known.states[m.id] for m in plan.members},
        "run": {m.index: m.id for m in plan.members},
    }.items():
        text = np.empty(plan.shape, object)
        for index, value in values.items():
            text[index] = value
        ds[name] = (dims, text, {"long_name": f"{name} of the sweep", "units": "1"})
    if curves:
        _add_curves(ds, dims, plan, {i: run_path(folder, id) for id, i in places.items()})
    ds.attrs = {"scenario": str(plan.members[0].scenario.name), "runs": len(plan.members)}
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


def _filled(shape: Sequence[int], found: Mapping[tuple[int, ...], np.ndarray]) -> np.ndarray:
    """Arrays of one shape at their places, NaN elsewhere."""
    first = next(iter(found.values()))
    full = np.full((*shape, *first.shape), np.nan)
    for index, values in found.items():
        full[index] = values
    return full


Found = dict[tuple[int, ...], np.ndarray]


def _add_tables(
    ds: xr.Dataset,
    arrays: dict[str, tuple[tuple[str, ...], Found]],
    summaries: Mapping[str, Mapping[str, Any]],
    places: Mapping[str, tuple[int, ...]],
) -> None:
    """The tables of more than one row, where all runs have the same number of rows."""
    for table, label in _TABLES.items():
        rows = {places[id]: _tables(s).get(table, []) for id, s in summaries.items()}
        counts = {len(found) for found in rows.values()}
        if len(counts) != 1 or counts <= {0, 1} or label in ds.dims:
            continue
        labels = {tuple(row.get(label) for row in found) for found in rows.values()}
        same = len(labels) == 1
        dim = label if same else table
        if same:
            ds.coords[dim] = (dim, list(next(iter(labels))), _attributes(label))
        taken = set(arrays)
        for name in next(iter(rows.values()))[0]:
            columns = {i: [_plain_numbers(r).get(name) for r in found] for i, found in rows.items()}
            if name == dim or all(v is None for column in columns.values() for v in column):
                continue
            values = {i: np.array(column, float) for i, column in columns.items()}
            called = _name(table, name, taken)
            if called not in arrays:
                arrays[called] = ((dim,), values)


def _add_curves(
    ds: xr.Dataset, dims: tuple[str, ...], plan: Plan, paths: Mapping[tuple[int, ...], Path]
) -> None:
    """The arrays of the runs' results that have one shape in all of them."""
    found: dict[str, tuple[tuple[str, ...], Found, dict[str, Any]]] = {}
    uneven: set[str] = set()
    for index, path in paths.items():
        for name, variable in store.read_dataset(path, "result.nc").variables.items():
            once = [d for d in variable.dims if d in dims and variable.sizes[d] == 1]
            variable = variable.squeeze(once)
            own = tuple(str(d) for d in variable.dims)
            first = found.setdefault(str(name), (own, {}, dict(variable.attrs)))
            shapes = {v.shape for v in first[1].values()} | {variable.shape}
            if first[0] != own or len(shapes) > 1 or set(own) & set(dims) or not own:
                uneven.add(str(name))
            elif variable.dtype.kind in "fiub":
                first[1][index] = variable.values.astype(float)
    left_out = []
    room = _MAX_BYTES
    for name, (own, arrays, attributes) in found.items():
        if name in uneven or name in ds or not arrays:
            left_out += [name] if name in uneven and own else []
            continue
        values = list(arrays.values())
        if own == (name,) and all(np.array_equal(v, values[0]) for v in values):
            ds.coords[name] = (name, values[0], attributes)
            continue
        called = f"{name}s" if name in own else name  # xarray keeps the name for the dimension's
        room -= math.prod(plan.shape) * values[0].nbytes
        if room < 0:
            raise InputError(
                f"the arrays of the runs must take at most {_MAX_BYTES} bytes; load the sweep "
                "with curves=False, or runs one by one"
            )
        ds[called] = ((*dims, *own), _filled(plan.shape, arrays), attributes)
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
