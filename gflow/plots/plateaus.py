"""The figure of plateaus: the loss, a band for each plateau, and the time of each jump."""

from __future__ import annotations

from typing import Any

import xarray as xr
from matplotlib.axes import Axes

from gflow.plots.figure_spec import figure_spec
from gflow.plots.scales import scale_time
from gflow.plots.style import COLOURS, TIME_LABEL, format_number

_SHOWN = 8  # jumps whose times are in the title


@figure_spec("plateaus", variables=["loss", "plateau_loss", "jump_time"], priority=2)
def _plateaus(ds: xr.Dataset, axes: Axes) -> str:
    time, loss = ds["time"].values, ds["loss"].values
    above: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "fontsize": "small"}
    axes.plot(time, loss, color="black")
    axes.set(xlabel=TIME_LABEL, ylabel="loss")
    scale_time(ds, [axes])
    axes.margins(y=0.12)
    for begin, end, level, active in zip(
        ds["plateau_begin"].values,
        ds["plateau_end"].values,
        ds["plateau_loss"].values,
        ds["active_modes"].values if ds["active_modes"].size else [None] * ds.sizes["plateau"],
        strict=True,
    ):
        axes.axvspan(begin, end, color="0.5", alpha=0.12, lw=0)
        modes = "" if active is None else f"\n{active} mode" + ("" if active == 1 else "s")
        axes.annotate(
            format_number(level) + modes,
            (0.5 * (begin + end), 0.98),
            ha="center",
            va="top",
            **above,
        )
    jumps = ds["jump_time"].values
    for jump in jumps:
        axes.axvline(jump, color=COLOURS[1], ls="--", lw=1.0)
    if not len(jumps):
        return "The loss does not jump"
    named = ", ".join(format_number(t) for t in jumps[:_SHOWN])
    more = f" and {len(jumps) - _SHOWN} more" if len(jumps) > _SHOWN else ""
    return f"{len(jumps)} jump{'s' * (len(jumps) > 1)} between plateaus, at t = {named}{more}"
