"""Figures of kernel flow."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.style import COLOURS, LOG_ZERO, TIME_LABEL, descent_curves

_BOUND = r"bound  $e^{-\lambda_{\min} t}\,\|u_0 - y\|$"


@figure_spec(
    "residual",
    variables=["residual_norm", "residual_bound", "mode_residuals", "descent_residual_norm"],
    panels=2,
)
def _residual(ds: xr.Dataset, left: Axes, right: Axes) -> None:
    time = ds["time"].values
    left.plot(time, ds["residual_norm"], color="black", label="gradient flow  ‖u − y‖")
    left.plot(time, ds["residual_bound"], "--", color=COLOURS[1], label=_BOUND)
    label, t, values = descent_curves(ds, "descent_residual_norm")[0]
    every = max(1, len(t) // 20)
    left.plot(
        t[::every],
        values[::every],
        "o",
        ms=4,
        mfc="none",
        color=COLOURS[0],
        label=f"descent, {label}",
    )
    left.set(xlabel=TIME_LABEL, ylabel="residual ‖u − y‖", yscale="log")
    left.legend()
    modes = ds["mode_residuals"].values
    count = modes.shape[1]
    picked = sorted({min(count - 1, k) for k in (0, 2, 9, 29, 99, count - 1)})
    ramp = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, len(picked)))
    later = time > 0
    for k, colour in zip(picked, ramp, strict=True):
        if modes[0, k] > 0:
            share = np.maximum(modes[later, k] / modes[0, k], 1e-12)
            right.loglog(time[later], share, color=colour, label=f"mode {k + 1}")
    right.set(
        xlabel=TIME_LABEL, ylabel="residual along eigenvectors of H, relative", ylim=(1e-6, 2)
    )
    right.legend(title="largest\neigenvalue\nfirst", loc="upper left", bbox_to_anchor=(1, 1))


@figure_spec(
    "learning",
    variables=[
        "kernel_eigenvalues",
        "learning_times",
        "target_energy",
        "learned_share",
        "effective_dimension",
    ],
    panels=2,
)
def _learning(ds: xr.Dataset, left: Axes, right: Axes) -> None:
    lam, energy = ds["kernel_eigenvalues"].values, ds["target_energy"].values
    time, when = ds["time"].values, ds["learning_times"].values
    mode = np.arange(1, len(lam) + 1)
    positive = lam > 0
    left.loglog(mode[positive], lam[positive], color="black", label="eigenvalue λ of H")
    nonzero = energy > 0
    style: dict[str, Any] = {"ms": 4, "color": COLOURS[0], "label": "energy of the targets"}
    left.loglog(mode[nonzero], energy[nonzero], ".", **style)
    floor = max(energy.max() * 1e-6, LOG_ZERO)
    left.set(xlabel="mode, largest eigenvalue first", ylabel="λ, and share of ‖y − u₀‖²")
    left.set(ylim=(min(floor, lam[positive].min(initial=1.0) / 2), None))
    left.axhline(1 / time[-1], color="grey", ls=":", label="1/λ = last time")
    left.legend(loc="lower left")
    later, learned = time > 0, np.isfinite(when)
    first = min(time[later][0], when.min())
    steps = np.concatenate([[first], when[learned]])
    total = np.concatenate([[0.0], np.cumsum(energy[learned])])
    label = r"energy of the targets in modes with $1/\lambda \leq t$"
    right.step(steps, total, where="post", color=COLOURS[0], label=label)
    label = r"learned:  $1 - \|u - y\|^2/\|u_0 - y\|^2$"
    right.plot(time[later], ds["learned_share"].values[later], color="black", label=label)
    share = ds["effective_dimension"].values[later] / len(lam)
    label = r"effective dimension $\sum\lambda/(\lambda + 1/t)$ of " + str(len(lam))
    right.plot(time[later], share, "--", color=COLOURS[1], label=label)
    right.set(xlabel=TIME_LABEL, ylabel="share", xscale="log", xlim=(time[later][0], time[-1]))
    right.set(ylim=(0, 1.38), yticks=np.linspace(0, 1, 6))  # room for the legend
    right.legend(loc="upper left")
