"""The unobserved entry of 2 × 2 completion against the loss, over ``depth`` × ``point``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import TIME, add_variable, label, padded
from gflow.results.base import Column, Result
from gflow.results.lines import Line, format_value
from gflow.results.summaries import combined_summary
from gflow.studies.unobserved_entry import UnobservedEntry

_ROUND_OFF = 1e-12  # relative, of an entry


class UnobservedEntryResult(Result):
    """W₁₁ and the singular values along each path; ``path_time`` has the times, NaN after its end.

    Singular values are logarithms to base 10, for the second may be below all numbers.
    """

    kind: ClassVar[str] = "unobserved-entry"
    study_type: ClassVar[type | None] = UnobservedEntry
    rows_key: ClassVar[str] = "depths"
    row_label: ClassVar[str] = "depth"
    row_meaning: ClassVar[str] = "One row is the end of one path, at one depth."
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "depth": label("number of layers N"),
        "entry": label("unobserved entry W₁₁ at the end"),
        "scaled_entry": label("W₁₁√(6ℓ) at the end"),
        "largest_deviation": label("largest |W₁₁√(6ℓ) − 1| of all depths at the end"),
        "log10_second": label("log₁₀ of the second singular value at the end"),
    }

    @classmethod
    def from_study(cls, study: UnobservedEntry) -> UnobservedEntryResult:
        """Return the result of a study."""
        ds = _dataset(study)
        return cls(ds, {"grows": bool(ds["entry_grows"].all()), **_summary(study)})

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return depth, time, loss, the entry, its limit, and the second singular value."""
        return (
            Column("depth", "depth", meaning="number of layers N"),
            Column("t_end", "at t", ".6g", meaning="time at which the path ends"),
            Column("final_loss", "loss", ".3g", meaning="loss at the end"),
            Column("entry", "W11", ".8g", meaning="the unobserved entry at the end"),
            Column(
                "deviation",
                "W11 sqrt(6 loss) - 1",
                ".2e",
                meaning="distance of W₁₁√(6ℓ) from its limit 1",
            ),
            Column(
                "log10_second",
                "log10 sigma2",
                ".6g",
                meaning="logarithm of the second singular value at the end",
            ),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return that the entry grows, and how near to theory's growth it is."""
        grows = "grows along every path" if summary["grows"] else "does not grow along every path"
        far = format_value(summary["largest_deviation"], ".2g")
        loss = format_value(max(row["final_loss"] for row in cls.rows(summary)), ".3g")
        return [
            ("entry", f"W11 {grows}, while the loss falls to {loss}"),
            ("theory", f"W11 sqrt(6 loss) tends to 1; at the ends within {far} of it"),
        ]


def _dataset(study: UnobservedEntry) -> xr.Dataset:
    lead = ("depth", "point")
    ds = xr.Dataset(
        coords={
            "depth": ("depth", list(study.depths), label("number of layers N")),
            "mode": ("mode", [1, 2], label("mode, the largest first")),
        }
    )
    ds["path_time"] = (lead, padded([path.ts.numpy() for path in study.paths]), TIME)
    losses = padded([to_numpy(path.losses) for path in study.paths])
    add_variable(ds, "path_loss", lead, losses, "loss ℓ along each path")
    entries = padded([to_numpy(entry) for entry in study.entries])
    add_variable(ds, "unobserved_entry", lead, entries, "unobserved entry W₁₁")
    logs = padded([to_numpy(x) / math.log(10) for x in study.log_singular_values])
    grows = [_grows(to_numpy(entry)) for entry in study.entries]
    add_variable(ds, "entry_grows", ("depth",), grows, "whether W₁₁ grows all along the path")
    add_variable(ds, "log10_singular_values", (*lead, "mode"), logs, "log₁₀ of singular values")
    return ds


def _grows(entry: np.ndarray) -> bool:
    """Return whether an entry grows all along a path, up to round-off of early steps."""
    falls = np.diff(entry) < -_ROUND_OFF * np.abs(entry[1:])
    return bool(entry[-1] > entry[0]) and not falls.any()


def _summary(study: UnobservedEntry) -> dict[str, Any]:
    rows = []
    for i, depth in enumerate(study.depths):
        loss, entry = float(study.paths[i].losses[-1]), float(study.entries[i][-1])
        scaled = entry * math.sqrt(6 * loss)
        rows.append(
            {
                "depth": depth,
                "t_end": float(study.paths[i].ts[-1]),
                "final_loss": loss,
                "entry": entry,
                "scaled_entry": scaled,
                "deviation": scaled - 1,
                "log10_second": float(study.log_singular_values[i][-1, 1]) / math.log(10),
            }
        )
    paths = {f"depth {d}": path for d, path in zip(study.depths, study.paths, strict=True)}
    return {
        "largest_deviation": max(abs(row["deviation"]) for row in rows),
        "depths": rows,
        **combined_summary(paths),
    }
