"""The figure of incremental learning: modes one after another, and their times by theory."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, label_curves, note, style_key
from gflow.plots.scales import readable_ticks, set_log_y
from gflow.plots.style import TIME_LABEL, colour_of
from gflow.text import clause


@figure_spec(
    "incremental_learning",
    variables=["path_singular_values", "half_time", "target_mode"],
    panels=2,
    priority=3,
)
def _incremental(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    depth, alphas = int(ds["depth"]), ds["init_scale"].values
    halves, targets = ds["half_time"].values, ds["target_mode"].values
    time, values = ds["path_time"].values[-1], ds["path_singular_values"].values[-1]
    curves, ends = [], []
    for k, target in enumerate(targets):
        colour, label = colour_of(k), f"mode {k + 1}"
        left.plot(time, values[:, k], color=colour)
        if depth > 1:
            alone = _mode_alone(time, float(alphas[-1]), float(target), depth)
            left.plot(time, alone, "--", color=colour, lw=1.0)
        half = 0.5 * (target if depth > 1 else values[-1, k])
        left.plot(halves[-1, k], half, "o", color=colour)
        curves.append(Curve(time, values[:, k], label, colour))
        right.plot(alphas, halves[:, k], "o", color=colour)
        if len(alphas) > 1 and (depth > 2 or (depth == 2 and k == 0)):
            law = _law(alphas, halves[:, k], depth, float(ds["growth_rate"]))
            right.plot(alphas, law, "--", color=colour, lw=1.0)
        ends.append(Curve(alphas, halves[:, k], label, colour))
    left.set(xlabel=TIME_LABEL, ylabel=f"singular values of W, from {alphas[-1]:.3g}·I")
    left.set(xlim=(0, time[-1]), ylim=(0, 1.12 * float(max(values.max(), targets.max()))))
    right.set(xlabel="scale α of the start W = α·I", ylabel="half-time of the mode")
    right.set_xscale("log")
    low, high = float(alphas.min()), float(alphas.max())
    right.set_xlim(1.5 * high, low / 1.5)
    readable_ticks(right.xaxis, low / 1.5, 1.5 * high)
    if depth > 2:
        set_log_y(right, halves[np.isfinite(halves)])
    else:
        right.set_ylim(0, 1.1 * float(np.nanmax(halves, initial=0.0)) or None)
    label_curves(left, curves)
    label_curves(right, ends)
    if not np.isfinite(halves).any():
        note(right, "no mode has half its size by the end of a path", at="upper left")
    dashed, mark = {"ls": "--", "lw": 1.0}, {"marker": "o", "ls": "none"}
    half = "half-time"
    if depth == 1:
        style_key(left, [("W", {}), (half, mark)])
        return "One layer: all modes are learned together, whatever the scale of the start"
    style_key(left, [("W", {}), ("theory, all entries measured", dashed), (half, mark)])
    drawn = [(_formula(depth), dashed)] if len(alphas) > 1 else []
    style_key(right, [("measured", mark), *drawn])
    return f"{_order(halves, alphas)} at depth {depth}{_shift(ds, alphas, halves[:, 0], depth)}"


def _formula(depth: int) -> str:
    if depth == 2:
        return "theory of mode 1, log(1/α)/(2σ₁)"
    return rf"theory, $c + C\,\alpha^{{-{depth - 2}/{depth}}}$"


def _order(halves: np.ndarray, alphas: np.ndarray) -> str:
    learned = np.isfinite(halves).sum(axis=1)
    if learned.min() < halves.shape[1]:
        least = int(learned.argmin())
        count = f"{learned[least]} of {halves.shape[1]}"
        return f"{count} modes are learned by the end of the path from α = {alphas[least]:.3g}"
    if bool((np.diff(halves, axis=1) > 0).all()):
        return "Modes are learned one after another"
    return "Modes are not all learned one after another"


def _shift(ds: xr.Dataset, alphas: np.ndarray, first: np.ndarray, depth: int) -> str:
    """Return what was measured of the first mode's last shift, and what theory says."""
    if len(alphas) < 2:
        return ""
    measured = first[-1] - first[-2]
    if depth == 2:
        theory = np.log(alphas[-2] / alphas[-1]) / (2 * float(ds["growth_rate"]))
    elif len(alphas) > 2:
        growth = np.diff(alphas ** (2 / depth - 1))
        theory = (first[-2] - first[-3]) * growth[-1] / growth[-2]
    else:
        return ""
    starts = f"; a start of {alphas[-1]:.3g} instead of {alphas[-2]:.3g} delays the first by "
    return clause(starts + "{:.4g}, theory {:.4g}", float(measured), float(theory))


def _law(alphas: np.ndarray, times: np.ndarray, depth: int, rate: float) -> np.ndarray:
    """Return theory's half-times through the smallest start; deeper through the two smallest."""
    if depth == 2:
        x, slope = np.log(alphas), -1 / (2 * rate)
        return times[-1] + slope * (x - x[-1])
    power = alphas ** (2 / depth - 1)
    return times[-1] + (times[-1] - times[-2]) / (power[-1] - power[-2]) * (power - power[-1])


def _mode_alone(t: np.ndarray, start: float, target: float, depth: int) -> np.ndarray:
    """Return the size of a mode that no other meets, ṡ = N s^{2−2/N}(m − s), at given times."""
    log_sizes = np.linspace(np.log(start), np.log(target) + np.log1p(-1e-9), 20_001)
    s = np.exp(log_sizes)
    rates = depth * s ** (1 - 2 / depth) * (target - s)  # of log s
    steps = np.diff(log_sizes) * 0.5 * (1 / rates[1:] + 1 / rates[:-1])
    return np.interp(t, np.concatenate([[0.0], np.cumsum(steps)]), s)
