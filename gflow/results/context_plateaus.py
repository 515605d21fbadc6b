"""Plateaus of linear attention in context, beside the levels of theory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import TIME, add_variable, label
from gflow.results.base import Column, Result
from gflow.results.lines import Line, format_value
from gflow.results.paths import trajectory_dataset
from gflow.results.summaries import certificate_summary, cost_summary
from gflow.studies.context_plateaus import ContextPlateaus


class ContextPlateausResult(Result):
    """The path over ``time``, and heights, theory and the sample's levels over ``learned``."""

    kind: ClassVar[str] = "context-plateaus"
    study_type: ClassVar[type | None] = ContextPlateaus
    rows_key: ClassVar[str] = "plateaus"
    row_label: ClassVar[str] = "learned"
    row_meaning: ClassVar[str] = "One row is one plateau, a saddle with so many directions learned."
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "theory_error": label("largest relative difference of a plateau from theory"),
        "sample_error": label("largest relative difference from the best maps on the sample"),
    }

    @classmethod
    def from_study(cls, study: ContextPlateaus) -> ContextPlateausResult:
        """Return the result of a study."""
        ds = trajectory_dataset(study.path)
        count = len(study.theory)
        ds = ds.assign_coords(learned=("learned", np.arange(count), label("directions learned")))
        times = to_numpy(study.times)
        ds["plateau_time"] = (
            ("learned",),
            times,
            {**TIME, "long_name": "time nearest to the saddle"},
        )
        for name, values, words in (
            ("height", study.heights, "loss nearest to the saddle"),
            ("theory_height", study.theory, "loss at the saddle by theory"),
            ("sample_height", study.sample, "loss of the best map of its rank on the sample"),
        ):
            add_variable(ds, name, ("learned",), to_numpy(values), words)
        rows = [
            {
                "learned": m,
                "time": float(times[m]),
                "height": float(study.heights[m]),
                "theory": float(study.theory[m]),
                "difference": float(study.heights[m] / study.theory[m] - 1),
                "sample_difference": float(study.heights[m] / study.sample[m] - 1),
            }
            for m in range(count)
        ]
        summary = {
            "theory_error": study.theory_error,
            "sample_error": study.sample_error,
            "final_loss": float(study.path.losses[-1]),
            "plateaus": rows,
            "certificate": certificate_summary(study.path),
            "cost": cost_summary(study.path),
        }
        return cls(ds, summary)

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return what is learned, when, and the heights beside theory."""
        return (
            Column("learned", "learned", meaning="number m of directions that are learned"),
            Column(
                "time", "at t", ".4g", meaning="time at which the path is nearest to the saddle"
            ),
            Column("height", "loss", ".4f", meaning="the loss there"),
            Column("theory", "theory", ".4f", meaning="L_m at the covariance of the sample"),
            Column("difference", "from theory", "+.2%", meaning="relative difference"),
            Column(
                "sample_difference",
                "from the sample's",
                "+.3%",
                meaning="relative to the best map of rank m on the sample",
            ),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return the largest differences, and the last loss."""
        theory, sample = (
            format_value(summary[f"{name}_error"], ".2%") for name in ("theory", "sample")
        )
        text = f"within {theory} of theory, {sample} of the best maps of each rank on the sample"
        return [("plateaus", text), ("loss", f"{format_value(summary['final_loss'])} at the end")]
