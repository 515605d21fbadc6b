"""Figures of networks: sharpness, the edge of stability, implicit regularization."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.style import COLOURS, TIME_LABEL, colour_of, descent_curves, format_number

_SHARPNESS = r"sharpness  $\lambda_{\max}$ of the Hessian"
_AVERAGED = r"central flow  $L + \mathrm{tr}\,\Sigma/\eta$"


@figure_spec("sharpness", variables=["sharpness", "descent_sharpness"])
def _sharpness(ds: xr.Dataset, axes: Axes) -> None:
    limits = []
    for i, (label, t, values) in enumerate(descent_curves(ds, "descent_sharpness")):
        colour = colour_of(i)
        axes.plot(t, values, "o", ms=3, mfc="none", color=colour, label=f"descent, {label}")
        limit = 2 / float(ds["step_size"].values[i])
        limits.append((limit, colour))
    axes.plot(ds["time"], ds["sharpness"], color="black", label="gradient flow", zorder=3)
    highest = float(ds["sharpness"].max())
    # A descent that diverges must not set the scale.
    top = 1.3 * max(highest, min(float(ds["descent_sharpness"].max()), 1.5 * highest))
    for limit, colour in limits:
        if limit < top:
            axes.axhline(limit, color=colour, ls="--", lw=1)
    axes.plot([], [], color="grey", ls="--", lw=1, label="2/η")
    axes.set(xlabel=TIME_LABEL, ylabel=_SHARPNESS, ylim=(0, top))
    axes.legend()


@figure_spec(
    "network", variables=["gradient_norm", "distance", "descent_distance", "gap"], panels=3
)
def _network(ds: xr.Dataset, left: Axes, middle: Axes, right: Axes) -> None:
    panels = [(middle, "gradient_norm", r"gradient norm  $\|\nabla L\|$")]
    panels.append((right, "distance", r"distance from the start  $\|\theta - \theta_0\|$"))
    if "accuracy" in ds:
        panels.append((left, "accuracy", "accuracy"))
    else:
        panels.append((left, "loss", "loss"))
    for axes, name, label in panels:
        for i, (step, t, values) in enumerate(descent_curves(ds, f"descent_{name}")):
            colour = colour_of(i)
            every = max(1, len(t) // 25)
            axes.plot(t[::every], values[::every], "o", ms=4, mfc="none", color=colour, label=step)
        axes.plot(ds["time"], ds[name], color="black", label="gradient flow", zorder=1)
        axes.set(xlabel=TIME_LABEL, ylabel=label)
    middle.set_yscale("log")
    right.legend()


@figure_spec(
    "edge_of_stability",
    variables=["flow_loss", "flow_sharpness", "edge_sharpness", "step_loss"],
    panels=2,
)
def _edge(ds: xr.Dataset, left: Axes, right: Axes) -> None:
    limits = 2 / ds["step_size"].values
    losses = descent_curves(ds, "step_loss", "step_time")
    sharpness = descent_curves(ds, "edge_sharpness")
    averaged = descent_curves(ds, "central_averaged_loss", "central_time")
    central = descent_curves(ds, "central_sharpness", "central_time")
    for i, limit in enumerate(limits):
        colour = colour_of(i)
        label, t, values = losses[i]
        left.plot(t, values, color=colour, lw=0.7, alpha=0.45)
        _, t, values = averaged[i]
        left.plot(t, values, "--", color=colour, lw=2)
        _, t, values = sharpness[i]
        right.plot(t, values, "o", ms=3, mfc="none", color=colour)
        _, t, values = central[i]
        right.plot(t, values, "--", color=colour, lw=2)
        right.axhline(limit, color=colour, ls=":", lw=1.2)
        left.plot([], [], color=colour, label=label)
    left.plot(ds["time"], ds["flow_loss"], color="black", lw=1.2)
    right.plot(ds["time"], ds["flow_sharpness"], color="black", lw=2)
    highest = max(float(ds["flow_sharpness"].max()), float(limits.max()))
    lowest = float(ds["flow_loss"].min())
    top = 1.5 * float(ds["flow_loss"].max())  # a descent that diverges must not set the scale
    left.set(xlabel=TIME_LABEL, ylabel="loss", yscale="log", ylim=(0.8 * lowest, top))
    right.set(xlabel=TIME_LABEL, ylabel=_SHARPNESS, ylim=(0, 1.15 * highest))
    left.plot([], [], "--", color="grey", lw=2, label=_AVERAGED)
    left.plot([], [], color="black", lw=1.2, label="gradient flow")
    left.legend(title="gradient descent")
    right.plot([], [], color="black", lw=2, label="gradient flow")
    right.plot([], [], "o", ms=3, mfc="none", color="grey", label="gradient descent")
    right.plot([], [], "--", color="grey", lw=2, label="central flow")
    right.plot([], [], ":", color="grey", lw=1.2, label="2/η")
    right.legend(loc="lower right")


@figure_spec("leaving", variables=["relative_gap", "oscillation", "smooth_variance"], panels=3)
def _leaving(ds: xr.Dataset, left: Axes, middle: Axes, right: Axes) -> None:
    gaps = descent_curves(ds, "relative_gap")
    averages = descent_curves(ds, "smooth_variance", "step_time")
    predicted = descent_curves(ds, "central_variance", "central_time")
    for i, (label, t, values) in enumerate(gaps):
        colour, crossing = colour_of(i), float(ds["crossing"].values[i])
        left.plot(t[1:], values[1:], color=colour, label=label)
        if np.isfinite(crossing):
            left.axvline(crossing, color=colour, ls=":", lw=1.2)
        _, t, values = averages[i]
        right.plot(t, values, color=colour, label=label)
        _, t, values = predicted[i]
        right.plot(t, values, "--", color=colour, lw=2)
    left.plot([], [], ":", color="grey", label="flow passes 2/η")
    left.set(xlabel=TIME_LABEL, yscale="log", ylabel="distance of descent to flow, relative")
    left.legend()
    label, t, values = descent_curves(ds, "oscillation", "step_time")[0]
    middle.plot(t, values, color=COLOURS[0], lw=0.5, label=label)
    middle.set(xlabel=TIME_LABEL, ylabel=r"oscillation along the top eigenvector  $v_1$")
    middle.legend()
    right.plot([], [], color="grey", label="descent, averaged")
    right.plot([], [], "--", color="grey", lw=2, label=r"central flow  $\mathrm{tr}\,\Sigma$")
    right.set(xlabel=TIME_LABEL, ylabel="variance of the oscillation", ylim=(0, None))
    right.legend()


@figure_spec(
    "implicit_regularization",
    variables=["squared_gradient", "descent_squared_gradient", "descent_ratio", "modified_ratio"],
    panels=2,
)
def _implicit_regularization(ds: xr.Dataset, left: Axes, right: Axes) -> None:
    left.plot(ds["time"], ds["squared_gradient"], color="black", label="gradient flow", zorder=1)
    for i, (label, t, values) in enumerate(descent_curves(ds, "descent_squared_gradient")):
        colour = colour_of(i)
        style: dict[str, Any] = {"ms": 4, "mfc": "none", "color": colour}
        every = max(1, len(t) // 25)
        left.plot(t[::every], values[::every], "o", label=label, **style)
        at = ds["loss_at_save"].values[i][: len(t)]
        right.plot(at[1::every], ds["descent_ratio"].values[i][1 : len(t) : every], "o", **style)
        right.plot(at[1:], ds["modified_ratio"].values[i][1 : len(t)], color=colour)
    right.axhline(1, color="black", zorder=1)
    left.set(xlabel=TIME_LABEL, ylabel=r"squared gradient  $\|\nabla L\|^2$", yscale="log")
    left.legend(title="gradient descent")
    right.plot([], [], "o", ms=4, mfc="none", color="grey", label="descent")
    right.plot([], [], color="grey", label="predicted by the modified flow")
    right.plot([], [], color="black", label="gradient flow")
    right.set(xlabel="loss  (falls to the right)", xscale="log")
    right.set(ylabel=r"$\|\nabla L\|^2$ over the flow's at equal loss")
    right.invert_xaxis()
    shown = np.nanquantile(ds["descent_ratio"].values[:, 1:], 0.05)  # the first steps differ most
    right.set_ylim(1 - 1.6 * (1 - min(shown, 0.999)), 1 + 0.1 * (1 - min(shown, 0.999)))
    right.legend()


@figure_spec(
    "continuous_vs_discrete",
    variables=["travelled", "gap_to_flow", "gap_to_proxy", "proxy_to_flow"],
    panels=2,
)
def _continuous_vs_discrete(ds: xr.Dataset, *panels: Axes) -> None:
    step, proxy = format_number(float(ds["step"])), int(ds["proxy"])
    lines: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("travelled", {"color": "black"}, "descent to its start"),
        ("gap_to_flow", {"color": COLOURS[0]}, "descent to the flow"),
        ("gap_to_proxy", {"color": COLOURS[1], "ls": "--"}, f"descent to its proxy, η/{proxy}"),
        ("proxy_to_flow", {"color": COLOURS[2]}, "proxy to the flow"),
        ("solver_error", {"color": "grey", "ls": ":"}, "solver error of the flow (estimated)"),
    )
    later = ds["time"].values > 0
    time = ds["time"].values[later]
    for axes, name in zip(panels, ds["network"].values, strict=False):
        part = ds.sel(network=name)
        for variable, style, label in lines:
            axes.plot(time, part[variable].values[later], label=label, **style)
        axes.set(xlabel=TIME_LABEL, ylabel=f"distance of parameters,  η = {step}", yscale="log")
        axes.set_title(f"{name} network", fontsize=10)
    for axes in panels[ds.sizes["network"] :]:
        axes.set_axis_off()
    used = panels[: ds.sizes["network"]]
    low = min(axes.get_ylim()[0] for axes in used)
    high = max(axes.get_ylim()[1] for axes in used)
    for axes in used:
        axes.set_ylim(low, high)
    used[-1].legend()
