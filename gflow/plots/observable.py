"""One variable of a flow over time, beside that of descents and of the closed form."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from gflow.plots.labels import Curve, label_curves
from gflow.plots.scales import scale_time, set_log_y, zero_floor
from gflow.plots.style import TIME_LABEL, colour_of, descent_curves, label_of, thinned

_SHOWN = 10  # modes
_MEMBERS = 200  # members of an ensemble
_FLOW: dict[str, Any] = {"color": "black", "label": "gradient flow"}


def draw_observable(ds: xr.Dataset, axes: Axes, name: str) -> None:
    """Draw a variable of the flow as lines, of descents as circles, of the closed form dashed.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``name`` over ``time``, ``descent_<name>`` over ``step_size`` × ``save``, or both, and
        perhaps ``exact_<name>``; each may have one more dimension, such as ``mode``, and members.
    axes : matplotlib.axes.Axes
    name : str

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ds = xr.Dataset({"loss": ("time", [1.0, 0.5, 0.25])}, {"time": [0.0, 1.0, 2.0]})
    >>> axes = Figure().subplots()
    >>> draw_observable(ds, axes, "loss")
    >>> axes.get_ylabel(), axes.get_xlabel()
    ('loss', 'time t  (step size × steps)')
    """
    array = ds[name] if name in ds else ds[f"descent_{name}"]
    entries = [d for d in array.dims if d not in ("time", "step_size", "save", *_members(array))]
    if len(entries) > 1:
        array = array.isel(dict.fromkeys(entries[1:], 0))
    if entries:
        _draw_modes(ds, axes, name, str(entries[0]))
        return
    curves = _draw_flow(ds, axes, name)
    exact = f"exact_{name}"
    if exact in ds:
        style: dict[str, Any] = {"color": colour_of(1), "ls": "--", "label": "closed form"}
        time, values = ds["time"].values, _over_members(ds[exact])
        axes.plot(time, values, **style, zorder=3)
        curves.append(Curve(time, values[:, 0], "closed form", colour_of(1)))
    if f"descent_{name}" in ds:
        for i, (label, t, values) in enumerate(descent_curves(ds, f"descent_{name}")):
            values = values.reshape(len(t), -1)[:, 0]
            some = thinned(t)
            colour = colour_of(i if exact not in ds or i < 1 else i + 1)
            axes.plot(t[some], values[some], "o", ms=4, mfc="none", color=colour, label=label)
            curves.append(Curve(t, values, label, colour))
    axes.set(xlabel=TIME_LABEL, ylabel=label_of(array))
    scale_time(ds, [axes])
    every = np.concatenate([curve.y for curve in curves])
    falls = curves[0].y[-1] < curves[0].y[0]
    if name.endswith("loss") or (falls and zero_floor(every) is not None):
        set_log_y(axes, every)
    label_curves(axes, curves)


def _draw_flow(ds: xr.Dataset, axes: Axes, name: str) -> list[Curve]:
    if name not in ds:
        return []
    time, values = ds["time"].values, _over_members(ds[name])
    if values.shape[1] == 1:
        axes.plot(time, values[:, 0], **_FLOW, zorder=1)
        return [Curve(time, values[:, 0], "gradient flow", "black")]
    few = values[:, :: max(1, values.shape[1] // _MEMBERS)]
    axes.plot(time, few, color="0.6", lw=0.6, alpha=0.6, zorder=1)
    middle = np.nanmedian(values, axis=1)
    axes.plot(time, middle, color="black", label="median", zorder=2)
    return [Curve(time, middle, f"median of {values.shape[1]}", "black")]


def _members(array: xr.DataArray) -> list[str]:
    return [str(d) for d in array.dims if str(d).startswith("member")]


def _over_members(array: xr.DataArray) -> np.ndarray:
    """Return values over time × members, one where there is no ensemble."""
    members = _members(array)
    return array.transpose("time", *members).values.reshape(array.sizes["time"], -1)


def _draw_modes(ds: xr.Dataset, axes: Axes, name: str, dim: str) -> None:
    array = ds[name] if name in ds else ds[f"descent_{name}"]
    count = array.sizes[dim]
    shown = min(_SHOWN, count)
    colours = mode_colours(shown)
    curves: list[Curve] = []
    first = {d: 0 for d in array.dims if str(d).startswith("member")}
    if name in ds:
        time, values = ds["time"].values, ds[name].isel(first).transpose("time", dim).values
        for i, colour in enumerate(colours):
            axes.plot(time, values[:, i], color=colour)
            curves.append(Curve(time, values[:, i], f"{i + 1}" if shown > 1 else "", colour))
        axes.plot([], [], color="0.3", label="gradient flow")
    if f"exact_{name}" in ds:
        values = ds[f"exact_{name}"].isel(first).transpose("time", dim).values[:, :shown]
        axes.plot(ds["time"].values, values, color=colour_of(1), ls="--", lw=1.2, zorder=3)
        axes.plot([], [], color=colour_of(1), ls="--", lw=1.2, label="closed form")
    if f"descent_{name}" in ds:
        part = ds.isel(first)
        step, t, path = descent_curves(part, f"descent_{name}")[0]
        some = thinned(t, 21)
        for i, colour in enumerate(colours):
            axes.plot(t[some], path[some, i], "o", ms=3.5, mfc="none", color=colour)
            if name not in ds:
                curves.append(Curve(t, path[:, i], f"{i + 1}", colour))
        axes.plot([], [], "o", ms=3.5, mfc="none", color="0.3", label=f"descent, {step}")
    more = f"  (largest {shown} of {count})" if count > shown else ""
    axes.set(xlabel=TIME_LABEL, ylabel=label_of(array) + more)
    scale_time(ds, [axes])
    label_curves(axes, curves)
    if shown > 1:
        axes.text(1.015, 1.03, dim.replace("_", " "), transform=axes.transAxes, color="0.25")
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)


def mode_colours(count: int) -> list[str]:
    """Return colours of modes from the largest, dark, to the smallest, light.

    Examples
    --------
    >>> mode_colours(1), len(set(mode_colours(10)))
    (['#440154'], 10)
    """
    return [to_hex(colour) for colour in mpl.colormaps["viridis"](np.linspace(0.0, 0.88, count))]
