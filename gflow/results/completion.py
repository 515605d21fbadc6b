"""Completed matrices over ``depth`` × ``init_scale`` × ``seed``, beside the least nuclear norm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import TIME, add_variable, label
from gflow.results.base import Column, Result
from gflow.results.lines import Line
from gflow.results.summaries import combined_summary
from gflow.studies.completion import CompletionStudy
from gflow.text import clause, is_known

_MEASURES = {
    "errors": ("completion_error", "mean squared error on the entries not observed"),
    "nuclear_norms": ("completed_nuclear_norm", "nuclear norm of the completed matrix"),
    "effective_ranks": ("completed_rank", "effective rank of the completed matrix"),
}


class CompletionResult(Result):
    """Error, nuclear norm and effective rank of each end, and of the convex solution."""

    kind: ClassVar[str] = "completion"
    study_type: ClassVar[type | None] = CompletionStudy
    rows_key: ClassVar[str] = "starts"
    row_label: ClassVar[str] = "start"
    row_meaning: ClassVar[str] = "One row is one depth and scale; numbers are medians over seeds."
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "error": label("mean squared error on the entries not observed, median over seeds"),
        "nuclear_ratio": label("nuclear norm over that of the true matrix, median over seeds"),
        "effective_rank": label("effective rank, median over seeds"),
        "convex_error": label("mean squared error of the least nuclear norm"),
        "convex_nuclear_ratio": label("least nuclear norm over that of the true matrix"),
    }

    @classmethod
    def from_study(cls, study: CompletionStudy) -> CompletionResult:
        """Return the result of a study."""
        ds = _dataset(study)
        return cls(ds, _summary(study, ds))

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return depth, scale, error, nuclear norm, effective rank and time."""
        return (
            Column("depth", "depth", meaning="number of layers N"),
            Column("init_scale", "start", meaning="α: W is about α·d^(−1/2) at the start"),
            Column("error", "error", ".3g", meaning=f"{_MEASURES['errors'][1]}, median"),
            Column(
                "nuclear_ratio",
                "nuclear norm",
                ".4f",
                meaning="nuclear norm over that of the true matrix, median",
            ),
            Column("effective_rank", "rank", ".3f", meaning="effective rank, median"),
            Column("time", "time", meaning="time at which the loss is reached, median"),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return the convex solution, how the errors are ordered, and how many starts there are."""
        lines = [("starts", f"{summary['seed_count']} for each row; numbers are medians")]
        if "convex_error" in summary:
            texts = {"error": "error {:.3g}", "nuclear_ratio": "nuclear norm {:.4f}"}
            texts |= {"rank": "rank {:.3f}"}
            parts = (clause(text, summary[f"convex_{key}"]) for key, text in texts.items())
            lines.append(("convex", f"{', '.join(filter(None, parts))}: the least nuclear norm"))
        if not any(is_known(row["error"]) for row in cls.rows(summary)) and not summary["failed"]:
            lines.append(("error", "none: every entry is observed"))
        if summary["failed"]:
            lines.append(("failed", f"{summary['failed']} starts, left out of the medians"))
        return lines


def _dataset(study: CompletionStudy) -> xr.Dataset:
    lead = ("depth", "init_scale", "seed")
    ds = xr.Dataset(
        coords={
            "depth": ("depth", list(study.depths), label("number of layers N")),
            "init_scale": ("init_scale", list(study.init_scales), label("scale α of the start")),
            "seed": ("seed", list(study.seeds), label("seed of the start")),
        }
    )
    for name, (variable, long_name) in _MEASURES.items():
        add_variable(ds, variable, lead, to_numpy(getattr(study.flows, name)), long_name)
        for prefix, found in (("convex", study.convex), ("true", study.truth)):
            if found is not None:
                text = "least nuclear norm" if prefix == "convex" else "true matrix"
                value = float(getattr(found, name))
                add_variable(ds, f"{prefix}_{variable}", (), value, f"{text}: {long_name}")
    add_variable(ds, "end_loss", lead, to_numpy(study.losses), "loss at the end")
    ds["end_time"] = (lead, study.times.numpy(), TIME)
    return ds


def _summary(study: CompletionStudy, ds: xr.Dataset) -> dict[str, Any]:
    true = math.nan if study.truth is None else float(study.truth.nuclear_norms)
    rows = []
    for i, depth in enumerate(study.depths):
        for k, alpha in enumerate(study.init_scales):
            here = ds.isel(depth=i, init_scale=k)
            rows.append(
                {
                    "start": f"depth {depth}, {alpha:g}",
                    "depth": depth,
                    "init_scale": alpha,
                    "error": _median(here["completion_error"]),
                    "nuclear_ratio": _median(here["completed_nuclear_norm"]) / true,
                    "effective_rank": _median(here["completed_rank"]),
                    "time": _median(here["end_time"]),
                }
            )
    convex = {}
    if study.convex is not None:
        convex = {
            "convex_error": float(study.convex.errors),
            "convex_nuclear_ratio": float(study.convex.nuclear_norms) / true,
            "convex_rank": float(study.convex.effective_ranks),
        }
    paths = {f"depth {d}": p for d, p in zip(study.depths, study.trajectories, strict=True)}
    return {
        "final_loss": _median(ds["end_loss"]),
        "seed_count": len(study.seeds),
        "failed": sum(len(path.failures) for path in study.trajectories),
        **convex,
        "starts": rows,
        **combined_summary(paths),
    }


def _median(values: xr.DataArray) -> float:
    good = values.values[np.isfinite(values.values)]
    return float(np.median(good)) if good.size else math.nan
