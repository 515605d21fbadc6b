"""Datasets and lines of text of any value that can be drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from gflow.descent import Descent
from gflow.display import Display
from gflow.results.arrays import numbered
from gflow.results.base import Result
from gflow.results.lines import Line, certificate_line, cost_lines, format_value
from gflow.results.paths import (
    central_dataset,
    descents_dataset,
    gap_dataset,
    oscillation_dataset,
    trajectory_dataset,
)
from gflow.results.plateaus import plateaus_dataset
from gflow.results.registry import result_of
from gflow.results.summaries import cost_summary
from gflow.studies import CentralPath, Gap, OscillatingDescent, Plateaus
from gflow.trajectory import Trajectory

_DATASETS: dict[type, Callable[[Any], xr.Dataset]] = {
    Trajectory: trajectory_dataset,
    Descent: lambda descent: descents_dataset([descent]),
    Gap: gap_dataset,
    CentralPath: central_dataset,
    OscillatingDescent: oscillation_dataset,
    Plateaus: plateaus_dataset,
}


def to_dataset(value: Display | xr.Dataset) -> xr.Dataset:
    """Return the labelled arrays of a value, with the names and units of ``result.nc``.

    Parameters
    ----------
    value : Trajectory, Descent, Gap, study, run or xarray.Dataset

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        For other values.

    Examples
    --------
    >>> import gflow
    >>> flow, start = gflow.KernelFlow.example()
    >>> to_dataset(gflow.descend(flow, start, 0.1, 3)).descent_loss.attrs
    {'long_name': 'descent: loss', 'units': '1'}
    """
    if isinstance(value, xr.Dataset):
        return value
    for kind, arrays in _DATASETS.items():
        if isinstance(value, kind):
            return numbered(arrays(value))
    if isinstance(value, Display) and type(value).to_dataset is not Display.to_dataset:
        return value.to_dataset()
    return numbered(result_of(value).dataset)


def tensors(ds: xr.Dataset) -> dict[str, Tensor]:
    """Return the numeric variables of a dataset as tensors by name."""
    return {
        str(name): torch.as_tensor(variable.values)
        for name, variable in ds.data_vars.items()
        if variable.dtype.kind in "fiub"
    }


def paths_dataset(
    path: Trajectory | None, descents: Sequence[Descent], *, exact: bool = False
) -> xr.Dataset:
    """Return a trajectory and descents in one dataset, with the names of a run of both.

    Parameters
    ----------
    path : Trajectory, optional
    descents : sequence of Descent
    exact : bool
        Whether to add the closed form of the trajectory.

    Returns
    -------
    xarray.Dataset

    Examples
    --------
    >>> import gflow
    >>> flow, start = gflow.KernelFlow.example()
    >>> path, gd = gflow.integrate(flow, start, [0, 1]), gflow.descend(flow, start, 0.1, 3)
    >>> {"loss", "descent_loss"} <= set(paths_dataset(path, [gd]))
    True
    """
    ds = xr.Dataset() if path is None else trajectory_dataset(path, exact=exact)
    if descents:
        same = path is not None and all(
            descent.flow.state_shape == path.flow.state_shape for descent in descents
        )
        ds = ds.merge(descents_dataset(descents, path.flow if path is not None and same else None))
    return numbered(ds)


def lines(value: Display) -> tuple[str, list[Line]]:
    """Return a verdict in words and the labelled lines of a value.

    Parameters
    ----------
    value : Trajectory, Descent, Gap or study

    Returns
    -------
    str
        Empty where nothing certifies the value.
    list of (str, str)

    Examples
    --------
    >>> import gflow
    >>> flow, start = gflow.KernelFlow.example()
    >>> lines(gflow.integrate(flow, start, [0.0, 1.0]))[0]
    'certificate holds'
    """
    if isinstance(value, Trajectory):
        losses = value.losses
        text = f"{_range(losses[0])} at the start, {_range(losses[-1])} at the end"
        failures = [*value.certificate.failures(), *value.failures.values()]
        found = [("loss", text), certificate_line(failures), *cost_lines(cost_summary(value))]
        return _verdict(failures), found
    if isinstance(value, Descent):
        text = f"{int(value.steps[-1])} of step size {value.step_size:g}"
        found = [("steps", text), ("loss", f"{_range(value.losses[-1])} at the end")]
        if value.diverged_at is None:
            return "", found
        return f"DIVERGED from step {value.diverged_at}", found
    if isinstance(value, Gap):
        text = f"{value.largest:.4g}, relative {float(value.relative.max()):.2g}"
        error = format_value(value.solver_error, ".2g")
        return "", [("largest gap", text), ("solver error", f"{error}, relative")]
    if isinstance(value, CentralPath):
        text = f"{float(value.losses[0]):.4g} to {float(value.losses[-1]):.4g}"
        return "", [("loss", text), ("sharpness", f"{float(value.sharpness[-1]):.4g} at the end")]
    if isinstance(value, OscillatingDescent):
        verdict, found = lines(value.descent)
        return verdict, [*found, ("sharpness", f"{float(value.sharpness[-1]):.4g} at the end")]
    if isinstance(value, Plateaus):
        verdict, found = lines(value.trajectory)
        jumps = ", ".join(f"{t:.4g}" for t in value.times) or "none"
        levels = ", ".join(f"{loss:.4g}" for loss in value.losses)
        unit = "" if value.unit == 1 else f", in units of {value.unit:.4g}"
        return verdict, [("plateaus", f"loss {levels}"), ("jumps", f"t = {jumps}{unit}"), *found]
    result = result_of(value)
    return table_lines(type(result), result.summary)


def table_lines(kind: type[Result], summary: Mapping[str, Any]) -> tuple[str, list[Line]]:
    """Return a verdict in words and the lines below the table of a summary.

    Parameters
    ----------
    kind : type of Result
    summary : mapping

    Returns
    -------
    str
    list of (str, str)

    Examples
    --------
    >>> import gflow
    >>> flow, start = gflow.KernelFlow.example()
    >>> result = result_of(gflow.step_size_study(flow, start, 1.0, [0.1, 0.05]))
    >>> table_lines(type(result), result.summary)[0]
    'certificate holds'
    """
    failures = [failure for c in kind.certificates(summary) for failure in c["failures"]]
    return _verdict(failures), list(kind.table(summary).lines)


def _verdict(failures: Sequence[str]) -> str:
    return "certificate DOES NOT HOLD" if failures else "certificate holds"


def _range(values: Tensor) -> str:
    """Return a number, or the least and the largest of an ensemble's."""
    low, high = float(values.min()), float(values.max())
    return f"{low:.4g}" if low == high or math.isnan(low) else f"{low:.4g} … {high:.4g}"
