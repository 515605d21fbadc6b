"""Results of studies as labelled arrays (xarray) and short summaries.

Every variable carries ``long_name`` and ``units``; times are in units of
step_size × steps of gradient descent on the same loss. Plots, reports and files are
made from these alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from gflow.flows.base import Flow, Observables
from gflow.studies.continuous_vs_discrete import ContinuousVsDiscrete
from gflow.studies.flow_and_descent import FlowAndDescent
from gflow.studies.implicit_regularization import ImplicitRegularization
from gflow.studies.step_size import StepSizeStudy
from gflow.trajectory import Trajectory, invariant_drift

_TIME = {"long_name": "time t = k · step size", "units": "step size × steps"}
_STEP_SIZE = {"long_name": "step size of descent", "units": "1"}
_LONG_NAMES = {
    "loss": "loss",
    "singular_values": "singular values of W",
    "eigenvalues": "eigenvalues of W = UUᵀ",
    "effective_rank": "effective rank of W",
    "nuclear_norm": "nuclear norm of W",
    "balancedness": "balancedness ‖W_{j+1}ᵀW_{j+1} − W_jW_jᵀ‖_F",
    "balanced_product_defect": "relative defect of (W_j⋯W_1)ᵀ(W_j⋯W_1) = [WᵀW]^{j/N}",
    "projection_ratio": "‖(N−1) G P_W‖ / ‖G‖",
    "least_eigenvalue": "least eigenvalue of W",
    "symmetry_defect": "‖W − Wᵀ‖ / ‖W‖",
    "residual_norm": "residual ‖u − y‖",
    "mode_residuals": "residual along each eigenvector of H",
}


#: Extra measurements of a setting: name -> (long name, values over leading times)
Measure = Callable[[Tensor, Tensor], Mapping[str, tuple[str, Tensor]]]


@dataclass(frozen=True)
class Setup:
    """What a scenario builds from its data: a flow, a start, and what else to measure.

    ``measure(ts, ys)`` adds measurements of any path (a held-out error), ``measure_flow``
    such as make sense for the flow's own (a bound), ``measure_descent`` for descents'.
    ``sharpness``: how many of the Hessian's largest eigenvalues the flow's solve is to follow.
    ``spectral`` are measurements of the flow alone: name -> (long name, dimensions, values).
    ``facts`` go into the summary as they are.
    """

    flow: Flow
    y0: Tensor
    measure: Measure = lambda ts, ys: {}
    measure_flow: Measure = lambda ts, ys: {}
    measure_descent: Measure = lambda ts, ys: {}
    sharpness: int = 0
    spectral: Mapping[str, tuple[str, tuple[str, ...], Tensor]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The labelled arrays of a run and its summary (plain values)."""

    dataset: xr.Dataset
    summary: dict[str, Any]


#: What the dimensions without coordinates of their own count, and from where.
_COUNTS = {
    "mode": (1, "mode, the largest first"),
    "layer": (1, "layer j, W_j, the inputs' first"),
    "layer_pair": (1, "j of the layers j and j + 1"),
    "save": (0, "saved state of descent"),
    "saved_central": (0, "saved state of the central flow"),
    "step": (0, "step of descent"),
}


def numbered(ds: xr.Dataset) -> xr.Dataset:
    """The same with a coordinate for every dimension, so that ``ds.sel(layer=2)`` works.

    Examples
    --------
    >>> ds = numbered(xr.Dataset({"s": ("mode", [3.0, 0.5])}))
    >>> float(ds["s"].sel(mode=2)), ds["mode"].attrs["long_name"]
    (0.5, 'mode, the largest first')
    """
    bare = [str(dim) for dim in ds.dims if dim not in ds.coords]
    counts = {dim: _COUNTS.get(dim, (0, dim)) for dim in bare}
    return ds.assign_coords(
        {
            dim: (dim, first + np.arange(ds.sizes[dim]), {"long_name": label, "units": "1"})
            for dim, (first, label) in counts.items()
        }
    )


def _array(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.detach().double().cpu().numpy()
    return array


def _add(ds: xr.Dataset, name: str, dims: tuple[str, ...], values: Any, long_name: str) -> None:
    ds[name] = (dims, values, {"long_name": long_name, "units": "1"})


def _add_observables(
    ds: xr.Dataset, flow: Flow, found: Observables, prefix: str, lead: tuple[str, ...]
) -> None:
    for name, values in found.items():
        dims = (*lead, *flow.observable_dims.get(name, ()))
        _add(ds, f"{prefix}{name}", dims, _array(values), _LONG_NAMES.get(name, name))


def path_dataset(path: Trajectory) -> xr.Dataset:
    """A trajectory's observables and invariants against ``time``."""
    ds = xr.Dataset(coords={"time": ("time", path.ts.numpy(), _TIME)})
    _add_observables(ds, path.flow, path.observables(), "", ("time",))
    _add_drift(ds, path)
    return ds


def _add_drift(ds: xr.Dataset, path: Trajectory) -> None:
    drift = invariant_drift(path.flow, path.ys)
    if drift:
        bound = path.certificate.bounds["invariant_drift"]
        _add(ds, "drift_bound", (), bound, "bound of the certificate")
    for name, values in drift.items():
        label = f"relative change of {name.replace('_', ' ')}"
        _add(ds, f"drift_{name}", ("time",), _array(values), label)


def _padded(rows: list[np.ndarray], length: int = 0) -> np.ndarray:
    """Rows of different lengths as one array, NaN where a row has ended."""
    longest = max(length, *(len(row) for row in rows))
    full = np.full((len(rows), longest, *rows[0].shape[1:]), np.nan)
    for i, row in enumerate(rows):
        full[i, : len(row)] = row
    return full


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


def certificate_summary(path: Trajectory) -> dict[str, Any]:
    """A trajectory's certificate as plain values."""
    c = path.certificate
    return {
        "holds": c.holds,
        "failures": c.failures(),
        "energy_residual": c.energy_residual,
        "loss_increase": c.loss_increase,
        "invariant_drift": dict(c.invariant_drift),
        "velocity_error": c.velocity_error,
        "error_estimate": c.error_estimate,
        "bounds": dict(c.bounds),
    }


def cost_summary(path: Trajectory) -> dict[str, Any]:
    """A trajectory's statistics as plain values."""
    s = path.stats
    return {
        "method": s.method,
        "reason": s.reason,
        "rhs_evals": s.rhs_evals,
        "jvp_evals": s.jvp_evals,
        "accepted": s.accepted,
        "rejected": s.rejected,
        "wall_seconds": s.wall_seconds,
    }


def step_size_outcome(study: StepSizeStudy) -> Outcome:
    """Labelled arrays (over ``step_size``) and summary of a step-size study."""
    sizes = list(study.step_sizes)
    ds = xr.Dataset(coords={"step_size": ("step_size", sizes, _STEP_SIZE)})
    _add(ds, "largest_gap", ("step_size",), list(study.gaps), "largest distance of descent to flow")
    _add(ds, "fitted", ("step_size",), list(study.fitted), "whether in the fit")
    _add(ds, "stable", ("step_size",), list(study.stable), "whether below 2/λ_max")
    lead = ("step_size", "save")
    ds["gap_time"] = (lead, _padded([_array(t) for t, _ in study.gap_curves]), _TIME)
    gaps = _padded([_array(g) for _, g in study.gap_curves])
    _add(ds, "gap", lead, gaps, "distance of descent to the flow")
    low, high = study.order_interval or (math.nan, math.nan)
    numbers = {
        "solver_error": (study.solver_error, "solver's own error"),
        "stability_limit": (study.stability_limit, "2/λ_max"),
        "order": (math.nan if study.order is None else study.order, "fitted order"),
        "order_low": (low, "lower end of the order's 95 % interval"),
        "order_high": (high, "upper end of the order's 95 % interval"),
    }
    for name, (value, label) in numbers.items():
        ds[name] = ((), value, {"long_name": label, "units": "1"})
    rows = zip(sizes, study.gaps, study.stable, study.fitted, strict=True)
    summary: dict[str, Any] = {
        "order": study.order,
        "order_interval": None if study.order_interval is None else list(study.order_interval),
        "refusal": study.refusal,
        "solver_error": study.solver_error,
        "stability_limit": study.stability_limit,
        "step_sizes": [
            {"step_size": s, "largest_gap": g, "stable": a, "fitted": b} for s, g, a, b in rows
        ],
        "certificate": certificate_summary(study.trajectory),
        "cost": cost_summary(study.trajectory),
    }
    if study.modified_gaps is not None:
        _add_modified(ds, summary, study)
    return Outcome(ds, summary)


def _add_modified(ds: xr.Dataset, summary: dict[str, Any], study: StepSizeStudy) -> None:
    gaps, fitted = list(study.modified_gaps or ()), list(study.modified_fitted or ())
    order, interval = study.modified_order, study.modified_order_interval
    _add(ds, "modified_gap", ("step_size",), gaps, "largest distance to the modified flow")
    _add(ds, "modified_fitted", ("step_size",), fitted, "whether in the fit of modified_gap")
    low, high = interval or (math.nan, math.nan)
    numbers = {
        "modified_order": (math.nan if order is None else order, "order of modified_gap"),
        "modified_order_low": (low, "lower end of its 95 % interval"),
        "modified_order_high": (high, "upper end of its 95 % interval"),
        "modified_solver_error": (study.modified_solver_error, "error of that flow"),
    }
    for name, (value, label) in numbers.items():
        _add(ds, name, (), value, label)
    summary |= {
        "modified_order": order,
        "modified_order_interval": None if interval is None else list(interval),
        "modified_refusal": study.modified_refusal,
        "modified_solver_error": study.modified_solver_error,
    }
    for row, gap, used in zip(summary["step_sizes"], gaps, fitted, strict=True):
        row |= {"modified_gap": gap, "modified_fitted": used}


def implicit_regularization_outcome(found: ImplicitRegularization, setup: Setup) -> Outcome:
    """Labelled arrays and summary of ‖∇L‖² along flow, descents and modified flows.

    `step_size_outcome` of ‖∇L‖² at equal times, with its values against ``time`` and
    ``step_size`` × ``save``, and their ratios to the flow's at equal loss.
    """
    study = found.study
    outcome = step_size_outcome(study)
    ds = outcome.dataset.drop_vars(["gap", "gap_time"])
    ds["largest_gap"].attrs["long_name"] = "largest difference of ‖∇L‖² to the flow's"
    ds["modified_gap"].attrs["long_name"] = "largest difference to the modified flow's"
    ds = ds.assign_coords(time=("time", study.trajectory.ts.numpy(), _TIME))
    _add(ds, "squared_gradient", ("time",), _array(found.slopes), "‖∇L‖² of the flow")
    lead = ("step_size", "save")
    ds["descent_time"] = (lead, _padded([_array(d.ts) for d in study.descents]), _TIME)
    columns = {
        "loss_at_save": ([d.losses for d in study.descents], "loss of descent"),
        "descent_squared_gradient": (found.descent_slopes, "‖∇L‖² of descent"),
        "modified_squared_gradient": (found.modified_slopes, "‖∇L‖² of the modified flow"),
        "descent_ratio": (found.descent_ratios, "‖∇L‖² of descent over the flow's at equal loss"),
        "modified_ratio": (found.modified_ratios, "the same of the modified flow"),
    }
    for name, (rows, label) in columns.items():
        _add(ds, name, lead, _padded([_array(row) for row in rows]), label)
    ratios = zip(found.descent_ratios, found.modified_ratios, strict=True)
    for row, (of_descent, of_modified) in zip(outcome.summary["step_sizes"], ratios, strict=True):
        row["median_ratio"] = float(of_descent[1:].nanmedian())
        row["modified_median_ratio"] = float(of_modified[1:].nanmedian())
    final = float(study.trajectory.losses[-1])
    return Outcome(ds, {**outcome.summary, **setup.facts, "final_loss": final})


def continuous_vs_discrete_outcome(
    found: Mapping[str, ContinuousVsDiscrete], facts: Mapping[str, Mapping[str, Any]]
) -> Outcome:
    """Labelled arrays over ``network`` × ``time`` and summary; ``facts`` go into its rows."""
    studies = list(found.values())
    ts = studies[0].trajectory.ts
    ds = xr.Dataset(coords={"time": ("time", ts.numpy(), _TIME)})
    label = {"long_name": "network", "units": "1"}
    ds = ds.assign_coords(network=("network", list(found), label))
    lead = ("network", "time")
    columns = {
        "travelled": ([s.travelled for s in studies], "distance of descent from the start"),
        "gap_to_flow": ([s.gap for s in studies], "distance of descent to the flow"),
        "gap_to_proxy": ([s.proxy_gap for s in studies], "distance of descent to the proxy"),
        "proxy_to_flow": ([s.proxy_error for s in studies], "distance of the proxy to the flow"),
        "solver_error": ([s.solver_error for s in studies], "solver's own error"),
        "flow_losses": ([s.losses for s in studies], "loss of the flow"),
        "descent_losses": ([s.descent_losses for s in studies], "loss of descent"),
    }
    for name, (values, text) in columns.items():
        _add(ds, name, lead, _padded([_array(v) for v in values], len(ts)), text)
    ds["proxy"] = ((), studies[0].proxy, {"long_name": "η over the proxy's η", "units": "1"})
    ds["step"] = ((), studies[0].step_size, _STEP_SIZE)
    rows = [
        {
            "network": name,
            "distance": float(s.travelled[-1]),
            "largest_gap": float(s.gap.max()),
            "largest_proxy_gap": float(s.proxy_gap.max()),
            "largest_proxy_error": float(s.proxy_error.max()),
            "solver_error": float(s.solver_error.max()),
            "final_loss": float(s.losses[-1]),
            "final_descent_loss": float(s.descent_losses[-1]),
            "stability_limit": s.stability_limit,
            "diverged_at": s.diverged_at,
            "proxy_evals": s.proxy * int(s.descent.steps[-1]),
            "certificate": certificate_summary(s.trajectory),
            "cost": cost_summary(s.trajectory),
            **facts[name],
        }
        for name, s in found.items()
    ]
    summary = {
        "t_end": float(ts[-1]),
        "step_size": studies[0].step_size,
        "proxy": studies[0].proxy,
        "stability_limit": min(s.stability_limit for s in studies),
        "networks": rows,
        **_several({name: s.trajectory for name, s in found.items()}),
    }
    return Outcome(ds, summary)


def _several(paths: Mapping[str, Trajectory]) -> dict[str, Any]:
    """One certificate and one cost of several trajectories by name."""
    all_ = list(paths.values())
    failures = [f"{name}: {f}" for name, t in paths.items() for f in t.certificate.failures()]
    return {
        "certificate": {"holds": not failures, "failures": failures},
        "cost": {
            "method": ", ".join(dict.fromkeys(t.stats.method for t in all_)),
            "reason": all_[0].stats.reason,
            "rhs_evals": sum(t.stats.rhs_evals for t in all_),
            "wall_seconds": sum(t.stats.wall_seconds for t in all_),
        },
    }
