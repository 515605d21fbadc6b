"""Figures: labelled arrays to matplotlib figures.

`figures` draws every figure whose variables a dataset has. A figure is one function in any file of
this folder, which is discovered, not listed::

    from gflow.plots.figure_spec import figure_spec
    from gflow.plots.style import TIME_LABEL

    @figure_spec("gradient", variables=["gradient_norm"])
    def _gradient(ds: xr.Dataset, figure: Figure) -> None:
        axes = figure.axes[0]
        axes.plot(ds["time"], ds["gradient_norm"])
        axes.set(xlabel=TIME_LABEL, ylabel="gradient norm", yscale="log")
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from gflow.discovery import discover
from gflow.plots.figure_spec import FigureSpec
from gflow.plots.style import STYLE, TIME_LABEL


def figure_specs() -> list[FigureSpec]:
    """Return every figure in the files of this folder.

    Raises
    ------
    ValueError
        If two figures have the same name.

    Examples
    --------
    >>> "singular_values" in {spec.name for spec in figure_specs()}
    True
    """
    specs: dict[str, FigureSpec] = {}
    for spec in discover(__name__):
        if isinstance(spec, FigureSpec) and specs.setdefault(spec.name, spec) is not spec:
            raise ValueError(
                f"figures must have different names, got '{spec.name}' in "
                f"{specs[spec.name].draw.__module__} and {spec.draw.__module__}; rename one"
            )
    return list(specs.values())


def figures(ds: xr.Dataset, title: str = "") -> dict[str, Figure]:
    """Draw every figure whose variables a result has.

    Parameters
    ----------
    ds : xarray.Dataset
        The dataset of a run, ``result.nc``.
    title : str
        The title of every figure.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        The figures by name.

    Examples
    --------
    >>> values = {"time": [0.0, 1.0], "singular_values": (("time", "mode"), [[0.1], [0.9]])}
    >>> list(figures(xr.Dataset(values)))
    ['singular_values']
    """
    drawn = {}
    with mpl.rc_context(STYLE):
        for spec in figure_specs():
            if all(name in ds for name in spec.variables):
                figure = Figure(figsize=(5.6 * spec.panels, 3.9))
                figure.subplots(1, spec.panels)
                spec.draw(ds, figure)
                _scale_time(ds, figure)
                if title:
                    figure.suptitle(title, fontsize=10, parse_math=False)
                drawn[spec.name] = figure
    return drawn


def _scale_time(ds: xr.Dataset, figure: Figure) -> None:
    """Use a symmetric logarithmic axis, which shows the start too, for log-spaced times."""
    if "time" not in ds or not ds["time"].ndim:
        return
    times = ds["time"].values[ds["time"].values > 0]
    if len(times) > 2 and np.median(times) < 0.1 * times[-1]:
        for axes in figure.axes:
            if axes.get_xlabel() == TIME_LABEL and axes.get_xscale() == "linear":
                axes.set_xscale("symlog", linthresh=times[0])
                axes.set_xlim(0, 1.1 * times[-1])
