"""The figure of completion against one variable: medians, bands and fitted powers."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import label_level, style_key
from gflow.plots.scales import readable_ticks, set_log_y
from gflow.plots.style import COLOURS, draw_median_band, format_number

_SEED: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 3.5, "alpha": 0.45}
_FIT: dict[str, Any] = {"ls": "--", "lw": 1.0, "color": "0.3"}
_AXES = {
    "depth": "depth N",
    "init_scale": "scale α of the start",
    "samples": "number of observed entries",
}
_PANELS = {
    "error": "mean squared error, not observed",
    "nuclear_norm": "nuclear norm",
    "effective_rank": "effective rank",
}


@figure_spec(
    "completion_trend", variables=["trend_error", "trend_effective_rank"], panels=3, priority=3
)
def _completion_trend(ds: xr.Dataset, *panels: Axes) -> str:
    variable = str(ds.attrs["variable"])
    for axes, name in zip(panels, _PANELS, strict=True):
        _draw(ds, axes, variable, name)
    word = {"depth": "N", "init_scale": "α", "samples": "n"}[variable]
    seeds = f"of {ds.sizes['seed']} seeds"
    if _is_a_power(ds):
        law = ds.sel(power="error")
        slope, low, high = (float(law[f"power_{key}"]) for key in ("slope", "low", "high"))
        between = f" (95 %: {low:.3g} to {high:.3g})"
        return f"The median error goes as {word}^({slope:.3g}){between}, {seeds}"
    x, medians = ds[variable].values, np.median(ds["trend_error"].values, axis=1)
    first, last = (
        f"{format_number(medians[i])} at {word} = {format_number(x[i])}" for i in (0, -1)
    )
    return f"The median error is {first} and {last}, {seeds}"


def _is_a_power(ds: xr.Dataset) -> bool:
    """Whether the power of the error is known to half of itself."""
    law = ds.sel(power="error")
    slope, low, high = (float(law[f"power_{key}"]) for key in ("slope", "low", "high"))
    return bool(high - low <= abs(slope))  # not where there is no interval


def _draw(ds: xr.Dataset, axes: Axes, variable: str, name: str) -> None:
    x, values = ds[variable].values.astype(float), ds[f"trend_{name}"].values
    true = f"true_trend_{name}"
    unit = float(ds[true]) if name == "nuclear_norm" and true in ds else 1.0
    values, drawn = values / unit, [values.ravel() / unit]
    key = [("median and middle half", {}), ("each start", _SEED)]
    axes.plot(np.repeat(x, values.shape[1]), values.ravel(), color=COLOURS[0], **_SEED)
    draw_median_band(axes, x, values.T, color=COLOURS[0])
    law = ds.sel(power=name)
    slope, constant = float(law["power_slope"]), float(law["power_constant"]) / unit
    if name == "error" and _is_a_power(ds):
        axes.plot(x, constant * x**slope, **_FIT)
        key.append((f"power {slope:.2f}", _FIT))
    convex = f"convex_trend_{name}"
    if convex in ds and ds[convex].ndim == 2:
        medians = ds[convex].values / unit
        draw_median_band(axes, x, medians.T, color=COLOURS[1])
        drawn.append(medians.ravel())
        key.append(("least nuclear norm", {"color": COLOURS[1]}))
    _set_x(axes, variable, x)
    levels = []
    if convex in ds and ds[convex].ndim == 0:
        levels.append((float(ds[convex]) / unit, "least nuclear norm", COLOURS[1], "--"))
    if name != "error" and true in ds:
        levels.append((float(ds[true]) / unit, "true matrix", "grey", ":"))
    drawn += [np.array([level]) for level, *_ in levels]
    words = _PANELS[name] + (" over the true one" if unit != 1.0 else "")
    axes.set(xlabel=_AXES[variable], ylabel=words)
    every = np.concatenate(drawn)
    every = every[np.isfinite(every)]
    if name != "nuclear_norm":
        # An exact solution does not set the scale.
        set_log_y(axes, every, floor=float(np.nanmin(values, initial=np.inf)) / 30)
    elif every.size:
        span = max(float(np.ptp(every)), 1e-3)
        axes.set_ylim(float(every.min()) - 0.12 * span, float(every.max()) + 0.18 * span)
    for level, text, colour, style in levels:
        lower = len(levels) > 1 and level == min(found[0] for found in levels)
        label_level(axes, level, text, colour, below=lower, ls=style)
    style_key(axes, key)


def _set_x(axes: Axes, variable: str, x: np.ndarray) -> None:
    """Make the horizontal axis logarithmic; scales fall to the right, and depths are ticks."""
    axes.set_xscale("log")
    edges = (float(x.min()) / 1.15, float(x.max()) * 1.15)
    axes.set_xlim(*(edges[::-1] if variable == "init_scale" else edges))
    if variable == "depth":
        axes.xaxis.set_major_locator(FixedLocator(x.tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        readable_ticks(axes.xaxis, *edges)
    if variable != "init_scale":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
