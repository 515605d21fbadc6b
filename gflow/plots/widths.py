"""Figures of networks of several widths beside the flow of their kernel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.style import COLOURS, TIME_LABEL, colour_of, draw_median_band, format_number


@figure_spec("distance", variables=["descent_distance", "flow_distance"])
def _distance(ds: xr.Dataset, axes: Axes) -> None:
    epochs = ds["epoch"].values
    for i, width in enumerate(ds["width"].values):
        colour = colour_of(i)
        label = f"m = {int(width)}"
        medians = draw_median_band(
            axes, epochs, ds["descent_distance"].values[i], color=colour, label=label
        )
        flow = np.median(ds["flow_distance"].values[i], axis=0)
        axes.plot(epochs, flow, ls=":", color=colour)
        peak = int(medians.argmax())
        axes.plot(epochs[peak], medians[peak], "v", ms=7, color=colour)
        _note(axes, format_number(medians[peak]), (epochs[peak], medians[peak]), (0, 7), colour)
        if i == 0 and 0 < peak < len(medians) - 1:
            _phases(axes, epochs, medians, peak)
    axes.plot([], [], color="grey", label="descent, median and middle half of seeds")
    axes.plot([], [], ls=":", color="grey", label="flow, median")
    axes.set_xscale("symlog", linthresh=1)  # shows the start too, where the distance is 0
    axes.set(xlabel="epochs k  (t = kη)", ylabel="distance of network to kernel  ‖u − u'‖")
    top = axes.get_ylim()[1]
    axes.set(xlim=(0, epochs[-1]), ylim=(0, 1.15 * top))
    axes.legend(ncols=2, loc="upper right")


def _note(axes: Axes, text: str, at: tuple[float, float], by: tuple[int, int], colour: str) -> None:
    style: dict[str, Any] = {"ha": "center", "color": colour, "fontsize": 9}
    axes.annotate(text, at, xytext=by, textcoords="offset points", **style)


def _phases(axes: Axes, epochs: np.ndarray, medians: np.ndarray, peak: int) -> None:
    """Label the rise, the peak and the decline of the first curve."""
    half = 0.5 * medians[peak]
    early = np.interp(half, medians[: peak + 1], epochs[: peak + 1])
    late = int(np.flatnonzero(medians[peak:] <= 0.5 * (medians[peak] + medians[-1]))[0]) + peak
    _note(axes, "rise", (early, half), (-16, 4), "grey")
    _note(axes, "peak", (epochs[peak], medians[peak]), (0, 18), "grey")
    _note(axes, "decline", (epochs[late], medians[late]), (24, 8), "grey")


@figure_spec("peak", variables=["descent_distance", "fit_slope"])
def _peak(ds: xr.Dataset, axes: Axes) -> None:
    parts = {
        "descent_peak": ("descent_distance", "o", "network to kernel, descent"),
        "flow_peak": ("flow_distance", "s", "network to kernel, flow"),
        "linear_peak": ("linear_distance", "D", "network to its linearisation, flow"),
    }
    for i, (fit, (name, marker, label)) in enumerate(parts.items()):
        peaks = ds[name].values.max(axis=2)
        shift = 1.06 ** (i - 1)  # side by side
        _draw_fit(ds, axes, fit, peaks, _Points(COLOURS[i], marker, label, shift))
    if "solver_error" in ds:
        error = ds["solver_error"].values.max(axis=1)
        axes.plot(ds["width"], error, "x:", color="grey", label="solver error, flow")
    _log_widths(ds, axes)
    axes.set(ylabel="largest distance over the epochs")
    axes.set_ylim(bottom=axes.get_ylim()[0] / 30)  # room for the legend
    axes.legend(loc="lower left")


@figure_spec("kernel_drift", variables=["kernel_drift", "kernel_error", "kernel_norm"], panels=2)
def _kernel_drift(ds: xr.Dataset, left: Axes, right: Axes) -> None:
    norm = float(ds["kernel_norm"])
    time = ds["time"].values
    drift = ds["kernel_drift"].values
    for i, width in enumerate(ds["width"].values):
        colour = colour_of(i)
        draw_median_band(left, time, drift[i] / norm, color=colour, label=f"m = {int(width)}")
    left.set(xlabel=TIME_LABEL, ylabel="drift of the kernel  ‖H(t) − H(0)‖ / ‖H*‖", ylim=(0, None))
    left.legend()
    parts = {
        "kernel_error": (ds["kernel_error"].values, "o", "‖H(0) − H*‖"),
        "kernel_drift": (drift.max(axis=2), "s", "largest ‖H(t) − H(0)‖"),
    }
    for i, (fit, (values, marker, label)) in enumerate(parts.items()):
        _draw_fit(ds, right, fit, values, _Points(COLOURS[i], marker, label), unit=norm)
    _log_widths(ds, right)
    right.set(ylabel="relative to ‖H*‖")
    right.legend()


@figure_spec("training", variables=["network_loss", "kernel_loss"])
def _training(ds: xr.Dataset, axes: Axes) -> None:
    time = ds["time"].values
    later = time > 0
    for i, width in enumerate(ds["width"].values):
        colour = colour_of(i)
        network, kernel = (
            np.median(ds[name].values[i][:, later], axis=0)
            for name in ("network_loss", "kernel_loss")
        )
        axes.loglog(time[later], network, color=colour, label=f"m = {int(width)}")
        axes.loglog(time[later], kernel, ls="--", color=colour)
    axes.plot([], [], color="grey", label="network's flow")
    axes.plot([], [], ls="--", color="grey", label="kernel flow")
    axes.set(xlabel=TIME_LABEL, ylabel="loss ½‖u − y‖², median of seeds")
    axes.legend()


@figure_spec("test", variables=["test_distance", "test_error"], panels=2)
def _test(ds: xr.Dataset, left: Axes, right: Axes) -> None:
    epochs = ds["epoch"].values
    for i, width in enumerate(ds["width"].values):
        colour = colour_of(i)
        style = {"color": colour, "label": f"m = {int(width)}"}
        draw_median_band(left, epochs, ds["test_distance"].values[i], **style)
        draw_median_band(right, epochs, 100 * ds["test_error"].values[i], **style)
    kernel = 100 * ds["kernel_test_error"].values
    finite = np.isfinite(kernel).any(axis=(0, 1))
    medians = np.nanmedian(kernel[..., finite], axis=(0, 1))
    right.plot(epochs[finite], medians, "--", color="black", label="kernel")
    left.set(ylabel="network to kernel at test points, root mean square")
    right.set(ylabel="misclassified test points, %")
    for axes in (left, right):
        axes.set_xscale("symlog", linthresh=1)
        axes.set(xlabel="epochs k  (t = kη)", xlim=(0, epochs[-1]), ylim=(0, None))
        axes.legend()


class _Points(NamedTuple):
    colour: str
    marker: str
    label: str
    shift: float = 1.0  # factor of the widths


def _draw_fit(
    ds: xr.Dataset, axes: Axes, fit: str, values: np.ndarray, points: _Points, unit: float = 1.0
) -> None:
    """Draw medians and middle halves of values (width, seed), divided by a unit, and their fit."""
    label = points.label
    finite = np.isfinite(values).any(axis=1)
    widths, values = ds["width"].values[finite], values[finite] / unit
    if not len(widths):
        return
    low, medians, high = np.nanpercentile(values, (25, 50, 75), axis=1)
    law = ds.sel(fit=fit)
    slope = float(law["fit_slope"])
    if np.isfinite(slope):
        label += f": slope {slope:.2f}"
        if np.isfinite(law["fit_low"]):
            label += f" ({float(law['fit_low']):.2f} to {float(law['fit_high']):.2f})"
        line = float(law["fit_constant"]) / unit * widths**slope
        axes.plot(widths, line, color=points.colour, lw=1)
    spread = np.stack([medians - low, high - medians])
    style: dict[str, Any] = {"marker": points.marker, "color": points.colour, "label": label}
    axes.errorbar(widths * points.shift, medians, spread, ls="none", ms=6, **style)


def _log_widths(ds: xr.Dataset, axes: Axes) -> None:
    widths = ds["width"].values
    axes.set(xscale="log", yscale="log", xlabel="hidden width m")
    axes.set_xticks(widths, [str(int(width)) for width in widths])
    axes.minorticks_off()
