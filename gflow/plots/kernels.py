"""Figures of kernel flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, label_curves, label_level, note, style_key
from gflow.plots.observable import mode_colours
from gflow.plots.scales import log_x, set_log_y
from gflow.plots.style import (
    COLOURS,
    LOG_ZERO,
    TIME_LABEL,
    descent_curves,
    format_number,
    thinned,
)

_BOUND = r"bound $e^{-\lambda_{\min} t}\,\|u_0 - y\|$"
_MODES = (0, 2, 9, 29, 99)  # and the last
_FLOOR = 1e-4  # of a mode's residual
_LABEL_AT = 0.3  # level at which modes are numbered


@figure_spec(
    "residual",
    variables=["residual_norm", "residual_bound", "mode_residuals", "descent_residual_norm"],
    panels=2,
)
def _residual(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    time, norm = ds["time"].values, ds["residual_norm"].values
    bound = ds["residual_bound"].values
    left.plot(time, norm, color="black", label="gradient flow")
    left.plot(time, bound, "--", color=COLOURS[1], label="bound")
    label, t, values = descent_curves(ds, "descent_residual_norm")[0]
    some = thinned(t, 21)
    left.plot(t[some], values[some], "o", ms=4, mfc="none", color=COLOURS[0], label="descent")
    left.set(xlabel=TIME_LABEL, ylabel="residual ‖u − y‖", xlim=(0, 1.01 * time[-1]))
    set_log_y(left, np.concatenate([norm, bound]))
    curves = [
        Curve(time, norm, "flow", "black"),
        Curve(t, values, f"descent,\n{label}", COLOURS[0]),
        Curve(time, bound, _BOUND, COLOURS[1]),
    ]
    label_curves(left, curves)
    _modes(ds, right)
    ends = [format_number(values[i]) for values in (norm, bound) for i in (-1,)]
    return (
        f"The residual falls from {format_number(norm[0])} to {ends[0]} at t = "
        f"{format_number(time[-1])}, where the bound is {ends[1]}"
    )


def _modes(ds: xr.Dataset, axes: Axes) -> None:
    """Draw residuals along eigenvectors, each numbered where it falls."""
    time, modes = ds["time"].values, ds["mode_residuals"].values
    count = modes.shape[1]
    picked = sorted({min(count - 1, k) for k in (*_MODES, count - 1)})
    later = time > 0
    for k, colour in zip(picked, mode_colours(len(picked)), strict=True):
        if modes[0, k] > 0:
            share = np.maximum(modes[later, k] / modes[0, k], LOG_ZERO)
            axes.plot(time[later], share, color=colour, label=f"mode {k + 1}")
            fallen = np.flatnonzero(share < _LABEL_AT)
            at = int(fallen[0]) if len(fallen) else len(share) - 1
            if share[at] < _FLOOR:  # fallen before the first time: far below the axes
                continue
            box = {"facecolor": "white", "lw": 0, "pad": 1.0}
            place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "small"}
            axes.text(time[later][at], share[at], f"{k + 1}", color=colour, bbox=box, **place)
    axes.set(xlabel=TIME_LABEL, ylabel="residual along eigenvectors of H, relative")
    log_x(axes, time[later])
    axes.set_yscale("log")
    axes.set_ylim(_FLOOR, 2)
    style: dict[str, Any] = {"ha": "left", "va": "bottom", "fontsize": "small", "color": "0.35"}
    text = "numbers: mode, the largest eigenvalue first"
    axes.text(0, 1.01, text, transform=axes.transAxes, **style)


@figure_spec(
    "learning",
    variables=[
        "kernel_eigenvalues",
        "learning_times",
        "target_energy",
        "learned_share",
        "effective_dimension",
    ],
    panels=3,
)
def _learning(ds: xr.Dataset, left: Axes, middle: Axes, right: Axes) -> str:
    lam, energy = ds["kernel_eigenvalues"].values, ds["target_energy"].values
    time, when = ds["time"].values, ds["learning_times"].values
    mode = np.arange(1, len(lam) + 1)
    positive = lam > 0
    left.plot(mode[positive], lam[positive], color="black", label="eigenvalue λ of H")
    left.set(xlabel="mode, the largest eigenvalue first", ylabel="eigenvalue λ of H")
    set_log_y(left, lam[positive])
    log_x(left, mode)
    last = 1 / time[-1]
    if left.get_ylim()[0] < last < left.get_ylim()[1]:
        text = f"learned by t = {format_number(time[-1])} above this line"
        label_level(left, last, text, "grey", ls=":")
    else:
        where = "all" if lam[positive].min(initial=np.inf) > last else "none"
        note(left, f"1/λ < {format_number(time[-1])}: {where} of the modes are learned by then")
    nonzero = energy > 0
    middle.plot(mode[nonzero], energy[nonzero], ".", ms=4, color=COLOURS[0])
    middle.set(xlabel="mode, the largest eigenvalue first", ylabel="share of ‖y − u₀‖² in the mode")
    set_log_y(middle, energy, floor=1e-8 * energy.max())
    log_x(middle, mode)
    later, learned = time > 0, np.isfinite(when)
    first = min(time[later][0], when.min())
    steps = np.concatenate([[first], when[learned], time[-1:]])
    total = np.concatenate([[0.0], np.cumsum(energy[learned])])
    total = np.append(total, total[-1])
    share = ds["effective_dimension"].values[later] / len(lam)
    done = ds["learned_share"].values[later]
    right.step(steps, total, where="post", color=COLOURS[0])
    right.plot(time[later], done, color="black")
    right.plot(time[later], share, "--", color=COLOURS[2])
    right.set(xlabel=TIME_LABEL, ylabel="share", xscale="log", ylim=(0, 1.03))
    right.set_xlim(time[later][0], time[-1])
    style_key(
        right,
        [
            ("learned of ‖y − u₀‖²", {"color": "black"}),
            ("modes with 1/λ ≤ t", {"color": COLOURS[0]}),
            ("effective dimension / n", {"color": COLOURS[2], "ls": "--"}),
        ],
    )
    learned = f"{100 * max(0.0, done[-1]):.5g} %"
    end = f"at t = {format_number(time[-1])}"
    if done[-1] < 0.5:
        return f"{learned} of the targets is learned {end}"
    half = float(np.interp(0.5, done, time[later]))
    return f"Half of the targets is learned at t = {format_number(half)}, {learned} {end}"
