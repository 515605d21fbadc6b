"""Figures of networks of several widths beside the flow of their kernel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, label_curves, note, style_key
from gflow.plots.scales import scale_time, set_log_y
from gflow.plots.solver_error import draw_error
from gflow.plots.style import COLOURS, TIME_LABEL, colour_of, draw_median_band, format_number

_EPOCHS = "epochs k  (t = kη)"


@figure_spec("distance", variables=["epoch", "descent_distance", "flow_distance"], priority=3)
def _distance(ds: xr.Dataset, axes: Axes) -> str:
    epochs, widths = ds["epoch"].values, ds["width"].values
    curves, heights = [], []
    for i, width in enumerate(widths):
        colour, values = colour_of(i), ds["descent_distance"].values[i]
        medians = draw_median_band(axes, epochs, values, color=colour, label=f"m = {int(width)}")
        flow = np.median(ds["flow_distance"].values[i], axis=0)
        axes.plot(epochs, flow, ls=":", color=colour)
        curves.append(Curve(epochs[: len(medians)], medians, f"m = {int(width)}", colour))
        heights.append(_mark_peaks(axes, epochs, values, medians, colour))
        if i == 0 and 0 < medians.argmax() < len(medians) - 1:
            _phases(axes, epochs, medians)
    axes.set_xscale("symlog", linthresh=1)  # shows the start too, where the distance is 0
    axes.set(xlabel=_EPOCHS, ylabel="distance of network to kernel  ‖u − u'‖")
    axes.set(xlim=(0, epochs[-1]), ylim=(0, 1.12 * axes.get_ylim()[1]))
    label_curves(axes, curves)
    peaks = {"marker": "v", "ls": "none", "ms": 6}
    style_key(axes, [("descent", {}), ("flow", {"ls": ":"}), ("peak, median of seeds", peaks)])
    ends = [f"{format_number(heights[i])} at width {int(widths[i])}" for i in (0, -1)]
    return "Largest distance of network to kernel: " + ", ".join(dict.fromkeys(ends))


def _mark_peaks(
    axes: Axes, epochs: np.ndarray, values: np.ndarray, medians: np.ndarray, colour: str
) -> float:
    """Mark the median of the seeds' peaks, which the table has, above that of the median curve.

    Return its height. The median of the epochs may be between peaks, where no seed has one.
    """
    steady = values[np.isfinite(values).all(axis=1)]
    if not len(steady):
        return float("nan")
    height = float(np.median(steady.max(axis=1)))
    at = float(epochs[medians.argmax()])
    axes.plot(at, height, "v", ms=6, color=colour, zorder=4)
    _note(axes, format_number(height), (at, height), (0, 6), colour)
    return height


def _note(axes: Axes, text: str, at: tuple[float, float], by: tuple[int, int], colour: str) -> None:
    style: dict[str, Any] = {"ha": "center", "color": colour, "fontsize": "small"}
    style["bbox"] = {"facecolor": "white", "alpha": 0.6, "lw": 0, "pad": 0.5}
    axes.annotate(text, at, xytext=by, textcoords="offset points", **style)


def _phases(axes: Axes, epochs: np.ndarray, medians: np.ndarray) -> None:
    """Label the rise and the decline of the first curve."""
    peak = int(medians.argmax())
    half = 0.5 * medians[peak]
    early = np.interp(half, medians[: peak + 1], epochs[: peak + 1])
    late = int(np.flatnonzero(medians[peak:] <= 0.5 * (medians[peak] + medians[-1]))[0]) + peak
    _note(axes, "rise", (float(early), half), (-14, 4), "grey")
    _note(axes, "decline", (epochs[late], medians[late]), (24, 6), "grey")


@figure_spec("peak", variables=["descent_distance", "fit_slope"])
def _peak(ds: xr.Dataset, axes: Axes) -> str:
    parts = {
        "descent_peak": ("descent_distance", "o", "network to kernel, descent"),
        "flow_peak": ("flow_distance", "s", "network to kernel, flow"),
        "linear_peak": ("linear_distance", "D", "network to its linearisation, flow"),
    }
    drawn = []
    for i, (fit, (name, marker, label)) in enumerate(parts.items()):
        peaks = ds[name].values.max(axis=2)
        shift = 1.06 ** (i - 1)  # side by side
        drawn.append(_draw_fit(ds, axes, fit, peaks, _Points(COLOURS[i], marker, label, shift)))
    _log_widths(ds, axes)
    axes.set(ylabel="largest distance over the epochs")
    every = np.concatenate(drawn)
    has_error = "solver_error" in ds
    error = float(ds["solver_error"].max()) if has_error else float("nan")
    draw_error(axes, every, error)
    _legend_above(axes)
    return _slope(ds, "descent_peak", "The largest distance to the kernel")


@figure_spec("kernel_drift", variables=["kernel_drift", "kernel_error", "kernel_norm"], panels=2)
def _kernel_drift(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    norm, time = float(ds["kernel_norm"]), ds["time"].values
    drift, curves = ds["kernel_drift"].values, []
    for i, width in enumerate(ds["width"].values):
        colour, label = colour_of(i), f"m = {int(width)}"
        medians = draw_median_band(left, time, drift[i] / norm, color=colour, label=label)
        curves.append(Curve(time[: len(medians)], medians, label, colour))
    left.set(xlabel=TIME_LABEL, ylabel="drift of the kernel  ‖H(t) − H(0)‖ / ‖H*‖", ylim=(0, None))
    scale_time(ds, [left])
    label_curves(left, curves)
    parts = {
        "kernel_error": (ds["kernel_error"].values, "o", "‖H(0) − H*‖"),
        "kernel_drift": (drift.max(axis=2), "s", "largest ‖H(t) − H(0)‖"),
    }
    drawn = []
    for i, (fit, (values, marker, label)) in enumerate(parts.items()):
        points = _Points(COLOURS[i], marker, label)
        drawn.append(_draw_fit(ds, right, fit, values, points, unit=norm))
    _log_widths(ds, right)
    right.set(ylabel="relative to ‖H*‖")
    set_log_y(right, np.concatenate(drawn))
    _legend_above(right)
    return _slope(ds, "kernel_drift", "The drift of the kernel")


@figure_spec("training", variables=["network_loss", "kernel_loss"])
def _training(ds: xr.Dataset, axes: Axes) -> str:
    time = ds["time"].values
    later = time > 0
    curves, ratios = [], []
    for i, width in enumerate(ds["width"].values):
        colour = colour_of(i)
        network, kernel = (
            np.median(ds[name].values[i][:, later], axis=0)
            for name in ("network_loss", "kernel_loss")
        )
        axes.plot(time[later], network, color=colour, label=f"m = {int(width)}")
        axes.plot(time[later], kernel, ls="--", color=colour)
        curves.append(Curve(time[later], network, f"m = {int(width)}", colour))
        ratios.append(float(network[-1]) / max(float(kernel[-1]), np.finfo(float).tiny))
    axes.set(xlabel=TIME_LABEL, ylabel="loss ½‖u − y‖², median of seeds", xscale="log")
    axes.set_xlim(time[later][0], time[-1])
    every = [ds[name].values[..., later].ravel() for name in ("network_loss", "kernel_loss")]
    set_log_y(axes, np.concatenate(every))
    label_curves(axes, curves)
    style_key(axes, [("network's flow", {}), ("kernel flow", {"ls": "--"})])
    first, last = (format_number(ratios[i]) for i in (0, -1))
    widths = [int(ds["width"].values[i]) for i in (0, -1)]
    return f"Loss at the end over the kernel's: {first} at width {widths[0]}" + (
        f", {last} at width {widths[1]}" if widths[0] != widths[1] else ""
    )


@figure_spec("test", variables=["test_distance", "test_error"], panels=2)
def _test(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    epochs = ds["epoch"].values
    away: list[Curve] = []
    wrong: list[Curve] = []
    for i, width in enumerate(ds["width"].values):
        colour, label = colour_of(i), f"m = {int(width)}"
        for axes, curves, values in (
            (left, away, ds["test_distance"].values[i]),
            (right, wrong, 100 * ds["test_error"].values[i]),
        ):
            medians = draw_median_band(axes, epochs, values, color=colour, label=label)
            curves.append(Curve(epochs[: len(medians)], medians, label, colour))
    kernel = 100 * ds["kernel_test_error"].values
    finite = np.isfinite(kernel).any(axis=(0, 1))
    medians = np.nanmedian(kernel[..., finite], axis=(0, 1))
    right.plot(epochs[finite], medians, "--", color="black", label="kernel")
    wrong.append(Curve(epochs[finite], medians, "kernel", "black"))
    left.set(ylabel="network to kernel at test points (rms)")
    right.set(ylabel="misclassified test points, %")
    for axes, curves in ((left, away), (right, wrong)):
        axes.set_xscale("symlog", linthresh=1)
        axes.set(xlabel=_EPOCHS, xlim=(0, epochs[-1]), ylim=(0, None))
        label_curves(axes, curves)
    note(left, "median and middle half of the seeds", at="lower right")
    last = [
        f"{format_number(float(wrong[i].y[-1]))} % at width {int(ds['width'].values[i])}"
        for i in sorted({0, len(wrong) - 2})
    ]
    kernel_last = format_number(float(wrong[-1].y[-1]))
    return f"Misclassified at the end: {', '.join(last)}, {kernel_last} % by the kernel"


class _Points(NamedTuple):
    colour: str
    marker: str
    label: str
    shift: float = 1.0  # factor of the widths


def _draw_fit(
    ds: xr.Dataset, axes: Axes, fit: str, values: np.ndarray, points: _Points, unit: float = 1.0
) -> np.ndarray:
    """Draw medians and middle halves of values (width, seed), divided by a unit, and their fit.

    Return all that is drawn.
    """
    label, drawn = points.label, []
    finite = np.isfinite(values).any(axis=1)
    widths, values = ds["width"].values[finite], values[finite] / unit
    if not len(widths):
        return np.empty(0)
    low, medians, high = np.nanpercentile(values, (25, 50, 75), axis=1)
    law = ds.sel(fit=fit)
    slope = float(law["fit_slope"])
    if np.isfinite(slope):
        label += f": slope {slope:.2f}"
        if np.isfinite(law["fit_low"]):
            label += f" ({float(law['fit_low']):.2f} to {float(law['fit_high']):.2f})"
        line = float(law["fit_constant"]) / unit * widths**slope
        axes.plot(widths, line, color=points.colour, lw=1)
        drawn.append(line)
    spread = np.stack([medians - low, high - medians])
    style: dict[str, Any] = {"marker": points.marker, "color": points.colour, "label": label}
    axes.errorbar(widths * points.shift, medians, spread, ls="none", ms=6, **style)
    return np.concatenate([low, high, *drawn])


def _slope(ds: xr.Dataset, fit: str, text: str) -> str:
    """Say the fitted power of the width."""
    slope = float(ds["fit_slope"].sel(fit=fit))
    if not np.isfinite(slope):
        return f"{text}: no power was fitted"
    return f"{text} {'falls' if slope < 0 else 'grows'} as width^({slope:.2f})"


def _log_widths(ds: xr.Dataset, axes: Axes) -> None:
    widths = ds["width"].values
    axes.set(xscale="log", yscale="log", xlabel="hidden width m")
    axes.set_xticks(widths, [str(int(width)) for width in widths])
    axes.set_xlim(widths.min() / 1.2, widths.max() * 1.2)
    axes.set_xticks([], minor=True)


def _legend_above(axes: Axes) -> None:
    """Write the legend above the axes: the points are too close to have labels of their own."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0.1, fontsize="small")
