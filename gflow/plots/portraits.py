"""Figures of the state: the phase portrait of two parameters, and neurons in a plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import style_key
from gflow.plots.style import COLOURS, colour_of, descent_curves, format_number, label_of

_LEVELS = 12  # of the loss
_FIELD: dict[str, Any] = {"color": "0.7", "linewidth": 0.7, "arrowsize": 0.8, "density": 1.1}


@figure_spec("phase_portrait", variables=["portrait_loss", "velocity", "velocity_2", "state"])
def _phase_portrait(ds: xr.Dataset, axes: Axes) -> str:
    draw_field(ds, axes)
    path = ds["state"].values
    axes.plot(*path.T, color="black", lw=2, zorder=3)
    axes.plot(*path[0], "o", color="black", ms=6, mfc="white", zorder=4)
    axes.plot(*path[-1], "o", color="black", ms=6, zorder=4)
    keys: list[tuple[str, dict[str, Any]]] = [("gradient flow", {"color": "black", "lw": 2})]
    if "descent_state" in ds:
        for i, (label, _, values) in enumerate(descent_curves(ds, "descent_state")):
            marks: dict[str, Any] = {
                "marker": "o",
                "ms": 3.5,
                "mfc": "none",
                "lw": 0.6,
                "color": colour_of(i),
            }
            axes.plot(*values.T, zorder=3, **marks)
            keys.append((f"descent, {label}", marks))
    style_key(axes, keys)
    ends = [f"({', '.join(format_number(x) for x in point)})" for point in (path[0], path[-1])]
    return f"The flow goes from {ends[0]} to {ends[1]} by t = {format_number(ds.time.values[-1])}"


def draw_field(ds: xr.Dataset, axes: Axes) -> None:
    """Draw stream lines of the flow and levels of the loss.

    Parameters
    ----------
    ds : xarray.Dataset
        As the figure ``phase_portrait`` needs it.
    axes : matplotlib.axes.Axes

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> x = np.linspace(-1, 1, 5)
    >>> ds = xr.Dataset(coords={"second_parameter": x, "first_parameter": x})
    >>> ds["portrait_loss"] = ds.first_parameter**2 + 2 * ds.second_parameter**2
    >>> ds["velocity"] = -ds.first_parameter + 0 * ds.second_parameter
    >>> ds["velocity_2"] = -2 * ds.second_parameter + 0 * ds.first_parameter
    >>> axes = Figure().subplots()
    >>> draw_field(ds.transpose("second_parameter", "first_parameter"), axes)
    >>> axes.get_xlim() == (-1.0, 1.0)
    True
    """
    x, y = ds["first_parameter"].values, ds["second_parameter"].values
    loss = ds["portrait_loss"].values
    levels = np.unique(np.quantile(loss[np.isfinite(loss)], np.linspace(0, 0.98, _LEVELS)))
    axes.contourf(x, y, loss, levels=levels, cmap="Blues", alpha=0.45, extend="both")
    axes.streamplot(x, y, ds["velocity"].values, ds["velocity_2"].values, **_FIELD)
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    axes.set(xlabel=label_of(ds["first_parameter"]), ylabel=label_of(ds["second_parameter"]))
    axes.grid(visible=False)


@figure_spec("neurons", variables=["neurons", "neuron_sign", "neuron_share"])
def _neurons(ds: xr.Dataset, axes: Axes) -> str:
    values = draw_plane(ds, axes)
    colours = sign_colours(ds)
    trails = LineCollection([*values.swapaxes(0, 1)], colors=colours, linewidths=0.8, alpha=0.5)
    axes.add_collection(trails)
    axes.scatter(
        values[0, :, 0],
        values[0, :, 1],
        edgecolors=colours,
        facecolors="none",
        s=14,
        linewidths=0.7,
    )
    axes.scatter(values[-1, :, 0], values[-1, :, 1], c=colours, s=20, zorder=3)
    axes.plot([0], [0], "+", color="grey")
    share = 100 * float(ds["neuron_share"])
    return (
        f"{values.shape[1]} neurons, from circles to dots: {share:.3g} % of them is in this plane"
    )


def draw_plane(ds: xr.Dataset, axes: Axes) -> np.ndarray:
    """Set the axes of neurons; return their places over times, neurons and the two axes.

    Parameters
    ----------
    ds : xarray.Dataset
        As the figure ``neurons`` needs it.
    axes : matplotlib.axes.Axes

    Returns
    -------
    ndarray, shape (T, neurons, 2)

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ds = xr.Dataset({"neurons": (("time", "neuron", "plane"), np.ones((2, 3, 2)))})
    >>> draw_plane(ds, Figure().subplots()).shape
    (2, 3, 2)
    """
    values = ds["neurons"].transpose("time", "neuron", "plane").values
    reach = 1.08 * float(np.abs(values).max()) or 1.0
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set(xlabel="input weights, first direction", ylabel="second direction")
    return np.asarray(values)


def sign_colours(ds: xr.Dataset) -> list[str]:
    """Return a colour for each neuron, by the sign of its output weight."""
    return [COLOURS[0] if sign > 0 else COLOURS[1] for sign in ds["neuron_sign"].values]
