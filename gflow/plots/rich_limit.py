"""The figure of kernel to rich: norms and weights at the end against the scale of the start."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, label_curves, style_key
from gflow.plots.style import COLOURS, colour_of

_LABELLED = 4  # weights of the sparse solution that have a colour and a label


@figure_spec(
    "kernel_to_rich", variables=["l1_ratio", "l2_theory", "theory_weights"], panels=2, priority=3
)
def _kernel_to_rich(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    scales, fine = ds["init_scale"].values, ds["fine_scale"].values
    mark: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 5}
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlim(1.5 * max(fine), min(fine) / 1.5)
    curves = []
    for i, (name, words) in enumerate((("l1", "‖w‖₁"), ("l2", "‖w‖₂"))):
        left.plot(fine, ds[f"{name}_theory"].values, color=COLOURS[i])
        left.plot(scales, ds[f"{name}_ratio"].values, color=COLOURS[i], **mark)
        curves.append(Curve(fine, ds[f"{name}_theory"].values, f"{words} / least", COLOURS[i]))
    left.axhline(1.0, color="grey", lw=0.8, ls=":")
    left.set_ylabel("norm at the end over the least of all solutions")
    weights, ends = ds["theory_weights"].values, ds["end_weights"].values
    sparse = np.abs(ds["least_l1"].values)
    largest = np.argsort(-sparse)[:_LABELLED]
    labels = []
    for j in range(weights.shape[1]):
        if j not in largest:
            right.plot(fine, weights[:, j], color="grey", alpha=0.45, lw=0.7)
    for k, j in enumerate(largest):
        right.plot(fine, weights[:, j], color=colour_of(k))
        right.plot(scales, ends[:, j], color=colour_of(k), **mark)
        labels.append(Curve(fine, weights[:, j], f"w{j}", colour_of(k)))
    right.set_ylabel("weights at the end")
    for axes in (left, right):
        axes.set_xlabel("scale α of the start u = v = α·1:  kernel → rich")
    label_curves(left, curves)
    label_curves(right, labels)
    key = [("flow", mark), ("theory, least potential", {})]
    style_key(left, key)
    style_key(right, [*key, ("all other weights", {"color": "grey", "alpha": 0.45, "lw": 0.7})])
    first, last = float(ds["l2_ratio"][0]), float(ds["l1_ratio"][-1])
    return (
        f"The end has {first:.5g} times the least ‖w‖₂ from α = {scales[0]:g}, {last:.5g} times "
        f"the least ‖w‖₁ from α = {scales[-1]:g}; all are within "
        f"{float(ds['limit_error'].max()):.1g} of theory"
    )
