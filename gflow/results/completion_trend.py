"""Completed matrices over one variable × ``seed``, with fitted powers of the variable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import TIME, add_variable, label
from gflow.results.base import Column, Result
from gflow.results.lines import Line, format_value
from gflow.results.summaries import combined_summary
from gflow.studies.completion_trend import CompletionTrend

_MEASURES = {
    "errors": ("error", "mean squared error on the entries not observed"),
    "nuclear_norms": ("nuclear_norm", "nuclear norm of the completed matrix"),
    "effective_ranks": ("effective_rank", "effective rank of the completed matrix"),
}
_VARIABLES = {
    "depth": "number of layers N",
    "init_scale": "scale α of the start",
    "samples": "number of observed entries",
}
_INTERVAL = ("low", "high")  # the ends of a power's interval


class CompletionTrendResult(Result):
    """Error, nuclear norm and effective rank against one variable."""

    kind: ClassVar[str] = "completion-trend"
    study_type: ClassVar[type | None] = CompletionTrend
    rows_key: ClassVar[str] = "points"
    row_label: ClassVar[str] = "value"
    row_meaning: ClassVar[str] = "One row is one value of the variable; numbers are medians."
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        name: label(f"{text}, median over seeds") for name, text in _MEASURES.values()
    }

    @classmethod
    def from_study(cls, study: CompletionTrend) -> CompletionTrendResult:
        """Return the result of a study."""
        ds = _dataset(study)
        return cls(ds, _summary(study, ds))

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return the variable, error with its middle half, nuclear norm, effective rank."""
        variable = summary["variable"]
        half = f"{_MEASURES['errors'][1]}, of the middle half of the seeds"
        return (
            Column("value", variable.replace("_", " "), "g", meaning=_VARIABLES[variable]),
            Column("error", "error", ".3g", meaning=f"{_MEASURES['errors'][1]}, median"),
            Column("error_low", "from", ".3g", meaning=f"the least {half}"),
            Column("error_high", "to", ".3g", meaning=f"the largest {half}"),
            Column("nuclear_norm", "nuclear norm", meaning="nuclear norm, median"),
            Column("effective_rank", "rank", ".3f", meaning="effective rank, median"),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return the fitted powers, and how many starts there are."""
        lines = [("starts", f"{summary['seed_count']} for each row; numbers are medians")]
        for name, law in summary["powers"].items():
            if law is not None:
                slope, low, high = (format_value(law[key], ".3f") for key in ("slope", *_INTERVAL))
                text = f"{name.replace('_', ' ')} ∝ {summary['variable'].replace('_', ' ')}^{slope}"
                interval = "" if law["low"] is None else f" (95 %: {low} to {high})"
                lines.append(("slope", text + interval))
        if summary["failed"]:
            lines.append(("failed", f"{summary['failed']} starts, left out of the medians"))
        return lines


def _dataset(study: CompletionTrend) -> xr.Dataset:
    name, lead = study.variable, (study.variable, "seed")
    ds = xr.Dataset(
        coords={
            name: (name, list(study.values), label(_VARIABLES[name])),
            "seed": ("seed", list(study.seeds), label("seed of the start")),
            "power": (
                "power",
                [short for short, _ in _MEASURES.values()],
                label("of what a power of the variable is fitted"),
            ),
        },
        attrs={"variable": name},
    )
    for field, (short, long_name) in _MEASURES.items():
        values = to_numpy(getattr(study.flows, field))
        add_variable(ds, f"trend_{short}", lead, values, long_name)
        for prefix, found in (("convex", study.convex), ("true", study.truth)):
            if found is not None:
                text = "least nuclear norm" if prefix == "convex" else "true matrix"
                more = to_numpy(getattr(found, field))
                dims = lead[: more.ndim]
                add_variable(ds, f"{prefix}_trend_{short}", dims, more, f"{text}: {long_name}")
    laws = [study.laws[field] for field in _MEASURES]
    columns = {
        "slope": [math.nan if law is None else law.slope for law in laws],
        "constant": [math.nan if law is None else law.constant for law in laws],
    }
    for k, end in enumerate(_INTERVAL):
        columns[end] = [law.interval[k] if law and law.interval else math.nan for law in laws]
    meanings = {
        "slope": "power of the variable in the medians",
        "constant": "constant of the power law",
        "low": "lower end of the power's 95 % interval over seeds",
        "high": "upper end of the power's 95 % interval over seeds",
    }
    for key, column in columns.items():
        add_variable(ds, f"power_{key}", ("power",), column, meanings[key])
    add_variable(ds, "end_loss", lead, to_numpy(study.losses), "loss at the end")
    ds["end_time"] = (lead, study.times.numpy(), TIME)
    return ds


def _summary(study: CompletionTrend, ds: xr.Dataset) -> dict[str, Any]:
    rows = []
    for k, value in enumerate(study.values):
        here = {name: _finite(ds[f"trend_{name}"].values[k]) for name, _ in _MEASURES.values()}
        medians = {
            name: float(np.median(found)) if found.size else math.nan
            for name, found in here.items()
        }
        low, high = np.percentile(here["error"], (25, 75)) if here["error"].size else (None, None)
        rows.append({"value": value, **medians, "error_low": low, "error_high": high})
    powers = {}
    for field, (short, _) in _MEASURES.items():
        law = study.laws[field]
        low, high = (None, None) if law is None or law.interval is None else law.interval
        powers[short] = law and {"slope": law.slope, "low": low, "high": high}
    by_depth = study.variable == "depth"
    names = [f"depth {depth:g}" for depth in study.values] if by_depth else ["flow"]
    paths = dict(zip(names, study.trajectories, strict=True))
    return {
        "variable": study.variable,
        "final_loss": float(np.nanmedian(ds["end_loss"].values)),
        "seed_count": len(study.seeds),
        "failed": sum(len(path.failures) for path in study.trajectories),
        "powers": powers,
        "points": rows,
        **combined_summary(paths),
    }


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]
