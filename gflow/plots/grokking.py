"""The figure of grokking: accuracies over the logarithm of time, with the times of a level."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import label_level, style_key
from gflow.plots.style import COLOURS, TIME_LABEL, format_number

_CIRCLES = 40
_NEAR_THE_END = 0.7  # of the last time: no room for a text to the right
_CURVES = (
    ("accuracy", "memorisation", "training"),
    ("test_accuracy", "generalisation", "held out"),
)


@figure_spec(
    "grokking", variables=["memorisation_time", "generalisation_time", "accuracy_level"], priority=3
)
def _grokking(ds: xr.Dataset, axes: Axes) -> str:
    time, level = ds["time"].values, float(ds["accuracy_level"])
    later = time > 0
    mark: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 4, "mfc": "none"}
    axes.set_xscale("log")
    axes.set_xlim(float(time[later][0]), float(time[-1]))
    found = []
    for (name, event, words), colour in zip(_CURVES, COLOURS, strict=False):
        axes.plot(time[later], ds[name].values[later], color=colour)
        # The largest step size alone: circles of several would hide each other.
        t, values = ds["descent_time"].values[0], ds[f"descent_{name}"].values[0]
        some = _spread(t)
        axes.plot(t[some], values[some], color=colour, **mark)
        at = float(ds[f"{event}_time"])
        if math.isfinite(at):
            found.append(at)
            if at > 0:
                axes.axvline(at, color=colour, lw=1.0, ls="--")
                _write(axes, at, f"{words}, t = {format_number(at)}", colour)
    axes.set(xlabel=TIME_LABEL, ylabel="share classified correctly", ylim=(-0.03, 1.05))
    label_level(axes, level, f"{level:g}", "grey", ls=":")
    step = format_number(float(ds["step_size"].values[0]))
    style_key(
        axes,
        [
            ("training", {"color": COLOURS[0]}),
            ("held out", {"color": COLOURS[1]}),
            (f"circles: descent, η = {step}", mark),
        ],
    )
    if len(found) < 2:
        return f"Held-out accuracy does not reach {level:g} by t = {format_number(time[-1])}"
    if found[0] <= 0:
        return f"Held-out accuracy reaches {level:g} at t = {format_number(found[1])}"
    ratio = format_number(found[1] / found[0])
    return f"Held-out accuracy reaches {level:g} at {ratio} times the time of training accuracy"


def _write(axes: Axes, at: float, text: str, colour: str) -> None:
    """Write a text along a vertical line, to its right, where the curve that passes it is not."""
    last = axes.get_xlim()[1]
    side = "left" if at < _NEAR_THE_END * last else "right"
    style: dict[str, Any] = {"rotation": 90, "ha": side, "va": "center", "fontsize": "small"}
    beside = at * (1.04 if side == "left" else 1 / 1.04)
    axes.text(beside, 0.5, text, color=colour, **style)


def _spread(t: np.ndarray) -> np.ndarray:
    """Return the indices of some times after zero, evenly spaced on a logarithmic axis."""
    later = np.flatnonzero(t > 0)
    if not len(later):
        return later
    wanted = np.geomspace(t[later[0]], t[later[-1]], _CIRCLES)
    return np.unique(later[np.searchsorted(t[later], wanted).clip(0, len(later) - 1)])
