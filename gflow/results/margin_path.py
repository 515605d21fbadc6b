"""A classifier's path to the maximum margin, over ``tau``, the clock of the normalised flow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import add_variable, label
from gflow.results.base import Column, Result
from gflow.results.lines import Line, format_value
from gflow.results.summaries import certificate_summary, cost_summary
from gflow.studies.margin_path import MarginPath
from gflow.text import clause

_LOG10 = math.log(10)
_EVERY = 50.0  # decades of the loss between two rows of the table


class MarginPathResult(Result):
    """log t, log φ, ‖w‖, margin and angle over ``tau``; the table has a row every 50 decades."""

    kind: ClassVar[str] = "margin-path"
    study_type: ClassVar[type | None] = MarginPath
    rows_key: ClassVar[str] = "losses"
    row_label: ClassVar[str] = "log10_loss"
    row_meaning: ClassVar[str] = "One row is one moment of the path, at a loss of 10^log10_loss."
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "best_margin": label("maximum margin γ"),
        "rate": label("power of log t with which the angle falls"),
        "final_angle": label("angle to the maximum-margin direction at the end", "rad"),
        "final_margin_ratio": label("margin at the end over the maximum"),
        "final_norm_ratio": label("γ‖w‖/log t at the end"),
        "final_log10_loss": label("log₁₀ of the loss at the end"),
    }

    @classmethod
    def from_study(cls, study: MarginPath) -> MarginPathResult:
        """Return the result of a study."""
        return cls(_dataset(study), _summary(study))

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return log loss, log time, angle, and the two ratios that tend to 1."""
        return (
            Column("log10_loss", "log10 loss", ".4g", meaning="log₁₀ of the loss φ"),
            Column("log10_time", "log10 t", ".4g", meaning="log₁₀ of the time t of the flow"),
            Column("angle", "angle", ".3e", meaning="angle to the maximum-margin direction"),
            Column("margin_ratio", "margin / best", ".6f", meaning="normalised margin over γ"),
            Column("norm_ratio", "|w| best / log t", ".4f", meaning="γ‖w‖/log t, which tends to 1"),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return the maximum margin, and the rate of the angle with theory's."""
        why = "the angle is 0" if summary["final_angle"] == 0 else "the path has no two late points"
        rate = clause("the angle falls as (log t)^{:.4f}; theory gives -1", summary["rate"])
        return [
            ("best", f"{format_value(summary['best_margin'])}: maximum margin"),
            ("theory", rate or f"the angle falls as (log t)^-1, which was not measured: {why}"),
        ]


def _columns(study: MarginPath) -> dict[str, tuple[str, Any]]:
    gamma = study.best.margin
    late = study.log_time.where(study.log_time > 0, math.nan)
    return {
        "log10_loss": ("log₁₀ of the loss φ", study.log_loss / _LOG10),
        "log10_time": ("log₁₀ of the time t of the flow", study.log_time / _LOG10),
        "norm": ("‖w‖", study.norm),
        "angle": ("angle to the maximum-margin direction", study.angle),
        "margin_ratio": ("normalised margin over the maximum", study.margin / gamma),
        "norm_ratio": ("γ‖w‖/log t, after t = 1", gamma * study.norm / late),
    }


def _dataset(study: MarginPath) -> xr.Dataset:
    tau = label("clock τ of the normalised flow, dτ = φ dt", "loss × time")
    ds = xr.Dataset(coords={"tau": ("tau", to_numpy(study.path.ts), tau)})
    for name, (long_name, values) in _columns(study).items():
        add_variable(ds, name, ("tau",), to_numpy(values), long_name)
    add_variable(ds, "best_margin", (), study.best.margin, "maximum margin γ")
    add_variable(ds, "rate", (), study.rate, "power of log t with which the angle falls")
    return ds


def _summary(study: MarginPath) -> dict[str, Any]:
    columns = {name: to_numpy(values) for name, (_, values) in _columns(study).items()}
    losses = columns["log10_loss"]
    levels = [-_EVERY * k for k in range(1, int(-losses[-1] / _EVERY) + 1)]
    moments = [int((losses <= level).argmax()) for level in levels]
    moments = list(dict.fromkeys([*moments, len(losses) - 1]))
    names = ("log10_loss", "log10_time", "angle", "margin_ratio", "norm_ratio")
    rows = [{name: float(columns[name][i]) for name in names} for i in moments]
    return {
        "best_margin": study.best.margin,
        "rate": study.rate,
        **{f"final_{name}": value for name, value in rows[-1].items()},
        "losses": rows,
        "certificate": certificate_summary(study.path),
        "cost": cost_summary(study.path),
    }
