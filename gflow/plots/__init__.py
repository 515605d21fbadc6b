"""Figures: labelled arrays -> matplotlib figures.

A figure is one function with the variables it needs, in a file of this folder; `figures` draws
every one whose variables a result has.
"""

from __future__ import annotations

import importlib
import pkgutil

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from gflow.plots.style import FIGURES, STYLE, TIME, Drawing


def figures(ds: xr.Dataset, title: str = "") -> dict[str, Figure]:
    """Every figure that a result's variables allow, by name.

    Parameters
    ----------
    ds : xarray.Dataset
        ``result.nc`` of a run.
    title : str
        Set above each figure.
    """
    drawn = {}
    with mpl.rc_context(STYLE):
        for item in _found():
            if all(need in ds for need in item.needs):
                figure = Figure(figsize=(5.6 * item.columns, 3.9))
                figure.subplots(1, item.columns)
                item.draw(ds, figure)
                _scale_time(ds, figure)
                if title:
                    figure.suptitle(title, fontsize=10, parse_math=False)
                drawn[item.name] = figure
    return drawn


def _scale_time(ds: xr.Dataset, figure: Figure) -> None:
    """A logarithmic axis where the times are spaced so; it shows the start too."""
    if "time" not in ds or not ds["time"].ndim:
        return
    times = ds["time"].values[ds["time"].values > 0]
    if len(times) > 2 and np.median(times) < 0.1 * times[-1]:
        for axes in figure.axes:
            if axes.get_xlabel() == TIME and axes.get_xscale() == "linear":
                axes.set_xscale("symlog", linthresh=times[0])
                axes.set_xlim(0, 1.1 * times[-1])


def _found() -> list[Drawing]:
    """Every figure there is, found in the files of this folder."""
    for info in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{info.name}")
    return FIGURES
