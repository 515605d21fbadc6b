"""The result of a step-size study."""

from __future__ import annotations

import math
from typing import Any

import xarray as xr

from gflow.results.base import (
    _STEP_SIZE,
    _TIME,
    _add,
    _array,
    _padded,
    certificate_summary,
    cost_summary,
)
from gflow.results.paths import Outcome
from gflow.studies.step_size import StepSizeStudy


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
