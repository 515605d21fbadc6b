"""Figures of what networks are measured by: held-out data, the tangent kernel, the Hessian."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, joined, label_curves
from gflow.plots.observable import draw_observable
from gflow.plots.scales import scale_time, set_log_y
from gflow.plots.style import TIME_LABEL, colour_of, descent_curves, format_number, thinned

_KERNEL = {
    "kernel_distance": "‖H − H(0)‖/‖H(0)‖",
    "kernel_start_alignment": "alignment with H(0)",
    "kernel_alignment": "alignment with the targets",
}


_LEAST_SHARE = 1e-3  # of the largest share of the spectrum, which has a colour of its own
_LOSSES = ("criterion_loss", "loss", "flow_loss")  # of the training samples, the first there is


@figure_spec("held_out", variables=["test_loss"], panels=2)
def _held_out(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    _train_and_test(ds, left, next(name for name in _LOSSES if name in ds), "test_loss")
    left.set_ylabel("loss  (circles: descent, held out)")
    ends = [f"held-out loss {format_number(float(ds['test_loss'].values[-1]))}"]
    if "test_accuracy" in ds:
        _train_and_test(ds, right, "accuracy", "test_accuracy")
        right.set_ylabel("share correct  (circles: descent, held out)")
        ends.append(f"held-out accuracy {format_number(float(ds['test_accuracy'].values[-1]))}")
    else:
        right.set_axis_off()
    return f"The flow ends with {' and '.join(ends)}"


def _train_and_test(ds: xr.Dataset, axes: Axes, train: str, test: str) -> None:
    """Draw a quantity of the samples and of held-out data; of descents, of held-out data alone."""
    time, curves = ds["time"].values, []
    for name, label, colour in ((train, "training samples", "0.5"), (test, "held out", "black")):
        axes.plot(time, ds[name].values, color=colour)
        curves.append(Curve(time, ds[name].values, label, colour))
    if f"descent_{test}" in ds:
        for i, (label, t, values) in enumerate(descent_curves(ds, f"descent_{test}")):
            some = thinned(t)
            axes.plot(t[some], values[some], "o", ms=4, mfc="none", color=colour_of(i))
            curves.append(Curve(t, values, label, colour_of(i)))
    axes.set_xlabel(TIME_LABEL)
    scale_time(ds, [axes])
    if test.endswith("loss"):
        set_log_y(axes, np.concatenate([curve.y for curve in curves]))
    label_curves(axes, curves)


@figure_spec("held_out_networks", variables=["flow_test_loss", "descent_test_loss"], panels=2)
def _held_out_networks(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    _by_network(ds, left, "test_loss")
    left.set_ylabel("held-out loss  (circles: descent)")
    if "flow_test_accuracy" in ds:
        _by_network(ds, right, "test_accuracy")
        right.set_ylabel("held-out accuracy  (circles: descent)")
    else:
        right.set_axis_off()
    ends = [
        f"{format_number(float(values[-1]))} ({name})"
        for name, values in zip(ds["network"].values, ds["flow_test_loss"].values, strict=True)
    ]
    return f"The flow ends with a held-out loss of {joined(ends)}"


def _by_network(ds: xr.Dataset, axes: Axes, name: str) -> None:
    """Draw a quantity of the flow and of descent for each network."""
    time, curves = ds["time"].values, []
    for i, network in enumerate(ds["network"].values):
        flow, descent = (ds[f"{path}_{name}"].values[i] for path in ("flow", "descent"))
        some = thinned(time)
        axes.plot(time, flow, color=colour_of(i))
        axes.plot(time[some], descent[some], "o", ms=4, mfc="none", color=colour_of(i))
        curves.append(Curve(time, flow, f"{network} network", colour_of(i)))
    axes.set_xlabel(TIME_LABEL)
    scale_time(ds, [axes])
    if name.endswith("loss"):
        set_log_y(axes, np.concatenate([curve.y for curve in curves]))
    label_curves(axes, curves)


@figure_spec("tangent_kernel", variables=["kernel_distance"])
def _tangent_kernel(ds: xr.Dataset, axes: Axes) -> str:
    time, curves = ds["time"].values, []
    for i, (name, label) in enumerate(_KERNEL.items()):
        if name in ds:
            axes.plot(time, ds[name].values, color=colour_of(i))
            curves.append(Curve(time, ds[name].values, label, colour_of(i)))
    axes.set(xlabel=TIME_LABEL, ylabel="tangent kernel H on the samples")
    scale_time(ds, [axes])
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    label_curves(axes, curves)
    return (
        f"The tangent kernel moves by {format_number(float(ds['kernel_distance'].values[-1]))} of "
        "its norm"
    )


@figure_spec("hessian_eigenvalues", variables=["hessian_eigenvalues"])
def _hessian_eigenvalues(ds: xr.Dataset, axes: Axes) -> str:
    draw_observable(ds, axes, "hessian_eigenvalues")
    first, last = (ds["hessian_eigenvalues"].values[i, 0] for i in (0, -1))
    return (
        "The largest eigenvalue of the Hessian goes from "
        f"{format_number(float(first))} to {format_number(float(last))}"
    )


@figure_spec("hessian_spectrum", variables=["spectral_density"])
def _hessian_spectrum(ds: xr.Dataset, axes: Axes) -> str:
    nodes, weights = np.moveaxis(ds["spectral_density"].values, 1, 0)
    shares = weights / weights.shape[1]
    time = np.broadcast_to(ds["time"].values[:, None, None], nodes.shape)
    used = shares > 0
    order = np.argsort(shares[used])  # the largest on top
    colours = LogNorm(_LEAST_SHARE * float(shares.max()), float(shares.max()))
    points = axes.scatter(
        time[used][order], nodes[used][order], c=shares[used][order], s=6, norm=colours,
        cmap="viridis_r", zorder=3,
    )  # fmt: skip
    axes.figure.colorbar(points, ax=axes, label="share of all eigenvalues", extend="min")
    small = 1e-2 * float(np.abs(nodes[used]).max())
    axes.set_yscale("symlog", linthresh=small)
    axes.set(xlabel=TIME_LABEL, ylabel="eigenvalues of the Hessian (Ritz values)")
    scale_time(ds, [axes])
    means = np.sum(np.where(used, shares * nodes, 0.0), axis=(1, 2))
    first, last = (
        100 * float(np.sum(np.where(nodes[i] < -small, shares[i], 0.0))) for i in (0, -1)
    )
    return (
        f"The mean eigenvalue of the Hessian goes from {format_number(float(means[0]))} to "
        f"{format_number(float(means[-1]))}; {first:.1f} % lie below {format_number(-small)} at "
        f"first, {last:.1f} % at the end"
    )
