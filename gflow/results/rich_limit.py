"""Ends of diagonal networks against the scale of the start, beside those of theory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import add_variable, label
from gflow.results.base import Column, Result
from gflow.results.lines import Line, format_value
from gflow.results.summaries import combined_summary
from gflow.studies.rich_limit import RichLimit


class RichLimitResult(Result):
    """The last w over ``init_scale`` × ``weight``, and theory's on a finer grid of scales."""

    kind: ClassVar[str] = "rich-limit"
    study_type: ClassVar[type | None] = RichLimit
    rows_key: ClassVar[str] = "init_scales"
    row_label: ClassVar[str] = "init_scale"
    row_meaning: ClassVar[str] = "One row is the end of one path, from u = v = init_scale."
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "l1_ratio": label("‖w‖₁ over the least of all solutions"),
        "l2_ratio": label("‖w‖₂ over the least of all solutions"),
        "limit_error": label("relative distance from the minimiser of the potential"),
        "largest_error": label("largest relative distance from the potential's minimiser"),
    }

    @classmethod
    def from_study(cls, study: RichLimit) -> RichLimitResult:
        """Return the result of a study."""
        ds = _dataset(study)
        rows = [
            {
                "init_scale": float(ds["init_scale"][i]),
                "l1_ratio": float(ds["l1_ratio"][i]),
                "l2_ratio": float(ds["l2_ratio"][i]),
                "limit_error": float(study.errors[i]),
                "t_end": float(path.ts[-1]),
                "final_loss": float(path.losses[-1]),
                "rhs_evals": path.stats.rhs_evals,
            }
            for i, path in enumerate(study.paths)
        ]
        paths = {
            f"start of {row['init_scale']:g}": p for row, p in zip(rows, study.paths, strict=True)
        }
        summary = {
            "largest_error": float(study.errors.max()),
            "final_loss": rows[-1]["final_loss"],
            "init_scales": rows,
            **combined_summary(paths),
        }
        return cls(ds, summary)

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return scale, norms over the least ones, and distance from theory."""
        return (
            Column("init_scale", "start", meaning="α of the start u = v = α·1"),
            Column("l1_ratio", "l1 norm", ".5g", meaning="‖w‖₁ over that of the least solution"),
            Column("l2_ratio", "l2 norm", ".5g", meaning="‖w‖₂ over that of the least solution"),
            Column(
                "limit_error",
                "from theory",
                ".1e",
                meaning="‖w − w'‖₂/‖w'‖₂, w' the minimiser of the potential",
            ),
            Column("final_loss", "loss", ".1e", meaning="loss at the end"),
            Column("rhs_evals", "evaluations", meaning="right-hand side evaluations"),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return what the norms are relative to, and the distance from theory."""
        error = format_value(summary["largest_error"], ".1e")
        return [
            ("norms", "over the least that a solution of Xw = y has"),
            ("theory", f"all ends within {error} of the minimiser of the potential"),
        ]


def _dataset(study: RichLimit) -> xr.Dataset:
    scales, lead = study.log_scales.exp(), ("init_scale", "weight")
    fine = to_numpy(study.curve_log_scales.exp())
    ds = xr.Dataset(
        coords={
            "init_scale": (
                "init_scale",
                to_numpy(scales),
                label("scale α of the start u = v = α·1"),
            ),
            "fine_scale": ("fine_scale", fine, label("scale α at which theory is evaluated")),
            "weight": ("weight", np.arange(study.ends.shape[1]), label("weight w_j")),
        }
    )
    least = {"l1": study.least_l1.norm(p=1), "l2": study.least_l2.norm()}
    for name, power in (("l1", 1), ("l2", 2)):
        words = f"‖w‖{'₁' if power == 1 else '₂'} over the least of all solutions"
        ratio = to_numpy(study.ends.norm(p=power, dim=-1) / least[name])
        add_variable(ds, f"{name}_ratio", ("init_scale",), ratio, words)
        curve = to_numpy(study.curve.norm(p=power, dim=-1) / least[name])
        add_variable(ds, f"{name}_theory", ("fine_scale",), curve, f"{words}, by theory")
    add_variable(ds, "end_weights", lead, to_numpy(study.ends), "weights at the end")
    curve = to_numpy(study.curve)
    add_variable(ds, "theory_weights", ("fine_scale", "weight"), curve, "weights by theory")
    errors = to_numpy(study.errors)
    add_variable(ds, "limit_error", ("init_scale",), errors, "relative distance from theory")
    for name, w in (("l1", study.least_l1), ("l2", study.least_l2)):
        add_variable(
            ds, f"least_{name}", ("weight",), to_numpy(w), f"solution of least {name} norm"
        )
    return ds
