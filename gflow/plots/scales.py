"""Scales of axes: logarithmic ones without empty decades, and with readable ticks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    ScalarFormatter,
)

from gflow.plots.style import TIME_LABEL, format_number, log_spaced

_DECADES = 1.5  # from how many a positive quantity is drawn on a logarithmic axis
_MARGIN = 1.15
_STEPS = ((0.7, (1, 2, 3, 4, 5, 6, 7, 8, 9)), (1.0, (1, 2, 3, 4, 6, 8)), (np.inf, (1, 2, 5)))
_SMALL, _LARGE = 1e-3, 1e5  # beyond these the numbers of a linear axis have powers of ten
_SHORT = 2.0  # pixels
_LONG = 1e-4  # below it numbers are written as powers of ten


def zero_floor(values: np.ndarray) -> float | None:
    """Return the least positive value where values span decades above zero; else None.

    Examples
    --------
    >>> zero_floor(np.array([1e-4, 1.0])), zero_floor(np.array([0.5, 1.0]))
    (0.0001, None)
    """
    finite = values[np.isfinite(values)]
    if not finite.size or finite.min() <= 0:
        return None
    low, high = float(finite.min()), float(finite.max())
    return low if high >= low * 10**_DECADES else None


def set_log_y(axes: Axes, values: np.ndarray, *, floor: float = 0.0, room: float = 0.0) -> None:
    """Make the vertical axis logarithmic, over the positive values alone.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    values : ndarray
        All that is drawn; a linear axis remains where nothing is positive.
    floor : float
        Values below it do not set the scale.
    room : float
        Share of the axis to leave empty at the top, for a note.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> set_log_y(axes, np.array([0.0, 0.1, 10.0]))
    >>> axes.get_yscale(), f"{axes.get_ylim()[0]:.2f}"
    ('log', '0.08')
    """
    finite = values[np.isfinite(values) & (values > floor)]
    if not finite.size:
        return
    low, high = float(finite.min()), float(finite.max())
    margin = max(_MARGIN, (high / low) ** 0.04)
    low, high = low / margin, high * margin * (high / low) ** room
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    readable_ticks(axes.yaxis, low, high)


def readable_ticks(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis with plain numbers where it spans three decades or less.

    Where these would be long, or powers of ten among plain numbers, it keeps powers of ten.

    Parameters
    ----------
    axis : matplotlib.axis.Axis
    low, high : float
        Its limits.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> _ = axes.set(yscale="log", ylim=(0.2, 0.9))
    >>> readable_ticks(axes.yaxis, 0.2, 0.9)
    >>> [format_number(tick) for tick in axes.get_yticks()]
    ['0.2', '0.3', '0.4', '0.5', '0.6', '0.7', '0.8', '0.9']
    """
    decades = np.log10(high / low)
    if decades > 3 or (decades > 2 and (low < _LONG or high > 1 / _LONG)):
        return
    every = next(steps for most, steps in _STEPS if decades < most)
    if decades < 0.35:
        ticks = _round_ticks(low, high)
    else:
        ticks = np.array([d * s for d in 10.0 ** np.arange(-20, 21) for s in every])
        ticks = ticks[(ticks >= low * 0.999) & (ticks <= high * 1.001)]
    if len(ticks) < 2:
        ticks = _round_ticks(low, high)
    axis.set_major_locator(FixedLocator(ticks.tolist()))
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))
    axis.set_minor_locator(LogLocator(subs="auto") if decades > 1 else NullLocator())
    axis.set_minor_formatter(NullFormatter())


def plain_ticks(axes: Axes) -> None:
    """Write very large and very small numbers at the ticks of linear axes themselves.

    Matplotlib writes their power of ten, or what they have in common, above the axes, where the
    key is.

    Parameters
    ----------
    axes : matplotlib.axes.Axes

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> _ = axes.set_ylim(0, 4e6)
    >>> plain_ticks(axes)
    >>> [axes.yaxis.get_major_formatter()(tick) for tick in axes.get_yticks()]
    ['0', '1e+06', '2e+06', '3e+06', '4e+06']
    """
    for axis in (axes.xaxis, axes.yaxis):
        formatter = axis.get_major_formatter()
        if not isinstance(formatter, ScalarFormatter) or axis.get_scale() != "linear":
            continue
        formatter.set_useOffset(False)
        largest = max(map(abs, axis.get_view_interval()))
        if not _SMALL < largest < _LARGE:
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))


def mark_points(axes: Axes) -> None:
    """Mark curves that are too short to be seen, such as one of a single point, by a dot.

    Parameters
    ----------
    axes : matplotlib.axes.Axes

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> lines = axes.plot([0.0, 1.0], [0.0, 1.0]) + axes.plot([0.5, 0.7], [0.5, np.nan])
    >>> mark_points(axes)
    >>> [line.get_marker() for line in lines]
    ['None', 'o']
    """
    for line in axes.lines:
        if line.get_marker() != "None" or line.get_transform() != axes.transData:
            continue
        path = axes.transData.transform(np.asarray(line.get_xydata(), float))
        path = path[np.isfinite(path).all(axis=1)]
        if len(path) and float(np.ptp(path, axis=0).max()) < _SHORT:
            line.set(marker="o", markersize=4)


def _round_ticks(low: float, high: float) -> np.ndarray:
    ticks = np.asarray(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    return ticks[(ticks >= low) & (ticks <= high)]


def scale_time(ds: xr.Dataset, panels: Sequence[Axes]) -> None:
    """Use a symmetric logarithmic axis, which shows the start too, for log-spaced times.

    Parameters
    ----------
    ds : xarray.Dataset
    panels : sequence of matplotlib.axes.Axes
        Those whose horizontal axis is the time, and linear, are changed.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> _ = axes.set_xlabel(TIME_LABEL)
    >>> scale_time(xr.Dataset(coords={"time": [0.0, 0.01, 0.1, 1.0, 10.0]}), [axes])
    >>> axes.get_xscale()
    'symlog'
    """
    if "time" not in ds or not ds["time"].ndim:
        return
    every = ds["time"].values
    times = every[every > 0]
    logarithmic = log_spaced(every)
    for axes in panels:
        if axes.get_xlabel() == TIME_LABEL and axes.get_xscale() == "linear":
            if logarithmic:
                axes.set_xscale("symlog", linthresh=times[0])
                axes.xaxis.set_major_locator(FixedLocator(_decades(times[0], times[-1])))
                axes.set_xlim(0, 1.1 * times[-1])
            elif len(every) > 1:
                axes.set_xlim(min(0.0, every[0]), 1.01 * every[-1])


def _decades(first: float, last: float) -> list[float]:
    """Return 0 and powers of ten from the first time on: earlier ones would stand on the 0."""
    powers = np.arange(np.ceil(np.log10(first) + 0.3), np.floor(np.log10(last)) + 1)
    every = int(np.ceil(len(powers) / 8)) or 1
    return [0.0, *(10.0 ** powers[::-1][::every][::-1]).tolist()]


def log_x(axes: Axes, values: np.ndarray) -> None:
    """Make the horizontal axis logarithmic, from the least to the largest positive value.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    values : ndarray

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> log_x(axes, np.array([0.0, 0.5, 8.0]))
    >>> axes.get_xscale(), axes.get_xlim() == (0.5, 8.0)
    ('log', True)
    """
    finite = values[np.isfinite(values) & (values > 0)]
    if finite.size:
        axes.set_xscale("log")
        low, high = float(finite.min()), float(finite.max())
        axes.set_xlim((low, high) if high > low else (low / 2, 2 * low))
        readable_ticks(axes.xaxis, *axes.get_xlim())
