"""Figures of networks of several widths beside their kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gflow.plots.style import COLOURS, TIME, band, drawing, number


@drawing("distance", "descent_distance", "flow_distance")
def _distance(ds: xr.Dataset, figure: Figure) -> None:
    axes = figure.axes[0]
    epochs = ds["epoch"].values
    for i, width in enumerate(ds["width"].values):
        colour = COLOURS[i % len(COLOURS)]
        label = f"m = {int(width)}"
        middle = band(axes, epochs, ds["descent_distance"].values[i], color=colour, label=label)
        flow = np.median(ds["flow_distance"].values[i], axis=0)
        axes.plot(epochs, flow, ls=":", color=colour)
        peak = int(middle.argmax())
        axes.plot(epochs[peak], middle[peak], "v", ms=7, color=colour)
        _note(axes, number(middle[peak]), (epochs[peak], middle[peak]), (0, 7), colour)
        if i == 0 and 0 < peak < len(middle) - 1:
            _phases(axes, epochs, middle, peak)
    axes.plot([], [], color="grey", label="descent, median and middle half of seeds")
    axes.plot([], [], ls=":", color="grey", label="flow, median")
    axes.set_xscale("symlog", linthresh=1)  # shows the start too, where the distance is 0
    axes.set(xlabel="epochs k  (t = kη)", ylabel="distance of network to kernel  ‖u − u'‖")
    top = axes.get_ylim()[1]
    axes.set(xlim=(0, epochs[-1]), ylim=(0, 1.15 * top))
    axes.legend(ncols=2, loc="upper right")


def _note(axes: Axes, text: str, at: tuple[float, float], by: tuple[int, int], colour: str) -> None:
    look: dict[str, Any] = {"ha": "center", "color": colour, "fontsize": 9}
    axes.annotate(text, at, xytext=by, textcoords="offset points", **look)


def _phases(axes: Axes, epochs: np.ndarray, middle: np.ndarray, peak: int) -> None:
    """Name rise, peak and decline along the first curve."""
    half = 0.5 * middle[peak]
    early = np.interp(half, middle[: peak + 1], epochs[: peak + 1])
    late = int(np.flatnonzero(middle[peak:] <= 0.5 * (middle[peak] + middle[-1]))[0]) + peak
    _note(axes, "rise", (early, half), (-16, 4), "grey")
    _note(axes, "peak", (epochs[peak], middle[peak]), (0, 18), "grey")
    _note(axes, "decline", (epochs[late], middle[late]), (24, 8), "grey")


@drawing("peak", "descent_distance", "fit_slope")
def _peak(ds: xr.Dataset, figure: Figure) -> None:
    axes = figure.axes[0]
    parts = {
        "descent_peak": ("descent_distance", "o", "network to kernel, descent"),
        "flow_peak": ("flow_distance", "s", "network to kernel, flow"),
        "linear_peak": ("linear_distance", "D", "network to its linearisation, flow"),
    }
    for i, (fit, (name, marker, label)) in enumerate(parts.items()):
        peaks = ds[name].values.max(axis=2)
        shift = 1.06 ** (i - 1)  # beside each other
        _against_width(ds, axes, fit, peaks, (COLOURS[i], marker, label), shift=shift)
    if "solver_error" in ds:
        error = ds["solver_error"].values.max(axis=1)
        axes.plot(ds["width"], error, "x:", color="grey", label="solver's own error, flow")
    _log_widths(ds, axes)
    axes.set(ylabel="largest distance over the epochs")
    axes.set_ylim(bottom=axes.get_ylim()[0] / 30)  # room for the legend
    axes.legend(loc="lower left")


@drawing("kernel_drift", "kernel_drift", "kernel_error", "kernel_norm", columns=2)
def _kernel_drift(ds: xr.Dataset, figure: Figure) -> None:
    left, right = figure.axes
    norm = float(ds["kernel_norm"])
    time = ds["time"].values
    drift = ds["kernel_drift"].values
    for i, width in enumerate(ds["width"].values):
        colour = COLOURS[i % len(COLOURS)]
        band(left, time, drift[i] / norm, color=colour, label=f"m = {int(width)}")
    left.set(xlabel=TIME, ylabel="kernel's drift  ‖H(t) − H(0)‖ / ‖H*‖", ylim=(0, None))
    left.legend()
    parts = {
        "kernel_error": (ds["kernel_error"].values, "o", "‖H(0) − H*‖"),
        "kernel_drift": (drift.max(axis=2), "s", "largest ‖H(t) − H(0)‖"),
    }
    for i, (fit, (values, marker, label)) in enumerate(parts.items()):
        _against_width(ds, right, fit, values, (COLOURS[i], marker, label), unit=norm)
    _log_widths(ds, right)
    right.set(ylabel="relative to ‖H*‖")
    right.legend()


@drawing("training", "network_loss", "kernel_loss")
def _training(ds: xr.Dataset, figure: Figure) -> None:
    axes = figure.axes[0]
    time = ds["time"].values
    later = time > 0
    for i, width in enumerate(ds["width"].values):
        colour = COLOURS[i % len(COLOURS)]
        network, kernel = (
            np.median(ds[name].values[i][:, later], axis=0)
            for name in ("network_loss", "kernel_loss")
        )
        axes.loglog(time[later], network, color=colour, label=f"m = {int(width)}")
        axes.loglog(time[later], kernel, ls="--", color=colour)
    axes.plot([], [], color="grey", label="network's flow")
    axes.plot([], [], ls="--", color="grey", label="kernel flow")
    axes.set(xlabel=TIME, ylabel="loss ½‖u − y‖², median of seeds")
    axes.legend()


@drawing("test", "test_distance", "test_error", columns=2)
def _test(ds: xr.Dataset, figure: Figure) -> None:
    left, right = figure.axes
    epochs = ds["epoch"].values
    for i, width in enumerate(ds["width"].values):
        colour = COLOURS[i % len(COLOURS)]
        look = {"color": colour, "label": f"m = {int(width)}"}
        band(left, epochs, ds["test_distance"].values[i], **look)
        band(right, epochs, 100 * ds["test_error"].values[i], **look)
    kernel = np.nanmedian(100 * ds["kernel_test_error"].values, axis=(0, 1))
    right.plot(epochs, kernel, "--", color="black", label="kernel")
    left.set(ylabel="network to kernel at test points, root mean square")
    right.set(ylabel="misclassified test points, %")
    for axes in (left, right):
        axes.set_xscale("symlog", linthresh=1)
        axes.set(xlabel="epochs k  (t = kη)", xlim=(0, epochs[-1]), ylim=(0, None))
        axes.legend()


def _against_width(
    ds: xr.Dataset,
    axes: Axes,
    fit: str,
    values: np.ndarray,
    look: tuple[str, str, str],
    *,
    unit: float = 1.0,
    shift: float = 1.0,
) -> None:
    """Medians and middle halves of values (width, seed) in a unit, with the fitted power."""
    colour, marker, label = look
    there = np.isfinite(values).any(axis=1)
    widths, values = ds["width"].values[there], values[there] / unit
    if not len(widths):
        return
    low, middle, high = np.nanpercentile(values, (25, 50, 75), axis=1)
    law = ds.sel(fit=fit)
    slope = float(law["fit_slope"])
    if np.isfinite(slope):
        label += f": slope {slope:.2f}"
        if np.isfinite(law["fit_low"]):
            label += f" ({float(law['fit_low']):.2f} to {float(law['fit_high']):.2f})"
        line = float(law["fit_constant"]) / unit * widths**slope
        axes.plot(widths, line, color=colour, lw=1)
    spread = np.stack([middle - low, high - middle])
    axes.errorbar(
        widths * shift, middle, spread, ls="none", marker=marker, ms=6, color=colour, label=label
    )


def _log_widths(ds: xr.Dataset, axes: Axes) -> None:
    widths = ds["width"].values
    axes.set(xscale="log", yscale="log", xlabel="hidden width m")
    axes.set_xticks(widths, [str(int(width)) for width in widths])
    axes.minorticks_off()
