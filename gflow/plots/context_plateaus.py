"""The figure of plateaus in context: the loss over time, with the levels of theory."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import style_key
from gflow.plots.style import COLOURS, TIME_LABEL

_MARGIN = 1.3  # times the last time: room for its ring
_ROOM = 0.06  # of the height, above the first level


@figure_spec("context_plateaus", variables=["loss", "height", "theory_height"], priority=3)
def _context_plateaus(ds: xr.Dataset, axes: Axes) -> str:
    time, loss = ds["time"].values, ds["loss"].values
    later = time > 0
    theory, heights = ds["theory_height"].values, ds["height"].values
    dashed: dict[str, Any] = {"color": COLOURS[1], "lw": 1.0, "ls": "--"}
    ring: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 5, "mfc": "none", "color": "black"}
    axes.set_xscale("log")
    ends = np.flatnonzero(np.isfinite(loss) & later)
    axes.set_xlim(time[later][0], _MARGIN * time[ends[-1] if len(ends) else -1])
    for m, level in enumerate(theory):
        axes.axhline(level, **dashed)
        axes.annotate(
            f"{m} learned" if m else "none learned",
            (0.01, level),
            xycoords=("axes fraction", "data"),
            xytext=(0, -2 if m == len(theory) - 1 else 2),
            textcoords="offset points",
            va="top" if m == len(theory) - 1 else "bottom",
            fontsize="small",
            color=COLOURS[1],
        )
    axes.plot(time[later], loss[later], color=COLOURS[0])
    # The axis has no place for t = 0: its ring stands on the left end.
    left, times = float(time[later][0]), ds["plateau_time"].values
    axes.plot(np.maximum(times, left), heights, **ring, clip_on=False, zorder=3)
    early = " (leftmost: t = 0)" if (times < left).any() else ""
    axes.set(xlabel=TIME_LABEL, ylabel="loss", ylim=(0.0, (1 + 2 * _ROOM) * theory[0]))
    style_key(
        axes,
        [
            ("flow", {"color": COLOURS[0]}),
            (f"nearest to a saddle{early}", ring),
            ("theory", dashed),
        ],
    )
    error = float(np.nanmax(np.abs(heights / theory - 1)))
    reached = int(np.isfinite(heights).sum())
    word = "plateau" if reached == 1 else "plateaus"
    return f"The loss waits on {reached} {word}, within {100 * error:.2g} % of theory's levels"
