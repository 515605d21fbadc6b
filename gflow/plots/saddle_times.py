"""The figure of saddle to saddle: loss of ever smaller starts, and weights, beside the limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, label_curves, style_key
from gflow.plots.style import colour_of
from gflow.text import power_of_ten

_TIME = "time t in units of log(1/α)/2"
_ALIKE = 0.02  # of the largest weight: smaller ones are not drawn
_LABELLED = 12  # weights at most, the largest
_OFF: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 7, "mfc": "none", "color": "black"}


@figure_spec(
    "saddle_to_saddle",
    variables=["path_weights", "jump_time", "saddle_weights"],
    panels=2,
    priority=3,
)
def _saddles(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    powers, time, losses = ds["power"].values, ds["scaled_time"].values, ds["path_loss"].values
    jumps, end = ds["limit_time"].values, float(ds["scaled_time"].max())
    edges = np.concatenate([[0.0], jumps, [max(end, jumps[-1])]])
    limit: dict[str, Any] = {"color": "black", "ls": "--", "lw": 1.2, "zorder": 4}
    left.stairs(ds["saddle_loss"].values, edges, baseline=None, **limit)
    curves = []
    for i, power in enumerate(powers):
        left.plot(time[i], losses[i], color=colour_of(i))
        curves.append(Curve(time[i], losses[i], f"α = {power_of_ten(-power)}", colour_of(i)))
    left.set(xlabel=_TIME, ylabel="loss", xlim=(0, end), ylim=(0, 1.08 * float(losses.max())))
    label_curves(left, curves)
    weights, saddles = ds["path_weights"].values[-1], ds["saddle_weights"].values
    sizes = np.abs(saddles).max(axis=0)
    large = np.argsort(-sizes)[:_LABELLED]
    seen = sorted(j for j in large if sizes[j] > _ALIKE * sizes.max())
    ends = []
    for k, j in enumerate(seen):
        right.plot(time[-1], weights[:, j], color=colour_of(k))
        right.stairs(saddles[:, j], edges, baseline=None, **limit | {"lw": 0.9})
        ends.append(Curve(time[-1], weights[:, j], f"w{j}", colour_of(k)))
    right.set(xlabel=_TIME, ylabel=f"weights, from α = {power_of_ten(-powers[-1])}", xlim=(0, end))
    label_curves(right, ends)
    active = saddles != 0
    off = np.argwhere(active[:-1] & ~active[1:])
    for jump, j in off:
        right.plot(jumps[jump], saddles[jump, j], **_OFF)
    key = [("flow", {}), ("algorithm, α → 0", {"color": "black", "ls": "--"})]
    style_key(left, key)
    style_key(right, [*key, *([("switched off", _OFF)] if len(off) else [])])
    far = np.abs(ds["jump_time"].values - jumps).max(axis=1)
    known = np.flatnonzero(np.isfinite(far))
    if not len(known):
        return f"The path from α = {power_of_ten(-powers[-1])} ends before a jump of the algorithm"
    ends_of = [f"{far[i]:.2g} at α = {power_of_ten(-powers[i])}" for i in sorted({*known[[0, -1]]})]
    text = ", ".join(ends_of)
    return f"Jumps differ from the algorithm's times by {text}, in units of log(1/α)/2"
