"""Figures of networks: sharpness, distances, and the gap of descent."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, joined, label_curves, label_level, style_key
from gflow.plots.observable import draw_observable
from gflow.plots.scales import set_log_y
from gflow.plots.solver_error import draw_error_path
from gflow.plots.style import (
    COLOURS,
    TIME_LABEL,
    colour_of,
    descent_curves,
    format_number,
    thinned,
)

SHARPNESS = r"sharpness  $\lambda_{\max}$ of the Hessian"
_SETTLED = 0.15  # of 2/η: how near to it a sharpness counts as at the edge


@figure_spec("sharpness", variables=["sharpness", "descent_sharpness"], priority=1)
def _sharpness(ds: xr.Dataset, axes: Axes) -> str:
    time, flow = ds["time"].values, ds["sharpness"].values
    curves = [Curve(time, flow, "gradient flow", "black")]
    limits, at_edge = [], []
    for i, (label, t, values) in enumerate(descent_curves(ds, "descent_sharpness")):
        colour, limit = colour_of(i), 2 / float(ds["step_size"].values[i])
        axes.plot(t, values, "o", ms=3, mfc="none", color=colour)
        curves.append(Curve(t, values, label, colour))
        limits.append((limit, label, colour))
        if len(values) and abs(values[-1] - limit) < _SETTLED * limit:
            at_edge.append(label)
    axes.plot(time, flow, color="black", zorder=3)
    highest = float(flow.max())
    # A descent that diverges must not set the scale.
    top = 1.3 * max(highest, min(float(ds["descent_sharpness"].max()), 1.5 * highest))
    axes.set(xlabel=TIME_LABEL, ylabel=SHARPNESS, ylim=(0, top), xlim=(0, 1.01 * time[-1]))
    for limit, label, colour in limits:
        if limit < top:
            label_level(axes, limit, f"2/η for {label}", colour, ls="--")
    label_curves(axes, curves)
    ends = f"The flow's sharpness goes from {format_number(flow[0])} to {format_number(flow[-1])}"
    return f"{ends}; descent ends near 2/η for {joined(at_edge)}" if at_edge else ends


@figure_spec(
    "network", variables=["gradient_norm", "distance", "descent_distance", "gap"], panels=3
)
def _network(ds: xr.Dataset, left: Axes, middle: Axes, right: Axes) -> str:
    fit = "accuracy" if "accuracy" in ds else "loss"
    for axes, name in ((left, fit), (middle, "gradient_norm"), (right, "distance")):
        draw_observable(ds, axes, name)
    left.set_ylabel(fit)
    middle.set_ylabel(r"gradient norm  $\|\nabla L\|$")
    right.set_ylabel(r"distance from the start  $\|\theta - \theta_0\|$")
    moved, last = (float(ds[name].values[-1]) for name in ("distance", fit))
    return (
        f"The flow moves by {format_number(moved)} and ends at {fit} {format_number(last)}, where "
        f"the gradient's norm is {format_number(float(ds['gradient_norm'].values[-1]))}"
    )


@figure_spec(
    "implicit_regularization",
    variables=["squared_gradient", "descent_squared_gradient", "descent_ratio", "modified_ratio"],
    panels=2,
    priority=3,
)
def _implicit_regularization(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    time, flow = ds["time"].values, ds["squared_gradient"].values
    left.plot(time, flow, color="black", label="gradient flow", zorder=1)
    curves = [Curve(time, flow, "gradient flow", "black")]
    ratios, expected, shown = [], [], []
    for i, (label, t, values) in enumerate(descent_curves(ds, "descent_squared_gradient")):
        colour = colour_of(i)
        style: dict[str, Any] = {"ms": 4, "mfc": "none", "color": colour}
        some = thinned(t)
        left.plot(t[some], values[some], "o", label=label, **style)
        curves.append(Curve(t, values, label, colour))
        ratio, modified = (ds[n].values[i][: len(t)] for n in ("descent_ratio", "modified_ratio"))
        right.plot(t[some[1:]], ratio[some[1:]], "o", **style)
        right.plot(t[1:], modified[1:], color=colour)
        ratios.append(Curve(t[1:], modified[1:], label, colour))
        shown += [ratio[some[1:]], modified[1:]]
        expected.append(float(np.nanmedian(ratio[1:])))
    left.set(xlabel=TIME_LABEL, ylabel=r"squared gradient  $\|\nabla L\|^2$")
    left.set_xlim(0, 1.01 * time[-1])
    set_log_y(left, np.concatenate([curve.y for curve in curves]))
    label_curves(left, curves)
    right.axhline(1, color="black", zorder=1)
    every = np.concatenate([*shown, [1.0]])
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    room = 0.06 * (high - low)
    right.set(xlabel=TIME_LABEL, xlim=(0, 1.01 * time[-1]), ylim=(low - room, high + room))
    right.set(ylabel=r"$\|\nabla L\|^2$ over the flow's at equal loss")
    ratios.append(Curve(time, np.ones(len(time)), "gradient flow", "black"))
    label_curves(right, ratios)
    marks = {"marker": "o", "ls": "none", "ms": 4, "mfc": "none"}
    style_key(right, [("descent", marks), ("predicted by the modified flow", {})])
    steps = [format_number(size) for size in ds["step_size"].values]
    medians = f"{expected[0]:.3f} at η = {steps[0]}, {expected[-1]:.3f} at η = {steps[-1]}"
    if max(expected) < 1:
        return f"At equal loss descent has the smaller gradient: median of the ratio {medians}"
    return f"At equal loss, squared gradient of descent over the flow's: median {medians}"


@figure_spec(
    "continuous_vs_discrete",
    variables=["travelled", "gap_to_flow", "gap_to_proxy", "proxy_to_flow"],
    panels=2,
    priority=3,
)
def _continuous_vs_discrete(ds: xr.Dataset, *panels: Axes) -> str:
    step, proxy = format_number(float(ds["step"])), int(ds["proxy"])
    lines: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("travelled", {"color": "black"}, "descent\nto its start"),
        ("gap_to_flow", {"color": COLOURS[0]}, "descent to the flow"),
        ("gap_to_proxy", {"color": COLOURS[4], "ls": "--"}, f"to its proxy, η/{proxy}"),
        ("proxy_to_flow", {"color": COLOURS[2]}, "proxy to the flow"),
    )
    time = ds["time"].values
    later = time > 0
    used = panels[: ds.sizes["network"]]
    parts = [ds.sel(network=name) for name in ds["network"].values]
    every = np.concatenate([ds[name].values[..., later].ravel() for name, _, _ in lines])
    panel_curves = []
    for axes, part in zip(used, parts, strict=True):
        curves = []
        for variable, style, label in lines:
            values = part[variable].values[later]
            axes.plot(time[later], values, **style)
            curves.append(Curve(time[later], values, label, style["color"]))
        axes.set(xlabel=TIME_LABEL, ylabel="distance of parameters", xlim=(0, 1.01 * time[-1]))
        drawn = draw_error_path(axes, every, time[later], part["solver_error"].values[later])
        panel_curves.append(curves + drawn)
        axes.set_title(f"{part['network'].values!s} network", fontsize="medium")
    for axes in panels[len(used) :]:
        axes.set_axis_off()
    low = min(axes.get_ylim()[0] for axes in used)
    high = max(axes.get_ylim()[1] for axes in used)
    for axes, curves in zip(used, panel_curves, strict=True):
        axes.set_ylim(low, high)
        label_curves(axes, curves)
    gaps = [float(part["gap_to_flow"].max() / part["travelled"].values[-1]) for part in parts]
    shares = ", ".join(
        f"{100 * gap:.2g} % ({part['network'].values})"
        for gap, part in zip(gaps, parts, strict=True)
    )
    return f"Descent with η = {step} leaves the flow by at most {shares} of the way it travels"
