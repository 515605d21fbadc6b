"""Drift of conservation laws along flow and descent."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, label_curves
from gflow.plots.scales import set_log_y
from gflow.plots.style import TIME_LABEL, colour_of, format_number, thinned

_SHOWN = 6  # laws


@figure_spec("law_drift", variables=["law_drift", "largest_drift", "drift_order"], panels=2)
def _law_drift(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    names = [str(name) for name in ds["law"].values]
    # The laws that drift most: of many, the others are below.
    by_size = np.argsort(-ds["largest_drift"].values[:, -1])[:_SHOWN]
    time, sizes = ds["time"].values, ds["step_size"].values
    over_time, over_sizes = [], []
    for place, i in enumerate(sorted(by_size)):
        colour, t = colour_of(place), ds["descent_time"].values[-1]
        used = np.isfinite(t)
        drift, some = ds["descent_law_drift"].values[-1, used, i], thinned(t[used])
        left.plot(t[used][some], drift[some], "o", ms=4, mfc="none", color=colour)
        over_time.append(Curve(t[used], drift, names[i], colour))
        largest = ds["largest_drift"].values[i]
        known = (largest > 0) & np.isfinite(largest)
        if known.any():
            right.plot(sizes[known], largest[known], "o-", ms=4, mfc="none", color=colour)
            over_sizes.append(Curve(sizes[known][::-1], largest[known][::-1], names[i], colour))
    flow = ds["law_drift"].values.max(axis=0)
    left.plot(time, flow, color="black", zorder=1)
    over_time.append(Curve(time, flow, "gradient flow, all laws", "black"))
    step = format_number(sizes[-1])
    left.set(xlabel=TIME_LABEL, ylabel=f"relative drift  (circles: descent, η = {step})")
    right.set(xlabel="step size η", ylabel="largest drift along descent", xscale="log")
    right.set_xticks(sizes, [format_number(size) for size in sizes], rotation=45)
    right.set_xticks([], minor=True)
    if over_sizes:
        set_log_y(right, np.concatenate([curve.y for curve in over_sizes]))
    for axes, curves in ((left, over_time), (right, over_sizes)):
        label_curves(axes, curves)
    orders = ds["drift_order"].values
    known = orders[np.isfinite(orders)]
    flow_drift = format_number(float(ds["law_drift"].max()))
    if not len(known):
        return f"Laws drift by up to {flow_drift} along the flow"
    low, high = (f"{x:.2f}" for x in (known.min(), known.max()))
    power = low if low == high else f"{low} to {high}"
    return f"Laws drift by {flow_drift} along the flow, along descent as η to the power {power}"
