"""Figures of a flow beside descent, and of step-size studies."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.observable import draw_observable
from gflow.plots.style import (
    COLOURS,
    LOG_ZERO,
    TIME_LABEL,
    descent_curves,
    format_number,
)

_LIMIT = r"stability limit $2/\lambda_{\max}$"


@figure_spec("loss", variables=["loss", "descent_loss"])
def _loss(ds: xr.Dataset, axes: Axes) -> None:
    draw_observable(ds, axes, "loss")


@figure_spec("singular_values", variables=["singular_values"], priority=1)
def _singular_values(ds: xr.Dataset, axes: Axes) -> None:
    draw_observable(ds, axes, "singular_values")


@figure_spec("eigenvalues", variables=["eigenvalues"], priority=1)
def _eigenvalues(ds: xr.Dataset, axes: Axes) -> None:
    draw_observable(ds, axes, "eigenvalues")


@figure_spec("gap", variables=["gap", "gap_time"])
def _gap(ds: xr.Dataset, axes: Axes) -> None:
    error = float(ds["solver_error"])
    for label, t, values in descent_curves(ds, "gap", "gap_time"):
        later = t > 0
        axes.plot(t[later], values[later], label=label)
    if np.isfinite(error) and error > 0:
        axes.axhline(error, color="grey", ls=":", label="solver error")
    axes.set(xlabel=TIME_LABEL, ylabel=r"distance of descent to flow  $\|\cdot\|_F$", yscale="log")
    axes.legend(title="step size", ncols=1 + (ds.sizes["step_size"] > 3), loc="center")


@figure_spec("step_size", variables=["largest_gap", "order"])
def _step_size(ds: xr.Dataset, axes: Axes) -> None:
    steps, gaps = ds["step_size"].values, ds["largest_gap"].values
    fitted, stable = ds["fitted"].values.astype(bool), ds["stable"].values.astype(bool)
    finite = np.isfinite(gaps)
    groups: tuple[tuple[np.ndarray, dict[str, Any], str], ...] = (
        (fitted, {"marker": "o", "color": COLOURS[0]}, "distance to the flow"),
        (stable & ~fitted, {"marker": "o", "mfc": "none", "color": COLOURS[0]}, "not in the fit"),
        (~stable, {"marker": "X", "color": COLOURS[1]}, r"beyond $2/\lambda_{\max}$"),
    )
    for chosen, style, label in groups:
        if (chosen & finite).any():
            axes.plot(
                steps[chosen & finite], gaps[chosen & finite], ls="none", label=label, **style
            )
    _order_line(axes, ds, "", gaps, fitted)
    if "modified_gap" in ds:
        gaps, fitted = ds["modified_gap"].values, ds["modified_fitted"].values.astype(bool)
        for chosen, face in ((fitted, COLOURS[2]), (~fitted, "none")):
            axes.plot(steps[chosen], gaps[chosen], "s", color=COLOURS[2], mfc=face)
        axes.plot([], [], "s", color=COLOURS[2], label="distance to the modified flow")
        _order_line(axes, ds, "modified_", gaps, fitted)
    error, limit = float(ds["solver_error"]), float(ds["stability_limit"])
    if error > 0:
        axes.axhline(error, color="grey", ls=":", label="solver error")
    if np.isfinite(limit):
        axes.axvline(limit, color=COLOURS[1], ls="--", lw=1, label=_LIMIT)
    axes.set(xlabel="step size η", ylabel=ds["largest_gap"].attrs["long_name"])
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(steps, [format_number(step) for step in steps])
    axes.set_xticks([], minor=True)
    axes.legend()


def _order_line(
    axes: Axes, ds: xr.Dataset, prefix: str, gaps: np.ndarray, fitted: np.ndarray
) -> None:
    """Draw the fitted power of the step size over the range of finite gaps."""
    order = float(ds[f"{prefix}order"])
    if not np.isfinite(order):
        return
    steps = ds["step_size"].values
    level = np.log(gaps[fitted]).mean() - order * np.log(steps[fitted]).mean()
    drawn = steps[np.isfinite(gaps)]
    span = np.array([drawn.min(), drawn.max()])
    half = (float(ds[f"{prefix}order_high"]) - float(ds[f"{prefix}order_low"])) / 2
    label = f"order {order:.3f} ± {half:.3f}"
    style = "--" if prefix else "-"
    axes.plot(span, np.exp(level) * span**order, style, color="black", lw=1, label=label, zorder=1)


@figure_spec("invariants", variables=["drift_bound"])
def _invariants(ds: xr.Dataset, axes: Axes) -> None:
    time = ds["time"].values[1:]
    names = [str(n) for n in ds.data_vars if str(n).startswith("drift_") and n != "drift_bound"]
    for name in names:
        label = name.removeprefix("drift_").replace("_", " ")
        axes.plot(time, np.maximum(ds[name].values[1:], LOG_ZERO), label=label)
    if "balanced_product_defect" in ds:
        worst = ds["balanced_product_defect"].max("layer").values[1:]
        label = r"$(W_j\cdots W_1)^\top(W_j\cdots W_1) = [W^\top W]^{j/N}$"
        axes.plot(time, np.maximum(worst, LOG_ZERO), ls="--", color="black", label=label)
    bound = float(ds["drift_bound"])
    axes.axhline(bound, color=COLOURS[1], ls=":", label="bound of the certificate")
    axes.set(xlabel=TIME_LABEL, ylabel="relative drift of conserved quantities")
    axes.set(yscale="log", ylim=(LOG_ZERO / 2, bound * 1e6))
    axes.legend(loc="upper right")


@figure_spec("completion", variables=["held_out_error", "effective_rank"], panels=2)
def _completion(ds: xr.Dataset, left: Axes, right: Axes) -> None:
    left.plot(ds["time"], ds["held_out_error"], color="black")
    left.set(xlabel=TIME_LABEL, ylabel="relative error, unobserved entries", ylim=(0, None))
    right.plot(ds["time"], ds["effective_rank"], color=COLOURS[0])
    right.set(xlabel=TIME_LABEL, ylabel="effective rank of W", ylim=(0, None))
