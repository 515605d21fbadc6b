"""Half-times of modes against the scale of the start, with the singular values along each path."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import TIME, add_variable, label
from gflow.results.base import Column, Result
from gflow.results.lines import Line, format_value
from gflow.results.summaries import combined_summary
from gflow.studies.mode_times import ModeTimes
from gflow.text import clause, is_known


class ModeTimesResult(Result):
    """Paths of singular values over ``init_scale`` × ``point``, and when each has half its size.

    ``path_time`` has the times of the points; each path has its own.
    """

    kind: ClassVar[str] = "mode-times"
    study_type: ClassVar[type | None] = ModeTimes
    rows_key: ClassVar[str] = "init_scales"
    row_label: ClassVar[str] = "init_scale"
    row_meaning: ClassVar[str] = "One row is one path, from W = init_scale·I."
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "growth_rate": label("σ₁, largest singular value of the gradient at 0"),
        "in_order": label("whether each mode is learned after the larger ones"),
        "exponent": label("power of the scale that the half-times have"),
        "theory_exponent": label("power of the scale by theory, 2/N − 1"),
        "shift_error": label("relative difference of the last shift from theory"),
    }

    @classmethod
    def from_study(cls, study: ModeTimes) -> ModeTimesResult:
        """Return the result of a study."""
        return cls(_dataset(study), _summary(study))

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return scale, a half-time for each mode, and the shift with that of theory."""
        count = len(summary["modes"])
        return (
            Column("init_scale", "start", meaning="α of the start W = α·I"),
            *(
                Column(
                    f"half_time_{k}",
                    f"mode {k}",
                    meaning=f"time at which singular value {k} has half of its target"
                    if summary["depth"] > 1
                    else f"time at which singular value {k} has half of its last size",
                )
                for k in range(1, count + 1)
            ),
            Column("shift", "shift", meaning="how much later mode 1 is than in the row above"),
            Column("theory", "by theory", meaning="the same shift by theory"),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return the order of the modes, the law of the shifts, and how well it holds."""
        order = "one after another" if summary["in_order"] else "not one after another"
        text = f"half-times {order}, from the largest to the least"
        if not _all_learned(summary):
            text = "not all of them have half their size by the end of every path"
        lines = [
            ("loss", f"{format_value(summary['final_loss'], '.3g')} at the end of the last path"),
            ("modes", text),
        ]
        if summary["depth"] == 1:
            return [*lines, ("theory", "one layer learns all modes together, from any scale")]
        rate = format_value(summary["growth_rate"])
        if summary["depth"] == 2:
            law = f"log(α₁/α₂)/(2σ₁), σ₁ = {rate} the largest singular value of the first gradient"
        else:
            law = f"half-times are c + C·α^{format_value(summary['theory_exponent'])}"
        error = clause("; the last shift differs by {:.4g} of it", summary["shift_error"])
        lines.append(("theory", law + (error or f"; {_no_shift(summary)}")))
        if summary.get("exponent") is not None:
            lines.append(("power", f"{format_value(summary['exponent'])}, of the last three rows"))
        return lines


def _all_learned(summary: Mapping[str, Any]) -> bool:
    keys = [f"half_time_{k}" for k in range(1, len(summary["modes"]) + 1)]
    return all(is_known(row[key]) for row in summary["init_scales"] for key in keys)


def _no_shift(summary: Mapping[str, Any]) -> str:
    """Return why no shift is compared with theory."""
    needed = 2 if summary["depth"] == 2 else 3
    count = len(summary["init_scales"])
    if count < needed:
        return f"it takes {needed} starts to compare a shift with it, and there are {count}"
    return "no shift to compare with it, as a path ends before mode 1 has half its size"


def _dataset(study: ModeTimes) -> xr.Dataset:
    lead = ("init_scale", "point")
    ds = xr.Dataset(
        coords={
            "init_scale": ("init_scale", list(study.scales), label("scale α of the start α·I")),
            "mode": ("mode", list(range(1, len(study.modes) + 1)), label("mode, largest first")),
        }
    )
    ds["path_time"] = (lead, [path.ts.numpy() for path in study.paths], TIME)
    losses = [to_numpy(path.losses) for path in study.paths]
    add_variable(ds, "path_loss", lead, losses, "loss along each path")
    values = [to_numpy(x) for x in study.singular_values]
    add_variable(ds, "path_singular_values", (*lead, "mode"), values, "singular values of W")
    halves = to_numpy(study.half_times)
    add_variable(ds, "half_time", ("init_scale", "mode"), halves, "half-time of each mode")
    ds["half_time"].attrs["units"] = TIME["units"]
    add_variable(ds, "target_mode", ("mode",), list(study.modes), "singular values of the target")
    add_variable(ds, "growth_rate", (), study.growth_rate, "largest singular value of ∇ℓ(0)")
    add_variable(ds, "depth", (), study.depth, "number of layers N")
    return ds


def _summary(study: ModeTimes) -> dict[str, Any]:
    shifts = [math.nan, *study.shifts.tolist()]
    theory = [math.nan, *study.theory.tolist()]
    rows = [
        {
            "init_scale": alpha,
            **{f"half_time_{k}": t for k, t in enumerate(study.half_times[i].tolist(), start=1)},
            "shift": shifts[i],
            "theory": theory[i],
        }
        for i, alpha in enumerate(study.scales)
    ]
    numbers = {"exponent": study.exponent, "theory_exponent": 2 / study.depth - 1}
    return {
        "depth": study.depth,
        "modes": list(study.modes),
        "growth_rate": study.growth_rate,
        "in_order": study.in_order,
        "final_loss": float(study.paths[-1].losses[-1]),
        "shift_error": abs(shifts[-1] / theory[-1] - 1),
        **(numbers if study.depth > 2 else {}),
        "init_scales": rows,
        **combined_summary(
            {f"start of {a:g}": path for a, path in zip(study.scales, study.paths, strict=True)}
        ),
    }
