"""A width study as labelled arrays (xarray) and a short summary.

Dimensions ``width`` × ``seed`` × ``epoch``; ``time`` = epoch · step size lies along the
epochs. What a descent that diverged has no value of is NaN in the arrays, and left out of
the medians and named in the summary.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from gflow.results.base import _TIME, _add, _array
from gflow.results.paths import Outcome
from gflow.studies.fitting import PowerLaw
from gflow.studies.width import WidthStudy

_LONG_NAMES = {
    "descent_distance": "‖u − u'‖, network's descent to the kernel's",
    "kernel_drift": "‖H(k) − H(0)‖_F along descent",
    "parameter_distance": "‖W(k) − W(0)‖_F along descent",
    "test_distance": "root mean square of u − u' at test points, descent",
    "test_disagreement": "share of test points that network and kernel class differently",
    "test_error": "share of test points the network misclassifies",
    "kernel_test_error": "share of test points the kernel's descent misclassifies",
    "flow_distance": "‖u − u'‖, network's flow to the kernel flow",
    "linear_distance": "‖u − u_lin‖, network's flow to that of its linearisation",
    "frozen_distance": "‖u_lin − u'‖, linearised network to the kernel flow",
    "network_loss": "loss of the network's flow",
    "kernel_loss": "loss of the kernel flow",
    "kernel_error": "‖H(0) − H*‖_F",
    "parameter_norm": "‖W(0)‖_F",
    "sharpness": "λ_max of H(0)",
    "solver_error": "‖u − u_finer‖ of the first seed's flow and a finer solve",
}
_ONE = {"units": "1"}


def width_outcome(study: WidthStudy) -> Outcome:
    """Labelled arrays and summary of a width study."""
    ds = _dataset(study)
    rows = [_row(study, ds, i) for i in range(len(study.widths))]
    flows = [cost for costs in study.stats for cost in costs]
    summary = {
        "step_size": study.step_size,
        "stability_limit": study.stability_limit,
        "stable": study.step_size < study.stability_limit,
        "final_loss": rows[-1]["final_loss"],
        "final_kernel_loss": rows[-1]["final_kernel_loss"],
        "slopes": {name: _slope(law) for name, law in study.slopes.items()},
        "widths": rows,
        "certificate": {
            "holds": all(row["certificate"]["holds"] for row in rows),
            "failures": [
                f"width {row['width']}, {failure}"
                for row in rows
                for failure in row["certificate"]["failures"]
            ],
        },
        "cost": {
            "method": flows[0].method,
            "reason": flows[0].reason,
            "rhs_evals": sum(cost.rhs_evals for cost in flows),
            "wall_seconds": sum(cost.wall_seconds for cost in flows),
        },
    }
    if "solver_error" in ds:
        summary["solver_error"] = float(ds["solver_error"].max())
    return Outcome(ds, summary)


def _dataset(study: WidthStudy) -> xr.Dataset:
    lead = {"width": "hidden width m", "seed": "seed of the start", "epoch": "epochs (steps)"}
    values = {"width": study.widths, "seed": study.seeds, "epoch": study.epochs}
    ds = xr.Dataset(
        coords={
            name: (name, list(values[name]), {"long_name": label, **_ONE})
            for name, label in lead.items()
        }
    )
    ds = ds.assign_coords(time=("epoch", [e * study.step_size for e in study.epochs], _TIME))
    for name, found in study.measured.items():
        dims = ("width", "epoch") if name == "solver_error" else ("width", "seed", "epoch")
        _add(ds, name, dims[: found.ndim], _array(found), _LONG_NAMES[name])
    fits = list(study.slopes)
    ds = ds.assign_coords(fit=("fit", fits, {"long_name": "what is fitted", **_ONE}))
    laws = [_slope(law) for law in study.slopes.values()]
    labels = {
        "slope": "power of the width",
        "low": "lower end of the slope's 95 % interval over seeds",
        "high": "upper end of the slope's 95 % interval over seeds",
        "constant": "constant of the power law",
    }
    for key, label in labels.items():
        column = [math.nan if law is None or law[key] is None else law[key] for law in laws]
        _add(ds, f"fit_{key}", ("fit",), column, label)
    numbers = {
        "kernel_norm": (study.kernel_norm, "‖H*‖_F"),
        "stability_limit": (study.stability_limit, "2/λ_max"),
    }
    for name, (value, label) in numbers.items():
        ds[name] = ((), value, {"long_name": label, **_ONE})
    return ds


def _slope(law: PowerLaw | None) -> dict[str, float | None] | None:
    if law is None:
        return None
    low, high = law.interval or (None, None)
    return {"slope": law.slope, "low": low, "high": high, "constant": law.constant}


def _row(study: WidthStudy, ds: xr.Dataset, i: int) -> dict[str, Any]:
    """The summary of one width: medians over the seeds whose descent did not diverge."""
    at = study.diverged_at[i]
    steady = [j for j, epoch in enumerate(at) if epoch is None]
    one = ds.isel(width=i)
    descent = one["descent_distance"].values[steady]
    where = descent.argmax(axis=1) if steady else np.empty(0, int)
    norm = float(ds["kernel_norm"])
    row = {
        "width": study.widths[i],
        "peak_distance": _median(descent.max(axis=1)),
        "peak_epoch": _median(ds["epoch"].values[where]),
        "final_distance": _median(descent[:, -1]),
        "rises_then_falls": bool(((where > 0) & (where < len(study.epochs) - 1)).all()),
        "flow_peak_distance": _median(one["flow_distance"].values.max(axis=1)),
        "linear_peak_distance": _median(one["linear_distance"].values.max(axis=1)),
        "kernel_error": _median(one["kernel_error"].values / norm),
        "kernel_drift": _median(one["kernel_drift"].values[steady].max(axis=1) / norm),
        "parameter_distance": _median(one["parameter_distance"].values[steady, -1]),
        "relative_parameter_distance": _median(
            (one["parameter_distance"][:, -1] / one["parameter_norm"]).values[steady]
        ),
        "network_stability_limit": 2 / float(one["sharpness"].max()),
        "final_loss": _median(one["network_loss"].values[:, -1]),
        "final_kernel_loss": _median(one["kernel_loss"].values[:, -1]),
        "diverged_at": min((epoch for epoch in at if epoch is not None), default=None),
        "diverged": len(at) - len(steady),
        "certificate": _certificate(study, i),
        "rhs_evals": sum(cost.rhs_evals for cost in study.stats[i]),
    }
    if "solver_error" in ds:
        row["solver_error"] = float(one["solver_error"].max())
    for name in ("test_distance", "test_disagreement", "test_error", "kernel_test_error"):
        if name in ds:
            row[name] = _median(one[name].values[steady, -1])
    return row


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if values.size else None


def _certificate(study: WidthStudy, i: int) -> dict[str, Any]:
    """The worst of the seeds' certificates."""
    found = study.certificates[i]
    return {
        "holds": all(one.holds for one in found),
        "failures": [
            f"seed {seed}: {failure}"
            for seed, one in zip(study.seeds, found, strict=True)
            for failure in one.failures()
        ],
        "energy_residual": max(one.energy_residual for one in found),
        "loss_increase": max(one.loss_increase for one in found),
        "velocity_error": max(one.velocity_error for one in found),
    }
