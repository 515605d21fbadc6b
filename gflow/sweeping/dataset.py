"""All runs of a sweep as one labelled dataset, also while the sweep is running.

Dimensions are the swept keys. Variables are the numbers of the runs' summaries, the numbers in
the summaries' rows (over ``step_size``, ``width`` or ``network``, where all runs have the same
rows), and the arrays of their ``result.nc`` that have one shape in all runs. Without the arrays
every variable has the swept dimensions alone, so that a table has one row for each run: the
numbers in the summaries' rows are then ``largest_gap_1``, ``largest_gap_2`` and so on. Values of
runs that are not done are NaN; ``state`` is the state of each run, ``run`` its folder under
``runs/``.
The kinds of results (``gflow/results``) declare what their numbers are called.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gflow.checks import require_bool
from gflow.errors import InputError
from gflow.io.plain import as_path
from gflow.results.arrays import STEP_SIZE, label
from gflow.results.base import Result
from gflow.results.registry import find_kind
from gflow.runs import reading
from gflow.sweeping.curves import Curves, GridIndex, Values, filled
from gflow.sweeping.folder import SweepFolder, read_plan, run_path, status
from gflow.sweeping.plan import Plan

if TYPE_CHECKING:
    import xarray as xr

    from gflow.sweeping.sweep_dataset import SweepDataset

_MAX_ROWS = 100  # of a run's summary in a table of runs
#: Attributes of swept keys; other coordinates are labelled by their name.
_AXES = {
    "step_size": STEP_SIZE,
    "width": label("hidden width m"),
    "seed": label("seed of everything random"),
    "t_end": label("t end", "step size × steps"),
}


@dataclass(frozen=True)
class _Column:
    """A variable of the sweep's dataset: its kind, its dimensions beside the swept, its values."""

    kind: type[Result]
    dims: tuple[str, ...]
    values: Values


@dataclass(frozen=True)
class _Record:
    """A run's summary and the kind of result that it is of."""

    kind: type[Result]
    summary: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> _Record:
        """Read the summary of a run; raise `InputError` where it is damaged."""
        summary = reading.read_json(folder, "summary.json")
        try:
            kind = find_kind(summary)
            kind.rows(summary)
        except InputError as error:
            raise InputError(f"damaged run at {folder}: summary.json: {error}") from None
        return cls(kind, summary)


def load_sweep(path: str | Path, *, curves: bool = True) -> SweepDataset:
    """Load all completed runs of a sweep as one dataset.

    Parameters
    ----------
    path : str or Path
        The sweep's folder; the sweep may still be running.
    curves : bool
        Whether to read the runs' arrays too, instead of their summaries alone; without them the
        numbers of the i-th row of a summary have names that end in ``_i``.

    Returns
    -------
    xarray.Dataset
        Over the swept keys; ``load_sweep(path).plot(x, y, hue)`` draws a quantity of it, and
        ``load_sweep(path, curves=False).to_dataframe()`` is a pandas table with one row a run.

    Raises
    ------
    InputError
        If there is no sweep, or its own file is damaged.

    Warns
    -----
    UserWarning
        For every run that is damaged; its values are NaN.

    Examples
    --------
    >>> import gflow
    >>> gflow.load_sweep("no/such/sweep")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no sweep at no/such/sweep: sweep.toml is missing
    """
    from gflow.sweeping.sweep_dataset import SweepDataset

    folder, curves = as_path(path), require_bool("curves", curves)
    plan, states = read_plan(folder), dict(status(folder).states)
    dims = tuple(group[0].key for group in plan.groups)
    ds = SweepDataset(coords=_coordinates(plan))
    records: dict[GridIndex, _Record] = {}
    arrays = Curves({axis.key for group in plan.groups for axis in group})
    for member in plan.members:
        if states[member.id] == "done":
            run = run_path(folder, member.id)
            try:
                record = _Record.read(run)
                if curves:
                    arrays.add(member.index, reading.read_variables(run, "result.nc", arrays.last))
            except InputError as error:
                states[member.id] = "damaged"
                message = f"{error}; delete its folder and resume the sweep to rerun it"
                warnings.warn(message, stacklevel=2)
            else:
                records[member.index] = record
    columns = _number_columns(records, set(ds.coords))
    columns |= _row_columns(ds, columns, records) if curves else _numbered_columns(columns, records)
    for name, column in columns.items():
        values = filled(plan.shape, column.values)
        ds[name] = ((*dims, *column.dims), values, _attributes(column.kind, name))
    for name, long_name, texts in (
        ("run", "folder of the run", [m.id for m in plan.members]),
        ("state", "state of the run", [states[m.id] for m in plan.members]),
    ):
        grid = np.array(texts).reshape(plan.shape).astype(object)
        ds[name] = (dims, grid, label(long_name))
    arrays.add_to(ds, dims, plan.shape)
    ds.attrs |= {"scenario": str(plan.members[0].scenario.name), "runs": len(plan.members)}
    return ds


def _attributes(kind: type[Result], name: str) -> dict[str, str]:
    """Return long name and units of a number, or of a number of the i-th row."""
    stem, _, row = name.rpartition("_")
    if not stem or not row.isdigit():
        return kind.attributes(name)
    attributes = kind.attributes(stem)
    return attributes | {"long_name": f"{attributes['long_name']}, row {row}"}


def _coordinates(plan: Plan) -> dict[str, Any]:
    return {
        axis.key: (group[0].key, list(axis.values), _axis_attributes(axis.key))
        for group in plan.groups
        for axis in group
    }


def _axis_attributes(key: str) -> dict[str, str]:
    return dict(_AXES.get(key) or label(key.replace("_", " ")))


def _number_columns(
    records: Mapping[GridIndex, _Record], coordinates: Collection[Any]
) -> dict[str, _Column]:
    """Return the numbers of the runs by name, without those that are coordinates."""
    columns: dict[str, _Column] = {}
    for index, record in records.items():
        for name, value in record.kind.numbers(record.summary).items():
            if name not in coordinates:
                column = columns.setdefault(name, _Column(record.kind, (), {}))
                column.values[index] = np.array(value)
    return columns


def _row_columns(
    ds: xr.Dataset, columns: Collection[str], records: Mapping[GridIndex, _Record]
) -> dict[str, _Column]:
    """Return the numbers in rows, if all runs have equally many rows, and more than one.

    Their dimension is the label of the rows, which becomes a coordinate, if all runs have the
    same labels, else the key of the rows.
    """
    kinds = {record.kind for record in records.values()}
    if len(kinds) != 1:
        return {}
    (kind,) = kinds
    tables = {index: kind.rows(record.summary) for index, record in records.items()}
    counts = {len(rows) for rows in tables.values()}
    if len(counts) != 1 or counts <= {0, 1} or kind.row_label in ds.dims:
        return {}
    labels = {tuple(row.get(kind.row_label) for row in rows) for rows in tables.values()}
    dim = kind.rows_key
    if len(labels) == 1:
        dim = kind.row_label
        ds.coords[dim] = (dim, list(labels.pop()), kind.attributes(dim))
    numbers = {i: [kind.row_numbers(row, columns) for row in rows] for i, rows in tables.items()}
    names = dict.fromkeys(name for rows in numbers.values() for row in rows for name in row)
    row_columns = {}
    for name in names:
        values = {
            index: np.array([row.get(name, math.nan) for row in rows])
            for index, rows in numbers.items()
        }
        if name not in (dim, *columns) and np.isfinite([*values.values()]).any():
            row_columns[name] = _Column(kind, (dim,), values)
    return row_columns


def _numbered_columns(
    columns: Collection[str], records: Mapping[GridIndex, _Record]
) -> dict[str, _Column]:
    """Return the numbers of the i-th rows as ``name_i``, where a run has more than one row."""
    numbered: dict[str, _Column] = {}
    for index, record in records.items():
        rows = record.kind.rows(record.summary)
        for i, row in enumerate(rows[:_MAX_ROWS] if len(rows) > 1 else [], 1):
            for name, value in record.kind.row_numbers(row, columns).items():
                key = f"{name}_{i}"
                if key not in columns:
                    column = numbered.setdefault(key, _Column(record.kind, (), {}))
                    column.values[index] = np.array(value)
    return numbered


def write_sweep(folder: Path) -> Path:
    """Write ``sweep.nc`` from all runs that are done, without curves where they are too large."""
    try:
        ds = load_sweep(folder)
    except InputError:
        ds = load_sweep(folder, curves=False)
    SweepFolder(folder).write_dataset("sweep.nc", ds)
    return folder / "sweep.nc"
