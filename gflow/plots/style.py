"""What all figures share: their registry, colours, and how times and numbers are written.

Colours are those of Okabe & Ito, which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.prop_cycle": cycler(color=COLOURS),
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
}
TIME = "time t  (step size × steps)"
NOTHING = 1e-17  # where what is zero is shown on a log scale


class Drawing(NamedTuple):
    """A figure: its name, the variables it needs, who draws it, and in how many panels."""

    name: str
    needs: tuple[str, ...]
    draw: Callable[[xr.Dataset, Figure], None]
    columns: int


FIGURES: list[Drawing] = []


def drawing(name: str, *needs: str, columns: int = 1) -> Callable[[Any], Any]:
    """Register the function below as a figure."""

    def register(draw: Callable[[xr.Dataset, Figure], None]) -> Any:
        FIGURES.append(Drawing(name, needs, draw, columns))
        return draw

    return register


def number(value: float) -> str:
    return f"{value:.3g}"


def descents(ds: xr.Dataset, name: str, time: str = "descent_time") -> list[tuple[str, Any, Any]]:
    """(label, times, values) of a variable for every step size."""
    curves = []
    for i, step in enumerate(ds["step_size"].values):
        t, values = ds[time].values[i], ds[name].values[i]
        keep = np.isfinite(t)
        curves.append((f"η = {number(step)}", t[keep], values[keep]))
    return curves


def band(axes: Axes, x: np.ndarray, seeds: np.ndarray, **look: Any) -> np.ndarray:
    """The median over seeds (seed, x) with the band of their middle half; the median."""
    there = np.isfinite(seeds).any(axis=0)  # up to where the last one diverged; 0 is there
    seeds, x = seeds[:, there], x[there]
    middle = np.nanmedian(seeds, axis=0)
    axes.plot(x, middle, **look)
    low, high = np.nanpercentile(seeds, (25, 75), axis=0)
    axes.fill_between(x, low, high, color=look["color"], alpha=0.18, lw=0)
    return middle
