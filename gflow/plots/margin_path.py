"""The figure of max margin: the angle against log t, and what tends to 1."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, label_curves, style_key
from gflow.plots.scales import readable_ticks, set_log_y
from gflow.plots.style import COLOURS
from gflow.text import clause, power_of_ten

_TIME = r"$\log_{10} t$,  t the time of the flow"


@figure_spec("max_margin", variables=["angle", "norm_ratio", "best_margin"], panels=2, priority=3)
def _max_margin(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    time = ds["log10_time"].values
    seen = time > 1
    law = int(seen.sum()) > 1
    if not law:  # a path that is too short for the law
        seen = np.isfinite(time)
    scale = "log" if law else "linear"
    time, angle = time[seen], ds["angle"].values[seen]
    theory = angle[-1:] * time[-1:] / time if law else angle[:0]
    left.plot(time[: len(theory)], theory, "--", color="black", lw=1.2)
    left.plot(time, angle, color=COLOURS[0])
    left.set(xlabel=_TIME, ylabel="angle to the maximum-margin direction", xscale=scale)
    curves = []
    for i, (name, text) in enumerate(
        (("margin_ratio", "margin / γ"), ("norm_ratio", "γ‖w‖ / log t"))
    ):
        values = ds[name].values[seen]
        right.plot(time, values, color=COLOURS[i + 1])
        curves.append(Curve(time, values, text, COLOURS[i + 1]))
    right.axhline(1.0, color="black", ls="--", lw=1.2)
    right.set(xlabel=_TIME, ylabel="ratio that tends to 1", xscale=scale)
    if len(time):
        set_log_y(left, np.concatenate([angle, theory]))
        for axes in (left, right):
            if law:
                axes.set_xlim(time[0], time[-1])
                readable_ticks(axes.xaxis, time[0], time[-1])
    label_curves(right, curves)
    dashed = ("theory, ∝ 1/log t", {"ls": "--", "color": "black"})
    style_key(left, [("flow", {}), *([dashed] if law else [])])
    style_key(right, [("flow", {}), ("limit", {"ls": "--", "color": "black"})])
    return (
        f"At a loss of {power_of_ten(float(ds['log10_loss'][-1]))} the angle to the largest margin "
        f"is {float(ds['angle'][-1]):.2g}"
        + clause(" and falls as (log t)^{:.2f}, theory −1", float(ds["rate"]))
        + clause("; γ‖w‖/log t is {:.3f}", float(ds["norm_ratio"][-1]))
    )
