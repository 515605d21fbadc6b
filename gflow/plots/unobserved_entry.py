"""The figure of 2 × 2 completion: the unobserved entry and the second singular value."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.labels import Curve, label_curves, style_key
from gflow.plots.scales import set_log_y
from gflow.plots.style import colour_of, format_number

_FAR = -60.0  # log₁₀ of singular values below which a path would flatten all others


@figure_spec("two_by_two", variables=["unobserved_entry", "entry_grows"], panels=2, priority=3)
def _two_by_two(ds: xr.Dataset, left: Axes, right: Axes) -> str:
    depths, losses = ds["depth"].values, ds["path_loss"].values
    entries, seconds = ds["unobserved_entry"].values, ds["log10_singular_values"].values[..., 1]
    first = float(np.nanmax(losses))
    least = float(np.nanmin(losses))
    theory = np.geomspace(1.3 * first, least / 1.3, 50)
    left.plot(theory, 1 / np.sqrt(6 * theory), "--", color="black", lw=1.2, zorder=4)
    curves, ends = [], []
    for i, depth in enumerate(depths):
        colour, label = colour_of(i), f"N = {int(depth)}"
        left.plot(losses[i], entries[i], color=colour)
        right.plot(losses[i], seconds[i], color=colour)
        curves.append(Curve(losses[i], entries[i], label, colour))
        ends.append(Curve(losses[i], seconds[i], label, colour))
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlim(1.3 * first, least / 1.3)
        axes.set_xlabel("loss ℓ, which falls along the path")
    left.set_ylabel("unobserved entry W₁₁")
    set_log_y(left, np.append(entries[np.isfinite(entries)], 1 / np.sqrt(6 * least)))
    right.set_ylabel("log₁₀ of the second singular value of W")
    _leave_out_far(right, ends)
    label_curves(left, curves)
    label_curves(right, ends)
    style_key(left, [("flow", {}), (r"theory, $1/\sqrt{6\ell}$", {"ls": "--", "color": "black"})])
    far = max(
        abs(float((x * np.sqrt(6 * loss))[np.isfinite(x)][-1]) - 1)
        for x, loss in zip(entries, losses, strict=True)
    )
    ends_at = [float(x[np.isfinite(x)][-1]) for x in entries]
    if bool(ds["entry_grows"].all()):
        entry = f"grows to {format_number(max(ends_at))}"
    else:
        entry = f"does not grow along every path, and ends at {format_number(max(ends_at))} at most"
    return (
        f"The unobserved entry {entry} as the loss falls to {format_number(least)}: "
        f"W₁₁√(6ℓ) is within {far:.2g} of its limit 1"
    )


def _leave_out_far(axes: Axes, curves: list[Curve]) -> None:
    """Scale the axes to the paths that end near; label the others where they leave the axes."""
    last = [curve.y[np.isfinite(curve.y)][-1:] for curve in curves]
    far = [len(end) > 0 and end[0] < _FAR for end in last]
    if all(far) or not any(far):
        return
    near = [
        curve.y[np.isfinite(curve.y)] for curve, out in zip(curves, far, strict=True) if not out
    ]
    low, high = (float(pick(np.concatenate(near))) for pick in (np.min, np.max))
    room = 0.05 * (high - low)
    axes.set_ylim(low - room, high + room)
    for curve in (curve for curve, out in zip(curves, far, strict=True) if out):
        below = int(np.flatnonzero(curve.y < low)[0])
        end = float(f"{curve.y[np.isfinite(curve.y)][-1]:.3g}")
        place: dict[str, Any] = {"xytext": (8, 4), "textcoords": "offset points"}
        style: dict[str, Any] = {"color": curve.colour, "fontsize": "small"}
        text = f"{curve.label}, to {end:,.0f}"
        axes.annotate(text, (curve.x[below], low - room), **place, **style)
    curves[:] = [curve for curve, out in zip(curves, far, strict=True) if not out]
