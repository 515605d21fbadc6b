"""The figure of completion by flows: error and rank against the scale of the start, by depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, label_curves, label_level, note, style_key
from gflow.plots.scales import readable_ticks, set_log_y
from gflow.plots.style import colour_of, format_number
from gflow.text import clause

_SEED: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 4, "alpha": 0.45}


@figure_spec(
    "completion_study",
    variables=["completion_error", "completed_rank", "completed_nuclear_norm"],
    panels=3,
    priority=3,
)
def _completion(ds: xr.Dataset, left: Axes, middle: Axes, right: Axes) -> str:
    true = float(ds["true_completed_nuclear_norm"]) if "true_completed_nuclear_norm" in ds else 1.0
    ratio = "nuclear norm" + (" over the true one" if true != 1.0 else "")
    names = ("completion_error", "completed_nuclear_norm", "completed_rank")
    texts = ("mean squared error, not observed", ratio, "effective rank")
    for axes, name, text in zip((left, middle, right), names, texts, strict=True):
        unit = true if name == "completed_nuclear_norm" else 1.0
        _draw(ds, axes, name, text, unit)
    errors = ds["completion_error"].values[:, -1]
    medians = [float(np.nanmedian(row)) if np.isfinite(row).any() else np.nan for row in errors]
    depths = ds["depth"].values
    parts = [
        f"{format_number(m)} at depth {int(n)}"
        for n, m in zip(depths, medians, strict=True)
        if np.isfinite(m)
    ]
    if not parts:
        return "No error on entries that are not observed is known"
    text = f"Error from α = {float(ds['init_scale'][-1]):g}: {', '.join(parts)}"
    convex = float(ds.get("convex_completion_error", np.nan))
    return text + clause("; of the least nuclear norm {:.3g}", convex)


def _draw(ds: xr.Dataset, axes: Axes, name: str, text: str, unit: float) -> None:
    alphas, values = ds["init_scale"].values, ds[name].values / unit
    curves = []
    for i, depth in enumerate(ds["depth"].values):
        colour = colour_of(i)
        finite = np.isfinite(values[i]).any(axis=1)
        if not finite.any():
            continue
        medians = np.nanmedian(values[i][finite], axis=1)
        axes.plot(alphas[finite], medians, color=colour)
        axes.plot(np.repeat(alphas, values.shape[2]), values[i].ravel(), color=colour, **_SEED)
        curves.append(Curve(alphas[finite], medians, f"N = {int(depth)}", colour))
    drawn = [values[np.isfinite(values)]]
    levels = [f"convex_{name}", f"true_{name}" if name != "completion_error" else ""]
    drawn += [np.array([float(ds[level]) / unit]) for level in levels if level in ds]
    axes.set_xscale("log")
    span = max(10.0, float(alphas.max() / alphas.min()))
    edge = span**0.08
    low, high = float(alphas.min()) / edge, float(alphas.max()) * edge
    axes.set_xlim(high, low)
    readable_ticks(axes.xaxis, low, high)
    axes.set(xlabel="scale α of the start", ylabel=text)
    every = np.concatenate(drawn)
    if name != "completed_nuclear_norm":
        set_log_y(axes, every)
    elif every.size:
        span = max(float(np.ptp(every)), 1e-3)
        axes.set_ylim(float(every.min()) - 0.12 * span, float(every.max()) + 0.18 * span)
    if f"convex_{name}" in ds:
        label_level(
            axes, float(ds[f"convex_{name}"]) / unit, "least nuclear norm", "black", ls="--"
        )
    if name != "completion_error" and f"true_{name}" in ds:
        label_level(axes, float(ds[f"true_{name}"]) / unit, "true matrix", "grey", ls=":")
    label_curves(axes, curves)
    if not curves:
        note(axes, "not known of any start", at="upper left")
    style_key(axes, [("median", {}), ("each start", _SEED)])
