"""Loss and tangent kernel of two linear layers by balance, beside the closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import TIME, add_variable, label
from gflow.results.base import Column, Result
from gflow.results.lines import Line, format_value
from gflow.results.summaries import combined_summary
from gflow.studies.lazy_to_rich import LazyToRich

_MEASURES = {
    "loss": ("losses", "loss"),
    "kernel_distance": ("distances", "‖K(t) − K(0)‖/‖K(0)‖"),
    "kernel_start_alignment": ("start_alignments", "alignment of K(t) with K(0)"),
    "kernel_alignment": ("target_alignments", "alignment of K(t) with the target"),
}


class LazyToRichResult(Result):
    """Measures over ``balance`` × ``time``, and the closed form's over ``fine_time``."""

    kind: ClassVar[str] = "lazy-to-rich"
    study_type: ClassVar[type | None] = LazyToRich
    rows_key: ClassVar[str] = "balances"
    row_label: ClassVar[str] = "balance"
    row_meaning: ClassVar[str] = "One row is one path, from W₂ᵀW₂ − W₁W₁ᵀ = balance · I."
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "kernel_distance": label("‖K − K(0)‖/‖K(0)‖ of the tangent kernel at the end"),
        "kernel_start_alignment": label("alignment of the last tangent kernel with the first"),
        "kernel_alignment": label("alignment of the last tangent kernel with the target"),
        "theory_error": label("largest relative distance of the layers from the closed form"),
        "largest_error": label("largest relative distance of all paths from the closed form"),
    }

    @classmethod
    def from_study(cls, study: LazyToRich) -> LazyToRichResult:
        """Return the result of a study."""
        ds, rows = _dataset(study), []
        for i, path in enumerate(study.paths):
            row = {"balance": study.balances[i], "final_loss": float(ds["path_loss"][i, -1])}
            row |= {name: float(ds[f"path_{name}"][i, -1]) for name in list(_MEASURES)[1:]}
            row |= {"theory_error": float(study.errors[i]), "rhs_evals": path.stats.rhs_evals}
            rows.append(row)
        names = {f"balance {b:g}": p for b, p in zip(study.balances, study.paths, strict=True)}
        summary = {
            "largest_error": float(study.errors.max()),
            "final_loss": max(row["final_loss"] for row in rows),
            "balances": rows,
            **combined_summary(names),
        }
        return cls(ds, summary)

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return balance, how far the kernel moved and where to, and distance from theory."""
        return (
            Column("balance", "balance", meaning="λ of W₂ᵀW₂ − W₁W₁ᵀ = λI"),
            Column("final_loss", "loss", ".1e", meaning="½‖W − M‖² at the end"),
            Column("kernel_distance", "kernel moved", ".4g", meaning="‖K − K(0)‖/‖K(0)‖"),
            Column("kernel_start_alignment", "with K(0)", ".4f", meaning="alignment with K(0)"),
            Column("kernel_alignment", "with target", ".4f", meaning="⟨M, KM⟩/(‖K‖‖M‖²)"),
            Column("theory_error", "from theory", ".1e", meaning="of the layers, relative"),
            Column("rhs_evals", "evaluations", meaning="right-hand side evaluations"),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return what K is, and the distance from the closed form."""
        error = format_value(summary["largest_error"], ".1e")
        return [
            ("kernel", "K, the tangent kernel of W = W₂W₁, at the end of each path"),
            ("theory", f"all layers within {error} of the closed form"),
        ]


def _dataset(study: LazyToRich) -> xr.Dataset:
    ds = xr.Dataset(
        coords={
            "balance": ("balance", np.array(study.balances), label("balance λ of the start")),
            "time": ("time", to_numpy(study.paths[0].ts), TIME),
            "fine_time": ("fine_time", to_numpy(study.curve_times), TIME),
        }
    )
    for name, (field, words) in _MEASURES.items():
        for prefix, time, measures in (
            ("path", "time", study.measured),
            ("theory", "fine_time", study.theory),
        ):
            values = np.stack([to_numpy(getattr(m, field)) for m in measures])
            note = words if prefix == "path" else f"{words}, by the closed form"
            add_variable(ds, f"{prefix}_{name}", ("balance", time), values, note)
    add_variable(
        ds, "theory_error", ("balance",), to_numpy(study.errors), "relative distance from theory"
    )
    return ds
