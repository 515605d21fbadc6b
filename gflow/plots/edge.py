"""Figures of the edge of stability: where descent leaves the flow, and its oscillation."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, joined, label_curves, label_level, note, style_key
from gflow.plots.networks import SHARPNESS
from gflow.plots.scales import set_log_y
from gflow.plots.style import COLOURS, TIME_LABEL, colour_of, descent_curves, format_number

_AVERAGED = r"central flow  $L + \mathrm{tr}\,\Sigma/\eta$"


@figure_spec(
    "edge_of_stability",
    variables=["flow_loss", "flow_sharpness", "edge_sharpness", "step_loss"],
    panels=2,
    priority=3,
)
def _edge(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    time, limits = ds["time"].values, 2 / ds["step_size"].values
    loss, sharpness = ds["flow_loss"].values, ds["flow_sharpness"].values
    losses = descent_curves(ds, "step_loss", "step_time")
    at_edge = descent_curves(ds, "edge_sharpness")
    averaged = descent_curves(ds, "central_averaged_loss", "central_time")
    central = descent_curves(ds, "central_sharpness", "central_time")
    curves = [Curve(time, loss, "gradient flow", "black")]
    ends = [Curve(time, sharpness, "gradient flow", "black")]
    for i, (label, t, values) in enumerate(losses):
        colour = colour_of(i)
        left.plot(t, values, color=colour, lw=0.7, alpha=0.45)
        _, at, smooth = averaged[i]
        left.plot(at, smooth, "--", color=colour, lw=2)
        curves.append(
            Curve(at, smooth, label, colour) if len(at) else Curve(t, values, label, colour)
        )
        _, t, values = at_edge[i]
        right.plot(t, values, "o", ms=3, mfc="none", color=colour)
        ends.append(Curve(t, values, label, colour))
        _, at, values = central[i]
        right.plot(at, values, "--", color=colour, lw=2)
    left.plot(time, loss, color="black", lw=1.2)
    right.plot(time, sharpness, color="black", lw=2)
    highest = max(float(sharpness.max()), float(limits.max()))
    left.set(xlabel=TIME_LABEL, ylabel="loss", xlim=(0, 1.01 * time[-1]))
    # A descent that diverges must not set the scale.
    set_log_y(left, np.append(loss, 1.3 * loss.max()))
    right.set(xlabel=TIME_LABEL, ylabel=SHARPNESS, ylim=(0, 1.15 * highest))
    right.set_xlim(0, 1.01 * time[-1])
    for i, limit in enumerate(limits):
        label_level(right, limit, f"2/η for {losses[i][0]}", colour_of(i), ls=":", lw=1.2)
    label_curves(left, curves)
    label_curves(right, ends)
    style_key(left, [("descent, every step", {"lw": 0.7}), (_AVERAGED, {"ls": "--"})])
    marks = {"marker": "o", "ls": "none", "ms": 3, "mfc": "none"}
    style_key(right, [("descent", marks), ("central flow", {"ls": "--"})])
    crossings = ds["crossing"].values
    crossed = [
        f"t = {format_number(t)} ({losses[i][0]})"
        for i, t in enumerate(crossings)
        if np.isfinite(t)
    ]
    if not crossed:
        return "The flow's sharpness stays below 2/η: descent stays on the flow"
    return f"The flow's sharpness passes 2/η at {', '.join(crossed)}{_left_after(ds, at_edge)}"


def _left_after(ds: xr.Dataset, at_edge: list[tuple[str, Any, Any]]) -> str:
    """Say that descent has left the flow, where its last sharpness is nearer to 2/η than that."""
    time, flow = ds["time"].values, ds["flow_sharpness"].values
    stays = []
    for i, (label, t, values) in enumerate(at_edge):
        limit, seen = 2 / float(ds["step_size"].values[i]), np.isfinite(values)
        if np.isfinite(ds["crossing"].values[i]) and seen.any():
            last, ahead = values[seen][-1], np.interp(t[seen][-1], time, flow)
            if abs(last - limit) < abs(last - ahead):
                stays.append(label)
    return f"; descent ends near its 2/η for {joined(stays)}" if stays else ""


@figure_spec("leaving", variables=["relative_gap", "crossing"])
def _leaving(ds: xr.Dataset, axes: Axes) -> str:
    curves, before, after = [], [], []
    for i, (label, t, values) in enumerate(descent_curves(ds, "relative_gap")):
        colour, crossing = colour_of(i), float(ds["crossing"].values[i])
        axes.plot(t[1:], values[1:], color=colour)
        curves.append(Curve(t[1:], values[1:], label, colour))
        if np.isfinite(crossing):
            axes.axvline(crossing, color=colour, ls=":", lw=1.2)
            before.append(values[t <= crossing].max(initial=0.0))
            after.append(values[t > crossing].max(initial=0.0))
    axes.set(xlabel=TIME_LABEL, ylabel="distance of descent to flow, relative")
    axes.set_xlim(0, 1.01 * float(ds["time"].values[-1]))
    set_log_y(axes, np.concatenate([curve.y for curve in curves]))
    label_curves(axes, curves)
    style_key(axes, [("the flow passes 2/η", {"ls": ":"})])
    if not before:
        return "Descent stays on the flow, whose sharpness stays below 2/η"
    return (
        f"Descent is within {100 * max(before):.2g} % of the flow until its sharpness passes 2/η, "
        f"then up to {100 * max(after):.2g} % away"
    )


@figure_spec("oscillation", variables=["oscillation", "step_time"])
def _oscillation(ds: xr.Dataset, axes: Axes) -> str:
    # Step after step changes sides: drawn as one curve this is a filled area.
    label, t, values = descent_curves(ds, "oscillation", "step_time")[0]
    for start, colour, name in ((0, COLOURS[0], "even steps"), (1, COLOURS[4], "odd steps")):
        axes.plot(t[start::2], values[start::2], color=colour, lw=1.0, label=name)
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max(initial=0.0))
    axes.set(xlabel=TIME_LABEL, ylabel=r"oscillation along the top eigenvector  $v_1$")
    axes.set(xlim=(0, 1.01 * t[-1]), ylim=(-1.15 * largest or -1.0, 1.15 * largest or 1.0))
    curves = [
        Curve(t[start::2], values[start::2], name, colour)
        for start, colour, name in ((0, COLOURS[0], "even\nsteps"), (1, COLOURS[4], "odd\nsteps"))
    ]
    label_curves(axes, curves)
    seen = values[np.isfinite(values)]
    share = float(np.mean(seen[1:] * seen[:-1] < 0)) if len(seen) > 1 else 0.0
    often = "every step" if share == 1 else f"{100 * share:.3g} % of its steps"
    return (
        f"Descent with {label} changes sides at {often}; it is up to {format_number(largest)} away"
    )


@figure_spec("oscillation_variance", variables=["smooth_variance", "central_variance"])
def _variance(ds: xr.Dataset, axes: Axes) -> str:
    averages = descent_curves(ds, "smooth_variance", "step_time")
    predicted = descent_curves(ds, "central_variance", "central_time")
    curves, ratios = [], []
    for i, (label, t, values) in enumerate(averages):
        colour = colour_of(i)
        axes.plot(t, values, color=colour)
        curves.append(Curve(t, values, label, colour))
        _, at, central = predicted[i]
        axes.plot(at, central, "--", color=colour, lw=2)
        good = np.isfinite(values)
        if len(at) and good.any():
            both = np.interp(at, t[good], values[good])
            inside = (central > 0.1 * central.max()) & (at < t[good][-1])
            ratios += [*(both[inside] / central[inside])]
    axes.set(xlabel=TIME_LABEL, ylabel="variance of the oscillation")
    axes.set(xlim=(0, 1.01 * float(ds["time"].values[-1])), ylim=(0, None))
    label_curves(axes, curves)
    note(axes, "flat top: one burst, as long as\nit is in the window of the mean", at="upper left")
    mean = "descent, mean over a window of time"
    style_key(axes, [(mean, {}), (r"central flow, $\mathrm{tr}\,\Sigma$", {"ls": "--"})])
    if not ratios:
        return "Descent stays below the edge, where the central flow does not oscillate"
    return (
        "Descent's variance over that of the central flow: median "
        f"{format_number(float(np.median(ratios)))}"
    )
