"""Jump times of diagonal networks beside the algorithm's, with loss and weights of each path."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import add_variable, label
from gflow.results.base import Column, Result
from gflow.results.lines import Line, format_value
from gflow.results.summaries import combined_summary
from gflow.studies.saddle_times import SaddleTimes, unit_of
from gflow.text import clause, is_known, power_of_ten

_UNIT = "log(1/α)/2"


class SaddleTimesResult(Result):
    """Loss and weights over ``power`` × ``point``, jump times over ``power`` × ``jump``.

    All times are in units of log(1/α)/2.
    """

    kind: ClassVar[str] = "saddle-times"
    study_type: ClassVar[type | None] = SaddleTimes
    rows_key: ClassVar[str] = "powers"
    row_label: ClassVar[str] = "power"
    row_meaning: ClassVar[str] = (
        "One row is one path, from u = v = 10^−power, with its jump times in units of log(1/α)/2."
    )
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "power": label("p of the start α = 10^−p"),
        "distance": label("largest distance of a jump from the algorithm's", _UNIT),
        "scaled_distance": label("the same times log(1/α)", _UNIT),
    }

    @classmethod
    def from_study(cls, study: SaddleTimes) -> SaddleTimesResult:
        """Return the result of a study."""
        return cls(_dataset(study), _summary(study))

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return the start, a column for each jump, and the distance from the algorithm's."""
        jumps = len(summary["jump_times"])
        return (
            Column("start", "start", meaning="α of the start u = v = α·1"),
            *(
                Column(f"jump_{k}", f"t{k}", ".4g", meaning=f"time of jump {k}")
                for k in range(1, jumps + 1)
            ),
            Column("distance", "distance", ".2g", meaning="largest distance of a jump from theory"),
            Column(
                "scaled_distance",
                "scaled",
                ".3g",
                meaning="this distance times log(1/α), which theory bounds",
            ),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return what is switched off, and how the distance from theory falls."""
        off = [f"weight {j} at jump {k}" for k, j in summary["switched_off"]]
        text = f"{', '.join(off)}: switched off again" if off else "none is switched off again"
        distances = {row["start"]: row["scaled_distance"] for row in cls.rows(summary)}
        scaled = [clause("{:.3g}", value) for value in distances.values() if is_known(value)]
        early = [start for start, value in distances.items() if not is_known(value)]
        if early:
            scaled.append(f"not known from {', '.join(early)}, as the path ends before a jump")
        limit = ", ".join(format_value(t, ".5g") for t in summary["jump_times"])
        return [
            ("algorithm", f"{limit}: times of the jumps from an infinitesimal start"),
            ("unit", "jump times are in units of log(1/α)/2"),
            ("weights", text),
            ("theory", f"distance from the algorithm, times log(1/α): {', '.join(scaled)}"),
        ]


def _dataset(study: SaddleTimes) -> xr.Dataset:
    lead, time = ("power", "point"), {"long_name": "time t / (log(1/α)/2)", "units": _UNIT}
    count = len(study.limit.times)
    ds = xr.Dataset(
        coords={
            "power": ("power", list(study.powers), label("p of the start α = 10^−p")),
            "jump": ("jump", list(range(1, count + 1)), label("jump")),
            "saddle": ("saddle", list(range(count + 1)), label("saddle, w = 0 first")),
            "weight": ("weight", list(range(study.limit.weights.shape[1])), label("weight w_j")),
        }
    )
    times = [
        p.ts.numpy() / unit_of(power) for power, p in zip(study.powers, study.paths, strict=True)
    ]
    ds["scaled_time"] = (lead, times, time)
    losses = [to_numpy(path.losses) for path in study.paths]
    add_variable(ds, "path_loss", lead, losses, "loss along each path")
    weights = [to_numpy(w) for w in study.weights]
    add_variable(ds, "path_weights", (*lead, "weight"), weights, "weights w = u∘u − v∘v")
    add_variable(ds, "jump_time", ("power", "jump"), to_numpy(study.times), "time of each jump")
    limit = to_numpy(study.limit.times)
    add_variable(ds, "limit_time", ("jump",), limit, "time of each jump by the algorithm")
    for name in ("jump_time", "limit_time"):
        ds[name].attrs["units"] = _UNIT
    saddles = to_numpy(study.limit.weights)
    add_variable(ds, "saddle_weights", ("saddle", "weight"), saddles, "weights at each saddle")
    add_variable(
        ds, "saddle_loss", ("saddle",), to_numpy(study.limit.losses), "loss at each saddle"
    )
    return ds


def _summary(study: SaddleTimes) -> dict[str, Any]:
    limit = study.limit.times.tolist()
    rows = [
        _row(power_of_ten(-power), times, float(distance), power)
        for power, times, distance in zip(
            study.powers, study.times.tolist(), study.distances, strict=True
        )
    ]
    paths = {
        f"start of {power_of_ten(-p)}": path
        for p, path in zip(study.powers, study.paths, strict=True)
    }
    return {
        "jump_times": limit,
        "switched_off": [[jump + 1, weight] for jump, weight in study.switched_off],
        "final_loss": float(study.paths[-1].losses[-1]),
        "powers": rows,
        **combined_summary(paths),
    }


def _row(start: str, times: Sequence[float], distance: float, power: float) -> dict[str, Any]:
    jumps = {f"jump_{k}": t for k, t in enumerate(times, start=1)}
    scaled = distance * power * math.log(10)
    return {
        "power": power,
        "start": start,
        **jumps,
        "distance": distance,
        "scaled_distance": scaled,
    }
