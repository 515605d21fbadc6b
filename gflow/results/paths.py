"""Labelled arrays of trajectories, descents and gaps, with the names that runs have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from gflow.descent import Descent
from gflow.errors import InputError
from gflow.flows.base import Flow
from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import (
    LONG_NAMES,
    STEP_SIZE,
    TIME,
    add_variable,
    labelled,
    member_dims,
    observable_dims,
    padded,
    path_dataset,
)
from gflow.results.base import Measure
from gflow.studies.central_path import CentralPath
from gflow.studies.compare import Gap
from gflow.studies.oscillation import OscillatingDescent
from gflow.trajectory import Trajectory

_LEAD = ("step_size", "save")


def trajectory_dataset(path: Trajectory, *, exact: bool = False) -> xr.Dataset:
    """Return a trajectory's loss, observables, invariants and sharpness over ``time``.

    Parameters
    ----------
    path : Trajectory
    exact : bool
        Whether to add the observables of the closed form, as ``exact_<name>``.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the flow has no closed form from this start.

    Examples
    --------
    >>> import gflow
    >>> flow, start = gflow.KernelFlow.example()
    >>> ds = trajectory_dataset(gflow.integrate(flow, start, [0.0, 1.0]), exact=True)
    >>> bool(abs(ds.exact_loss - ds.loss).max() < 1e-12)
    True
    """
    ds, flow = path_dataset(path), path.flow
    lead = "time", *member_dims(flow, path.ys)
    if "loss" not in ds:
        add_variable(ds, "loss", lead, to_numpy(path.losses), LONG_NAMES["loss"])
    if path.sharpness.numel():
        long_name = "sharpness λ_max of the Hessian"
        add_variable(ds, "sharpness", ("time",), to_numpy(path.sharpness[:, 0]), long_name)
    if path.stats.method != "exact":
        error = solver_error(path)
        if math.isfinite(error):
            add_variable(ds, "solver_error", (), error, "solver's own error")
    if exact:
        start = path.ys[0]
        if flow.closed_form(start) is None:
            raise InputError(
                f"{type(flow).__name__} has no closed form for this loss and start; leave out "
                "exact=True"
            )
        states = flow.exact(path.ts - path.ts[0], start)
        values = {"loss": flow.loss(states), **flow.observables(states)}
        for name, value in values.items():
            dims = observable_dims(flow, name, lead, value.ndim)
            long_name = "closed form: " + LONG_NAMES.get(name, name)
            add_variable(ds, f"exact_{name}", dims, to_numpy(value), long_name)
    return ds


def solver_error(path: Trajectory) -> float:
    """Return a trajectory's own error in the units of a gap; NaN where it was not measured."""
    error = path.certificate.error_estimate
    if error is None:
        error = math.nan if path.stats.method != "exact" else 8 * torch.finfo(path.ys.dtype).eps
    return error * float(path.flow.norm(path.ys).max())


def descents_dataset(
    descents: Sequence[Descent],
    flow: Flow | None = None,
    measure: Measure = lambda ts, ys: {},
) -> xr.Dataset:
    """Return the loss and observables of descents over ``step_size`` × ``save``.

    Parameters
    ----------
    descents : sequence of Descent
    flow : Flow, optional
        The flow whose observables are measured; by default each descent's own.
    measure : callable
        ``measure(ts, ys)`` gives additional measurements.

    Returns
    -------
    xarray.Dataset
        ``descent_<name>``, at the times ``descent_time``; NaN after a descent ended.

    Examples
    --------
    >>> import gflow
    >>> flow, start = gflow.KernelFlow.example()
    >>> ds = descents_dataset([gflow.descend(flow, start, 0.1, 3)])
    >>> ds.descent_loss.dims, ds.descent_time.values.round(1).tolist()
    (('step_size', 'save'), [[0.0, 0.1, 0.2, 0.3]])
    """
    sizes = [descent.step_size for descent in descents]
    ds = xr.Dataset(coords={"step_size": ("step_size", sizes, STEP_SIZE)})
    ds["descent_time"] = (_LEAD, padded([to_numpy(d.ts) for d in descents]), TIME)
    columns: dict[str, list[np.ndarray]] = {}
    dims: dict[str, tuple[str, ...]] = {}
    for descent in descents:
        of = flow or descent.flow
        lead = (*_LEAD, *member_dims(of, descent.ys))
        seen = of.observables(descent.ys)
        seen = seen if flow is not None or "loss" in seen else {"loss": descent.losses, **seen}
        for name, values in seen.items():
            columns.setdefault(name, []).append(to_numpy(values))
            dims[name] = observable_dims(of, name, lead, values.ndim + 1)
        for name, (_, values) in measure(descent.ts, descent.ys).items():
            columns.setdefault(name, []).append(to_numpy(values))
            dims[name] = _LEAD
    for name, rows in columns.items():
        long_name = "descent: " + LONG_NAMES.get(name, name)
        add_variable(ds, f"descent_{name}", dims[name], padded(rows), long_name)
    return labelled(ds, flow or descents[0].flow)


def central_dataset(path: CentralPath) -> xr.Dataset:
    """Return a central flow's losses, variance, sharpness and rank over ``time``."""
    ds = xr.Dataset(coords={"time": ("time", to_numpy(path.ts), TIME)})
    curves = {
        "loss": (path.losses, "loss"),
        "averaged_loss": (path.averaged_losses, "L + tr Σ/η"),
        "variance": (path.variances, "tr Σ"),
        "sharpness": (path.sharpness, "sharpness λ_max of the Hessian"),
        "rank": (path.ranks, "rank of Σ"),
    }
    for name, (values, long_name) in curves.items():
        add_variable(ds, name, ("time",), to_numpy(values), long_name)
    return ds


def oscillation_dataset(path: OscillatingDescent) -> xr.Dataset:
    """Return a descent with its losses and oscillation at every step, ``step_size`` × ``step``."""
    ds = descents_dataset([path.descent])
    lead = ("step_size", "step")
    ds["step_time"] = (lead, to_numpy(path.step_ts)[None], TIME)
    curves = {
        "step_loss": (path.losses, "loss at every step"),
        "oscillation": (path.oscillation, "along the top eigenvector"),
        "step_variance": (path.variances, "‖alternating part‖²"),
    }
    for name, (values, long_name) in curves.items():
        add_variable(ds, name, lead, to_numpy(values)[None], long_name)
    long_name = "sharpness of descent"
    add_variable(ds, "descent_sharpness", _LEAD, to_numpy(path.sharpness)[None], long_name)
    return ds


def gap_dataset(gap: Gap) -> xr.Dataset:
    """Return a gap over ``step_size`` × ``save``, with the flow's own error in its units."""
    ds = xr.Dataset(coords={"step_size": ("step_size", [gap.step_size], STEP_SIZE)})
    ds["gap_time"] = (_LEAD, to_numpy(gap.ts)[None], TIME)
    dims = (
        *_LEAD,
        *("member" if i == 0 else f"member_{i + 1}" for i in range(gap.end_to_end.ndim - 1)),
    )
    curves = {
        "gap": (gap.end_to_end, "distance of descent to the flow"),
        "relative_gap": (gap.relative, "gap of the outputs, relative"),
        "parameter_gap": (gap.parameters, "distance of the parameters"),
    }
    for name, (values, long_name) in curves.items():
        if values is not None:
            add_variable(ds, name, dims, to_numpy(values)[None], long_name)
    error = math.nan if gap.solver_error is None else gap.solver_error * gap.flow_norm
    add_variable(ds, "solver_error", (), error, "solver's own error")
    return ds
