"""A kind of result that gflow does not have: when descent has halved the loss."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import xarray as xr

from gflow.results.arrays import STEP_SIZE, add_variable, label
from gflow.results.base import Column, Result
from gflow.results.lines import Line, format_value


class HalfLifeResult(Result):
    """Half-lives of the loss over ``step_size``."""

    kind: ClassVar[str] = "half-life"
    rows_key: ClassVar[str] = "half_lives"
    row_label: ClassVar[str] = "step_size"
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "half_life": label("time until the loss is half", "step size × steps"),
    }

    @classmethod
    def from_half_lives(cls, half_lives: Mapping[float, float | None]) -> "HalfLifeResult":
        """Half-lives by step size; None where descent diverges."""
        sizes, values = list(half_lives), list(half_lives.values())
        ds = xr.Dataset(coords={"step_size": ("step_size", sizes, STEP_SIZE)})
        add_variable(ds, "half_life", ("step_size",), [v or 0.0 for v in values], "half-life")
        rows = [
            {"step_size": size, "half_life": value, "diverged_at": 3 if value is None else None}
            for size, value in half_lives.items()
        ]
        certificate = {"holds": True, "failures": []}
        cost = {"method": "none", "reason": "given", "rhs_evals": 0, "wall_seconds": 0.0}
        longest = max(value for value in values if value is not None)
        summary = {"half_lives": rows, "longest": longest, "certificate": certificate}
        return cls(ds, {**summary, "cost": cost})

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        return Column("step_size", "step size"), Column("half_life", "half-life", ".3f")

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        return [("longest", format_value(summary["longest"]))]
