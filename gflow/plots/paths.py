"""Figures of a flow beside descent, and of step-size studies."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, label_curves, label_level, note
from gflow.plots.observable import draw_observable
from gflow.plots.scales import scale_time, set_log_y
from gflow.plots.solver_error import NEAR, draw_error
from gflow.plots.style import (
    COLOURS,
    LOG_ZERO,
    TIME_LABEL,
    colour_of,
    descent_curves,
    format_number,
)

BOUND = COLOURS[1]  # of certificates, in every figure
_DRIFTS = (0, 3, 2, 4, 5)  # colours of conserved quantities: all others
_SHOWN_GAP = 1e-4  # of the largest: gaps below are not worth the decades
_NAMED = 3  # step sizes that are all in a title
_LEARNED = 0.05  # of the largest: modes that count as learned


@figure_spec("loss", variables=["loss", "descent_loss"])
def _loss(ds: xr.Dataset, axes: Axes) -> str:
    draw_observable(ds, axes, "loss")
    first, last = (float(ds["loss"].values[i].mean()) for i in (0, -1))
    end = format_number(float(ds["time"][-1]))
    return f"The loss falls from {format_number(first)} to {format_number(last)} by t = {end}"


@figure_spec("singular_values", variables=["singular_values"], priority=1)
def _singular_values(ds: xr.Dataset, axes: Axes) -> str:
    draw_observable(ds, axes, "singular_values")
    return _learned(ds, "singular_values", "singular value")


@figure_spec("eigenvalues", variables=["eigenvalues"], priority=1)
def _eigenvalues(ds: xr.Dataset, axes: Axes) -> str:
    draw_observable(ds, axes, "eigenvalues")
    return _learned(ds, "eigenvalues", "eigenvalue")


def _learned(ds: xr.Dataset, name: str, word: str) -> str:
    """Say when modes reach half of their last value."""
    values = ds[name]
    values = values.isel({d: 0 for d in values.dims if str(d).startswith("member")})
    modes, time = values.transpose("time", ...).values, ds["time"].values
    last = modes[-1]
    grown = [
        i
        for i in range(modes.shape[1])
        if last[i] > _LEARNED * last.max() and modes[0, i] < 0.4 * last[i]
    ]
    if not grown:
        return f"Largest {word}: {format_number(modes[0, 0])} to {format_number(last[0])}"
    halves = [float(time[np.argmax(modes[:, i] >= last[i] / 2)]) for i in grown]
    first, final = (format_number(t) for t in (min(halves), max(halves)))
    if len(grown) == 1:
        return f"One {word} grows, to {format_number(last[grown[0]])}: half of it by t = {first}"
    return f"{len(grown)} {word}s grow: half of the last value at t = {first} … {final}"


@figure_spec("gap", variables=["gap", "gap_time"])
def _gap(ds: xr.Dataset, axes: Axes) -> str:
    curves = []
    for i, (label, t, values) in enumerate(descent_curves(ds, "gap", "gap_time")):
        middle = values.reshape(len(t), -1).max(axis=1)
        later = (t > 0) & (middle > 0)
        axes.plot(t[later], middle[later], color=colour_of(i))
        curves.append(Curve(t[later], middle[later], label, colour_of(i)))
    axes.set(xlabel=TIME_LABEL, ylabel=r"distance of descent to flow  $\|\cdot\|_F$")
    _time_axis(ds, axes, curves)
    every = np.concatenate([curve.y for curve in curves])
    every = every[every > _SHOWN_GAP * every.max(initial=0.0)]
    if not every.size:
        axes.axhline(0, color="black")
        return "Descent and the flow are at the same place at all times saved"
    draw_error(axes, every, float(ds["solver_error"]))
    label_curves(axes, curves)
    largest = ds["gap"].max([d for d in ds["gap"].dims if d != "step_size"], skipna=True).values
    sizes = ds["step_size"].values
    said = [
        f"{format_number(g)} (η = {format_number(s)})" for g, s in zip(largest, sizes, strict=True)
    ]
    if len(said) > _NAMED:
        text = f"{said[int(np.nanargmin(largest))]} to {said[int(np.nanargmax(largest))]}"
    else:
        text = ", ".join(said)
    return f"Descent is up to {text} away from the flow"


def _time_axis(ds: xr.Dataset, axes: Axes, curves: list[Curve]) -> None:
    scale_time(ds, [axes])
    if axes.get_xscale() == "linear":
        ends = [float(curve.x[-1]) for curve in curves if len(curve.x)]
        axes.set_xlim(0, 1.01 * max(ends or [float(ds["gap_time"].max())]))


@figure_spec("step_size", variables=["largest_gap", "order"], priority=2)
def _step_size(ds: xr.Dataset, axes: Axes) -> str:
    steps, gaps = ds["step_size"].values, ds["largest_gap"].values
    fitted, stable = ds["fitted"].values.astype(bool), ds["stable"].values.astype(bool)
    finite = np.isfinite(gaps)
    groups: tuple[tuple[np.ndarray, dict[str, Any], str], ...] = (
        (fitted, {"marker": "o", "color": COLOURS[0]}, "distance to the flow"),
        (stable & ~fitted, {"marker": "o", "mfc": "none", "color": COLOURS[0]}, "not in the fit"),
        (~stable, {"marker": "X", "color": COLOURS[3]}, r"beyond $2/\lambda_{\max}$"),
    )
    for chosen, style, label in groups:
        if (chosen & finite).any():
            axes.plot(
                steps[chosen & finite], gaps[chosen & finite], ls="none", label=label, **style
            )
    drawn = [gaps]
    title = _order_line(axes, ds, "", gaps, fitted)
    if "modified_gap" in ds:
        gaps, fitted = ds["modified_gap"].values, ds["modified_fitted"].values.astype(bool)
        for chosen, face in ((fitted, COLOURS[2]), (~fitted, "none")):
            axes.plot(steps[chosen], gaps[chosen], "s", color=COLOURS[2], mfc=face)
        axes.plot([], [], "s", color=COLOURS[2], label="distance to the modified flow")
        drawn.append(gaps)
        title += f"; {_order_line(axes, ds, 'modified_', gaps, fitted)} for the modified flow"
    limit = float(ds["stability_limit"])
    axes.set(xlabel="step size η", ylabel=ds["largest_gap"].attrs["long_name"], xscale="log")
    draw_error(axes, np.concatenate(drawn), float(ds["solver_error"]), at="lower right")
    if np.isfinite(limit) and limit < 30 * steps.max():
        axes.axvline(limit, color=COLOURS[3], ls="--", lw=1)
        place: dict[str, Any] = {"xy": (limit, 0), "xycoords": ("data", "axes fraction")}
        offset: dict[str, Any] = {"xytext": (-3, 22), "textcoords": "offset points"}
        style = {"rotation": 90, "ha": "right", "va": "bottom", "color": COLOURS[3]}
        axes.annotate(
            r"stable below $2/\lambda_{\max}$", **place, **offset, **style, fontsize="small"
        )
    axes.set_xticks(steps, [format_number(step) for step in steps])
    axes.set_xticks([], minor=True)
    axes.legend(loc="upper left", fontsize="small")
    return title


def _order_line(
    axes: Axes, ds: xr.Dataset, prefix: str, gaps: np.ndarray, fitted: np.ndarray
) -> str:
    """Draw the fitted power of the step size over the range of finite gaps; say the order."""
    order = float(ds[f"{prefix}order"])
    if not np.isfinite(order):
        return "no order" if prefix else "The gap to the flow has no order here"
    steps = ds["step_size"].values
    level = np.log(gaps[fitted]).mean() - order * np.log(steps[fitted]).mean()
    drawn = steps[np.isfinite(gaps)]
    span = np.array([drawn.min(), drawn.max()])
    half = (float(ds[f"{prefix}order_high"]) - float(ds[f"{prefix}order_low"])) / 2
    label = f"order {order:.3f} ± {half:.3f}"
    style = "--" if prefix else "-"
    axes.plot(span, np.exp(level) * span**order, style, color="black", lw=1, label=label, zorder=1)
    return f"order {order:.2f}" if prefix else f"The gap to the flow shrinks with order {order:.2f}"


@figure_spec("invariants", variables=["drift_bound"])
def _invariants(ds: xr.Dataset, axes: Axes) -> str:
    time, bound = ds["time"].values, float(ds["drift_bound"])
    drifts = {
        str(name).removeprefix("drift_").replace("_", " "): values
        for name, values in ds.data_vars.items()
        if str(name).startswith("drift_") and name != "drift_bound"
    }
    curves, zero = [], []
    for i, (label, values) in enumerate(drifts.items()):
        over = _largest(values)
        if not over.any():
            zero.append(label)
        else:
            colour = COLOURS[_DRIFTS[i % len(_DRIFTS)]]
            curves.append(Curve(time, np.where(over > 0, over, np.nan), label, colour))
            if over[-1] == 0:  # its curve ends early
                zero.append(f"{label} from t = {format_number(time[over > 0][-1])} on")
    drift = max((float(np.nanmax(curve.y)) for curve in curves), default=0.0)
    if "balanced_product_defect" in ds:  # of a start that is not balanced it is large: no drift
        worst = _largest(ds["balanced_product_defect"])
        label = r"$(W_j\cdots W_1)^\top(W_j\cdots W_1)$"
        curves.append(Curve(time, np.where(worst > 0, worst, np.nan), label, "black"))
    for curve in curves:
        axes.plot(curve.x, curve.y, color=curve.colour, ls="--" if curve.colour == "black" else "-")
    axes.set(xlabel=TIME_LABEL, ylabel="relative drift of conserved quantities")
    scale_time(ds, [axes])
    every = np.concatenate([curve.y for curve in curves]) if curves else np.array([np.nan])
    largest = float(np.nanmax(every, initial=0.0))  # of all that is drawn
    set_log_y(axes, every, floor=LOG_ZERO, room=0.2)
    top = axes.get_ylim()[1] if largest > 0 else 0.0
    if max(largest * NEAR, top) >= bound:
        set_log_y(axes, np.append(every, bound), floor=LOG_ZERO)
        label_level(axes, bound, "bound of the certificate", BOUND)
    else:
        far = np.log10(bound / max(largest, 1e-17))
        text = f"↑ bound of the certificate: {format_number(bound)}, {far:.0f} decades above"
        note(axes, text, colour=BOUND, at="upper left")
    if zero:
        note(axes, f"exactly 0: {', '.join(zero)}", at="lower right")
        if not curves:
            axes.plot(time, np.zeros(len(time)), color="black")
    label_curves(axes, curves)
    allowed = format_number(bound)
    return f"Conserved quantities drift by {drift:.1g} at most, {allowed} would be allowed"


def _largest(values: xr.DataArray) -> np.ndarray:
    """Return the largest value at each time, of all members that have not failed before; else 0."""
    others = [dim for dim in values.dims if dim != "time"]
    return np.asarray(values.fillna(0.0).max(others).values)


@figure_spec("completion", variables=["held_out_error", "effective_rank"], panels=2)
def _completion(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    time, error, rank = (ds[name].values for name in ("time", "held_out_error", "effective_rank"))
    left.plot(time, error, color="black")
    left.set(xlabel=TIME_LABEL, ylabel="relative error, unobserved entries", ylim=(0, None))
    right.plot(time, rank, color=COLOURS[0])
    right.set(xlabel=TIME_LABEL, ylabel="effective rank of W", ylim=(0, None))
    best = int(error.argmin())
    for axes, values in ((left, error), (right, rank)):
        axes.plot(time[best], values[best], "o", color=COLOURS[3], zorder=3)
        place: dict[str, Any] = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
        text = format_number(values[best])
        axes.annotate(text, (time[best], values[best]), color=COLOURS[3], **place)
    return (
        f"Unobserved entries are best known at t = {format_number(time[best])}: relative error "
        f"{format_number(error[best])} at effective rank {format_number(rank[best])}"
    )
