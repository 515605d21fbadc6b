"""The style of all figures: colours, labels, and shared curves.

The colours are those of Okabe and Ito, which colour-blind readers can distinguish.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from cycler import cycler
from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.prop_cycle": cycler(color=COLOURS),
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
}
TIME_LABEL = "time t  (step size × steps)"
LOG_ZERO = 1e-17  # where a logarithmic axis shows zero


def colour_of(index: int) -> str:
    """Return the colour of the curve with this index.

    Examples
    --------
    >>> colour_of(0) == colour_of(len(COLOURS))
    True
    """
    return COLOURS[index % len(COLOURS)]


def format_number(value: float) -> str:
    """Return a number with three significant digits.

    Examples
    --------
    >>> format_number(0.012345)
    '0.0123'
    """
    return f"{value:.3g}"


def descent_curves(
    ds: xr.Dataset, name: str, time: str = "descent_time"
) -> list[tuple[str, Any, Any]]:
    """Return the curves of a variable of descent.

    Parameters
    ----------
    ds : xarray.Dataset
    name : str
        A variable over step sizes and times.
    time : str
        The variable of the times, NaN after a descent ended.

    Returns
    -------
    list of (str, ndarray, ndarray)
        A label, the times and the values for every step size.

    Examples
    --------
    >>> ds = xr.Dataset({"loss": (("step_size", "k"), [[1.0, 0.5]])}, {"step_size": [0.1]})
    >>> ds["descent_time"] = ("step_size", "k"), [[0.0, 0.1]]
    >>> descent_curves(ds, "loss")
    [('η = 0.1', array([0. , 0.1]), array([1. , 0.5]))]
    """
    curves = []
    for i, step_size in enumerate(ds["step_size"].values):
        t, values = ds[time].values[i], ds[name].values[i]
        saved = np.isfinite(t)
        curves.append((f"η = {format_number(step_size)}", t[saved], values[saved]))
    return curves


def draw_median_band(axes: Axes, x: np.ndarray, values: np.ndarray, **style: Any) -> np.ndarray:
    """Draw the median over seeds and the band of their middle half.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    x : ndarray, shape (points,)
    values : ndarray, shape (seeds, points)
        NaN after a seed diverged.
    **style
        The style of the line; its ``color`` is that of the band, too.

    Returns
    -------
    ndarray
        The medians, up to the last point at which a value is finite.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> draw_median_band(axes, np.arange(2), np.array([[1.0, 2.0], [3.0, 5.0]]), color="black")
    array([2. , 3.5])
    """
    finite = np.isfinite(values).any(axis=0)
    values, x = values[:, finite], x[finite]
    medians = np.nanmedian(values, axis=0)
    axes.plot(x, medians, **style)
    low, high = np.nanpercentile(values, (25, 75), axis=0)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.18, lw=0)
    return medians
