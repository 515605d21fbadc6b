"""A width study: wide networks against their kernel, over ``width`` × ``seed`` × ``epoch``.

``time`` = epoch · step size lies along the epochs. Values after a divergence are NaN, are
excluded from the medians, and are counted in the summary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import TIME, add_variable, label
from gflow.results.base import Column, Result
from gflow.results.lines import (
    Line,
    fact_lines,
    format_value,
    loss_line,
    solver_error_line,
    stability_line,
)
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


class WidthResult(Result):
    """Distances between network and kernel, by flow and by descent, and power laws of the width."""

    kind: ClassVar[str] = "width"
    study_type: ClassVar[type | None] = WidthStudy
    rows_key: ClassVar[str] = "widths"
    row_meaning: ClassVar[str] = (
        "One row is one width: networks with several seeds beside the same kernel."
    )
    row_label: ClassVar[str] = "width"
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "width": label("hidden width m"),
        "peak_distance": label("largest distance of network to kernel"),
    }

    @classmethod
    def from_study(cls, study: WidthStudy) -> WidthResult:
        """Return the result of a study."""
        ds = _dataset(study)
        return cls(ds, _summary(study, ds))

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return width, largest distance with its epoch, and final distance."""
        return (
            Column("width", "width", meaning="number of hidden units m"),
            Column(
                "peak_distance",
                "peak distance",
                meaning="largest ‖u − u'‖ of network to kernel, median over seeds",
            ),
            Column(
                "peak_epoch",
                "at epoch",
                meaning="epoch at which the distance is largest, median over seeds",
            ),
            Column(
                "final_distance",
                "final distance",
                meaning="the same distance after the last epoch",
            ),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return loss, power laws, the solver's error and the stability limit."""
        slopes = [_slope_line(name, law) for name, law in summary["slopes"].items() if law]
        lines = [loss_line(summary), *slopes]
        if "solver_error" in summary:
            lines.append(solver_error_line(summary))
        return [*lines, stability_line(summary), *fact_lines(summary)]


def _slope_line(name: str, law: Mapping[str, Any]) -> Line:
    slope, low, high = (format_value(law[key], ".2f") for key in ("slope", "low", "high"))
    text = f"{name.replace('_', ' ')} ∝ width^{slope}"
    return "slope", text if law["low"] is None else f"{text} (95 %: {low} to {high})"


def _dataset(study: WidthStudy) -> xr.Dataset:
    lead = {"width": "hidden width m", "seed": "seed of the start", "epoch": "epochs (steps)"}
    values = {"width": study.widths, "seed": study.seeds, "epoch": study.epochs}
    ds = xr.Dataset(
        coords={
            name: (name, list(values[name]), label(long_name)) for name, long_name in lead.items()
        }
    )
    ds = ds.assign_coords(time=("epoch", [e * study.step_size for e in study.epochs], TIME))
    for name, measured in study.measured.items():
        dims = ("width", "epoch") if name == "solver_error" else ("width", "seed", "epoch")
        add_variable(ds, name, dims[: measured.ndim], to_numpy(measured), _LONG_NAMES[name])
    ds = ds.assign_coords(fit=("fit", list(study.slopes), label("what is fitted")))
    laws = [_slope(law) for law in study.slopes.values()]
    columns = {
        "slope": "power of the width",
        "low": "lower end of the slope's 95 % interval over seeds",
        "high": "upper end of the slope's 95 % interval over seeds",
        "constant": "constant of the power law",
    }
    for key, long_name in columns.items():
        column = [math.nan if law is None or law[key] is None else law[key] for law in laws]
        add_variable(ds, f"fit_{key}", ("fit",), column, long_name)
    add_variable(ds, "kernel_norm", (), study.kernel_norm, "‖H*‖_F")
    add_variable(ds, "stability_limit", (), study.stability_limit, "2/λ_max")
    return ds


def _summary(study: WidthStudy, ds: xr.Dataset) -> dict[str, Any]:
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
    return summary


def _slope(law: PowerLaw | None) -> dict[str, float | None] | None:
    if law is None:
        return None
    low, high = law.interval or (None, None)
    return {"slope": law.slope, "low": low, "high": high, "constant": law.constant}


def _row(study: WidthStudy, ds: xr.Dataset, i: int) -> dict[str, Any]:
    """Return the summary of one width: medians over the seeds whose descent did not diverge."""
    diverged_at = study.diverged_at[i]
    steady = [j for j, epoch in enumerate(diverged_at) if epoch is None]
    at_width = ds.isel(width=i)
    descent = at_width["descent_distance"].values[steady]
    peaks = descent.argmax(axis=1) if steady else np.empty(0, int)
    norm = float(ds["kernel_norm"])
    row = {
        "width": study.widths[i],
        "peak_distance": _median(descent.max(axis=1)),
        "peak_epoch": _median(ds["epoch"].values[peaks]),
        "final_distance": _median(descent[:, -1]),
        "rises_then_falls": bool(((peaks > 0) & (peaks < len(study.epochs) - 1)).all()),
        "flow_peak_distance": _median(at_width["flow_distance"].values.max(axis=1)),
        "linear_peak_distance": _median(at_width["linear_distance"].values.max(axis=1)),
        "kernel_error": _median(at_width["kernel_error"].values / norm),
        "kernel_drift": _median(at_width["kernel_drift"].values[steady].max(axis=1) / norm),
        "parameter_distance": _median(at_width["parameter_distance"].values[steady, -1]),
        "relative_parameter_distance": _median(
            (at_width["parameter_distance"][:, -1] / at_width["parameter_norm"]).values[steady]
        ),
        "network_stability_limit": 2 / float(at_width["sharpness"].max()),
        "final_loss": _median(at_width["network_loss"].values[:, -1]),
        "final_kernel_loss": _median(at_width["kernel_loss"].values[:, -1]),
        "diverged_at": min((epoch for epoch in diverged_at if epoch is not None), default=None),
        "diverged": len(diverged_at) - len(steady),
        "certificate": _certificate(study, i),
        "rhs_evals": sum(cost.rhs_evals for cost in study.stats[i]),
    }
    if "solver_error" in ds:
        row["solver_error"] = float(at_width["solver_error"].max())
    for name in ("test_distance", "test_disagreement", "test_error", "kernel_test_error"):
        if name in ds:
            row[name] = _median(at_width[name].values[steady, -1])
    return row


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if values.size else None


def _certificate(study: WidthStudy, i: int) -> dict[str, Any]:
    """Return the worst values of the seeds' certificates."""
    certificates = study.certificates[i]
    return {
        "holds": all(c.holds for c in certificates),
        "failures": [
            f"seed {seed}: {failure}"
            for seed, c in zip(study.seeds, certificates, strict=True)
            for failure in c.failures()
        ],
        "energy_residual": max(c.energy_residual for c in certificates),
        "loss_increase": max(c.loss_increase for c in certificates),
        "velocity_error": max(
            (c.velocity_error for c in certificates if c.velocity_error is not None), default=None
        ),
    }
