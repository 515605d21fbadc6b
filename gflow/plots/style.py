"""The style of all figures: colours, labels, and shared curves.

The colours are those of Okabe and Ito, which colour-blind readers can distinguish.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
import xarray as xr
from cycler import cycler
from matplotlib.axes import Axes

from gflow.errors import InputError
from gflow.text import nearest

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
SIZE = (5.6, 3.9)  # inches of one panel
TIME_LABEL = "time t  (step size × steps)"
LOG_ZERO = 1e-17  # where a logarithmic axis shows zero


def style_settings(name: str | None) -> dict[str, Any]:
    """Return matplotlib's settings: those of gflow, and above them those of a style sheet.

    Parameters
    ----------
    name : str or None
        Of a style of matplotlib, or of a file.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        If there is no such style.

    Examples
    --------
    >>> style_settings("grayscale")["axes.grid"], "image.cmap" in style_settings(None)
    (True, False)
    """
    if name is None:
        return dict(STYLE)
    try:
        if name in mpl.style.library:
            chosen = mpl.style.library[name]
        else:
            chosen = mpl.rc_params_from_file(name, use_default_template=False)
    except (OSError, ValueError, UnicodeError):
        close = nearest(name, mpl.style.available)
        hint = "" if close is None else f"; did you mean '{close}'?"
        raise InputError(
            f"style must be a style sheet of matplotlib, by name or file, got '{name:.60}'{hint}"
        ) from None
    return {**STYLE, **chosen}


def colour_of(index: int) -> str:
    """Return the colour of the curve with this index.

    Examples
    --------
    >>> colour_of(0) == colour_of(len(COLOURS))
    True
    """
    return COLOURS[index % len(COLOURS)]


def format_number(value: float) -> str:
    """Return a number with three significant digits, without powers of ten where it reads well.

    Examples
    --------
    >>> format_number(0.012345), format_number(1413.7), format_number(1.5e-7)
    ('0.0123', '1410', '1.5e-07')
    """
    return f"{float(f'{value:.3g}'):g}"


def label_of(array: xr.DataArray) -> str:
    """Return the label of an axis: the long name, without what it is of, and units if any.

    Examples
    --------
    >>> label_of(xr.DataArray([1.0], attrs={"long_name": "descent: loss", "units": "1"}))
    'loss'
    """
    label = str(array.attrs.get("long_name", array.name)).removeprefix("descent: ")
    units = array.attrs.get("units", "1")
    return label if units in ("1", "") else f"{label}  ({units})"


def thinned(t: np.ndarray, count: int = 26) -> np.ndarray:
    """Return the indices of about ``count`` points, those nearest to evenly spaced ones.

    Times that are spaced by their logarithm are thinned evenly on a logarithmic axis.

    Parameters
    ----------
    t : ndarray, shape (points,)
        Ascending.
    count : int

    Returns
    -------
    ndarray

    Examples
    --------
    >>> thinned(np.arange(101.0), 5).tolist()
    [0, 25, 50, 75, 100]
    """
    if len(t) <= count:
        return np.arange(len(t))
    even = np.linspace(t[0], t[-1], count)
    if log_spaced(t):  # then so is the axis
        even = np.append(t[0], np.geomspace(t[t > 0][0], t[-1], count - 1))
    return np.unique(np.searchsorted(0.5 * (t[1:] + t[:-1]), even))


def log_spaced(t: np.ndarray) -> bool:
    """Return whether times, after 0, are spaced by their logarithm rather than evenly.

    Examples
    --------
    >>> log_spaced(np.geomspace(0.01, 1e3, 6)), log_spaced(np.arange(4.0))
    (True, False)
    """
    later = t[t > 0]
    return len(later) > 2 and bool(np.median(later) < 0.1 * later[-1])


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
    if not finite.any():
        return np.empty(0)
    values, x = values[:, finite], x[finite]
    medians = np.nanmedian(values, axis=0)
    axes.plot(x, medians, **style)
    low, high = np.nanpercentile(values, (25, 75), axis=0)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.18, lw=0)
    return medians
