"""Results of studies as labelled arrays (xarray) and short summaries.

Every variable carries ``long_name`` and ``units``; times are in units of
step_size × steps of gradient descent on the same loss. Plots, reports and files are
made from these alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from gflow.results.base import (
    _LONG_NAMES,
    _STEP_SIZE,
    _TIME,
    Setup,
    _add,
    _add_drift,
    _array,
    _padded,
    certificate_summary,
    cost_summary,
    path_dataset,
)
from gflow.studies.flow_and_descent import FlowAndDescent


@dataclass(frozen=True)
class Outcome:
    """The labelled arrays of a run and its summary (plain values)."""

    dataset: xr.Dataset
    summary: dict[str, Any]


def flow_and_descent_outcome(result: FlowAndDescent, setup: Setup) -> Outcome:
    """Labelled arrays and summary of a flow with its descents.

    Dimensions: ``time`` (the flow's), ``step_size`` × ``save`` (the descents', whose
    times are ``descent_time``; NaN after the last), and the observables' own.
    """
    path = result.trajectory
    ds = path_dataset(path)
    measured = {**setup.measure(path.ts, path.ys), **setup.measure_flow(path.ts, path.ys)}
    if path.sharpness.numel():
        measured["sharpness"] = "sharpness λ_max of the Hessian", path.sharpness[:, 0]
    for name, (label, values) in measured.items():
        _add(ds, name, ("time",), _array(values), label)
    for name, (label, dims, values) in setup.spectral.items():
        _add(ds, name, dims, _array(values), label)
    if result.parameters is not None:
        inner = result.parameters
        measured_inside = inner.observables()
        for name in ("balancedness", "balanced_product_defect"):
            if name in measured_inside:
                dims = ("time", *inner.flow.observable_dims[name])
                _add(ds, name, dims, _array(measured_inside[name]), _LONG_NAMES[name])
        _add_drift(ds, inner)
    descents = result.descents
    sizes = [d.step_size for d in descents]
    ds = ds.assign_coords(step_size=("step_size", sizes, _STEP_SIZE))
    lead = ("step_size", "save")
    ds["descent_time"] = (lead, _padded([_array(d.ts) for d in descents]), _TIME)
    columns: dict[str, list[np.ndarray]] = {}
    for descent in descents:
        for name, values in path.flow.observables(descent.ys).items():
            columns.setdefault(name, []).append(_array(values))
        at = descent.ts, descent.ys
        for name, (_, values) in {**setup.measure(*at), **setup.measure_descent(*at)}.items():
            columns.setdefault(name, []).append(_array(values))
    for name, rows in columns.items():
        dims = (*lead, *path.flow.observable_dims.get(name, ()))
        label = "descent: " + _LONG_NAMES.get(name, name)
        _add(ds, f"descent_{name}", dims, _padded(rows), label)
    gaps = [_array(g.end_to_end) for g in result.gaps]
    _add(ds, "gap", lead, _padded(gaps), "distance of descent to the flow")
    ds["gap_time"] = (lead, _padded([_array(g.ts) for g in result.gaps]), _TIME)
    ds["solver_error"] = (
        (),
        _solver_gap(result),
        {"long_name": "solver's own error", "units": "1"},
    )
    ds["stability_limit"] = ((), result.stability_limit, {"long_name": "2/λ_max", "units": "1"})
    finals = {f"final_{name}": float(values[-1]) for name, (_, values) in measured.items()}
    return Outcome(ds, {**_summary(result, setup), **finals})


def _solver_gap(result: FlowAndDescent) -> float:
    """The solver's error in the units of the gap; NaN where it was not measured."""
    if result.solver_error is not None:
        return result.solver_error
    path = result.trajectory
    error = path.certificate.error_estimate
    if error is None:
        error = math.nan if path.stats.method != "exact" else 8 * torch.finfo(path.ys.dtype).eps
    return error * float(path.flow.norm(path.ys).max())


def _summary(result: FlowAndDescent, setup: Setup) -> dict[str, Any]:
    path = result.trajectory
    rows = []
    for descent, gap in zip(result.descents, result.gaps, strict=True):
        stable = descent.step_size < result.stability_limit
        rows.append(
            {
                "step_size": descent.step_size,
                "steps": int(descent.steps[-1]),
                "final_loss": float(descent.losses[-1]),
                "largest_gap": gap.largest,
                "stable": stable,
                "diverged_at": descent.diverged_at,
            }
        )
    summary = {
        "t_end": float(path.ts[-1]),
        "initial_loss": float(path.losses[0]),
        "final_loss": float(path.losses[-1]),
        "stability_limit": result.stability_limit,
        "solver_error": _solver_gap(result),
        "descent": rows,
        "certificate": certificate_summary(path),
        "cost": cost_summary(path),
        **setup.facts,
    }
    if result.parameters is not None:
        summary["reduction_error"] = result.reduction_error
        summary["parameter_certificate"] = certificate_summary(result.parameters)
    return summary
