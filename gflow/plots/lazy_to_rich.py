"""The figure of lazy to rich: loss and tangent kernel along the paths, by balance."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, label_curves, style_key
from gflow.plots.scales import set_log_y
from gflow.plots.style import TIME_LABEL, colour_of

_PANELS = (
    ("loss", "loss over that of the start"),
    ("kernel_distance", "‖K(t) − K(0)‖ / ‖K(0)‖"),
    ("kernel_alignment", "alignment of K with the target"),
)


@figure_spec(
    "lazy_to_rich",
    variables=["path_kernel_distance", "theory_kernel_distance"],
    panels=3,
    priority=3,
)
def _lazy_to_rich(ds: xr.Dataset, *panels: Axes) -> str:
    balances = ds["balance"].values
    t, fine = ds["time"].values[1:], ds["fine_time"].values[1:]
    filled: dict[str, Any] = {"marker": "o", "ls": "none", "ms": 3}
    rings = filled | {"ms": 6.5, "mfc": "none", "mew": 0.8}
    sizes = sorted({abs(float(balance)) for balance in balances})
    for axes, (name, words) in zip(panels, _PANELS, strict=True):
        curves, drawn = {}, []
        for i, balance in enumerate(balances):
            size = abs(float(balance))
            colour = colour_of(sizes.index(size))
            path, theory = ds[f"path_{name}"].values[i], ds[f"theory_{name}"].values[i]
            scale = theory[0] if name == "loss" and theory[0] > 0 else 1.0
            line = theory[1:] / scale
            axes.plot(fine, line, color=colour, lw=1.3)
            axes.plot(t, path[1:] / scale, color=colour, **(rings if balance < 0 else filled))
            both = size > 0 and {size, -size} <= set(balances.tolist())
            label = f"λ = ±{size:g}" if both else f"λ = {balance:g}"
            curves[label] = Curve(fine, line, label, colour)
            drawn.append(line)
        axes.set_xscale("log")
        axes.set_xlim(fine[0], fine[-1])
        if name == "kernel_distance":
            set_log_y(axes, np.concatenate(drawn))
        axes.set(xlabel=TIME_LABEL, ylabel=words)
        label_curves(axes, list(curves.values()))
        style_key(
            axes, [("flow, λ < 0", rings), ("flow, λ ≥ 0", filled), ("theory, closed form", {})]
        )
    distances = ds["path_kernel_distance"].values[:, -1]
    most, least = int(np.argmax(distances)), int(np.argmin(distances))
    return (
        f"The kernel moves by {distances[most]:.3g} times its norm from λ = {balances[most]:g}, "
        f"by {distances[least]:.3g} from λ = {balances[least]:g}; all layers are within "
        f"{float(ds['theory_error'].max()):.0e} of the closed form"
    )
