"""Figures: labelled arrays to matplotlib figures.

`figures` draws every figure whose variables a dataset has. A figure is one function in any file of
this folder, which is discovered, not listed; it returns a title that says what was measured::

    from gflow.plots.figure_spec import figure_spec
    from gflow.plots.style import TIME_LABEL

    @figure_spec("gradient", variables=["gradient_norm"])
    def _gradient(ds: xr.Dataset, axes: Axes) -> str:
        axes.plot(ds["time"], ds["gradient_norm"])
        axes.set(xlabel=TIME_LABEL, ylabel="gradient norm", yscale="log")
        return f"the gradient falls to {float(ds['gradient_norm'][-1]):.2g}"
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import matplotlib as mpl
import xarray as xr
from matplotlib.figure import Figure

from gflow.discovery import discover
from gflow.errors import InputError
from gflow.plots.drawing import draw_into
from gflow.plots.figure_spec import FigureSpec
from gflow.plots.style import SIZE, STYLE
from gflow.text import unknown


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


def figures(
    ds: xr.Dataset,
    title: str = "",
    *,
    only: Collection[str] = (),
    size: tuple[float, float] = SIZE,
    style: Mapping[str, Any] = STYLE,
) -> dict[str, Figure]:
    """Draw every figure whose variables a result has.

    Parameters
    ----------
    ds : xarray.Dataset
        The dataset of a run, ``result.nc``.
    title : str
        A second line of every title, below what was measured.
    only : collection of str
        Names of figures; by default all.
    size : (float, float)
        Width and height of one panel, in inches.
    style : mapping
        Settings of matplotlib.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        The figures by name.

    Raises
    ------
    InputError
        If the result has no figure of a name in ``only``.

    Examples
    --------
    >>> values = {"time": [0.0, 1.0], "singular_values": (("time", "mode"), [[0.1], [0.9]])}
    >>> list(figures(xr.Dataset(values)))
    ['singular_values']
    """
    drawn = {}
    settings: Any = dict(style)
    with mpl.rc_context(settings):
        for spec in fitting_specs(ds, only):
            figure = Figure(figsize=(size[0] * spec.panels, size[1]))
            panels = figure.subplots(1, spec.panels, squeeze=False)[0]
            draw_into(spec, ds, panels, title)
            drawn[spec.name] = figure
    return drawn


def fitting_specs(ds: xr.Dataset, only: Collection[str] = ()) -> list[FigureSpec]:
    """Return the figures whose variables a result has.

    Parameters
    ----------
    ds : xarray.Dataset
    only : collection of str
        Names of figures; by default all.

    Returns
    -------
    list of FigureSpec

    Raises
    ------
    InputError
        If the result has no figure of a name in ``only``.

    Examples
    --------
    >>> fitting_specs(xr.Dataset())
    []
    """
    fitting = {spec.name: spec for spec in figure_specs() if spec.fits(ds)}
    for name in only:
        if name not in fitting:
            raise InputError(f"this result has other figures: {unknown('figure', name, fitting)}")
    return [spec for name, spec in fitting.items() if not only or name in only]
