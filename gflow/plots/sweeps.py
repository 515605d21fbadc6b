"""The figure of a sweep: one quantity against a swept key, medians and bands over the rest."""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gflow.errors import InputError
from gflow.plots.style import SIZE, STYLE, colour_of, draw_median_band, format_number
from gflow.text import unknown

_LABEL_WIDTH = 40  # characters
_ROUND_OFF = 1e-13  # a logarithmic axis excludes values below this share of the largest
_DECADE = 10.0  # an axis is logarithmic from this ratio of the largest value to the smallest


def sweep_figure(ds: xr.Dataset, x: str, y: str, hue: str | None = None) -> Figure:
    """Draw a quantity of a sweep against a swept key.

    Curves are medians, and bands the middle half, over all dimensions but those of x and hue.

    Parameters
    ----------
    ds : xarray.Dataset
        The dataset of a sweep, of `gflow.load_sweep`.
    x : str
        A swept key, or another coordinate of y (``time``).
    y : str
        A numeric variable.
    hue : str, optional
        A swept key, with a curve for each value.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a name is unknown, or no run with y is done.

    Examples
    --------
    >>> ds = xr.Dataset(
    ...     {"loss": ("width", [0.4, 0.2], {"long_name": "loss at the end"})},
    ...     {"width": ("width", [64, 128], {"long_name": "hidden width m"})},
    ... )
    >>> sweep_figure(ds, "width", "loss").axes[0].get_xlabel()
    'hidden width m'
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE)
        draw_sweep(ds, figure.subplots(), x, y, hue)
    return figure


def draw_sweep(ds: xr.Dataset, axes: Axes, x: str, y: str, hue: str | None = None) -> None:
    """Draw a quantity of a sweep against a swept key into given axes, as `sweep_figure` does.

    Parameters
    ----------
    ds : xarray.Dataset
    axes : matplotlib.axes.Axes
    x, y : str
    hue : str, optional

    Raises
    ------
    InputError
        As `sweep_figure`.

    Examples
    --------
    >>> ds = xr.Dataset({"loss": ("width", [0.4, 0.2], {"long_name": "loss"})})
    >>> ds = ds.assign_coords(width=("width", [64, 128], {"long_name": "width"}))
    >>> axes = Figure().subplots()
    >>> draw_sweep(ds, axes, "width", "loss")
    >>> axes.get_ylabel()
    'loss'
    """
    variables = [str(n) for n, v in ds.data_vars.items() if v.dtype.kind in "fiub"]
    if y not in variables:
        raise InputError(f"--y: {unknown('variable', y, variables)}")
    values = ds[y].astype(float)
    coordinates = [str(n) for n, c in values.coords.items() if c.ndim == 1]
    for option, name in (("--x", x), ("--hue", hue)):
        if name is not None and name not in coordinates:
            raise InputError(f"{option}: {unknown('coordinate', name, coordinates)}")
    across = ds[x].dims[0]
    along = None if hue is None else ds[hue].dims[0]
    if across == along:
        raise InputError(f"--hue must differ from --x, got {hue} along the same runs as {x}")
    if not np.isfinite(values).any():
        raise InputError(f"at least one run with {y} must be done; there is nothing to draw yet")
    front = [across] if along is None else [along, across]
    curves = values.transpose(*front, ...).values.reshape(
        1 if along is None else values.sizes[along], values.sizes[across], -1
    )
    at, labels = _positions(ds[x].values)
    for i, curve in enumerate(curves):
        if np.isfinite(curve).any():
            style: dict[str, Any] = {"color": colour_of(i), "marker": "o", "ms": 4}
            if hue is not None:
                style["label"] = f"{hue.replace('_', ' ')} = {_text(ds[hue].values[i])}"
            draw_median_band(axes, at, np.where(np.isfinite(curve), curve, np.nan).T, **style)
    _scales(axes, at, labels, curves)
    axes.set(xlabel=_label(ds[x]), ylabel=_label(ds[y]))
    if hue is not None:
        axes.legend()
    rest = [str(d) for d in values.dims if d not in front and values.sizes[d] > 1]
    if rest:
        text = f"median and middle half over {', '.join(rest).replace('_', ' ')}"
        axes.set_title(text, fontsize="small", color="grey")


def _positions(values: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
    """Return positions on an axis; for texts these are integers, with labels."""
    if values.dtype.kind in "fiu":
        return values.astype(float), None
    return np.arange(len(values), dtype=float), [str(value) for value in values]


def _scales(axes: Axes, at: np.ndarray, labels: list[str] | None, curves: np.ndarray) -> None:
    if labels is not None:
        axes.set_xticks(at, labels)
    elif _spans_a_decade(at):
        axes.set_xscale("log")
    if len(at) <= 8 and labels is None:
        axes.set_xticks(at, [format_number(value) for value in at])
        axes.minorticks_off()
    drawn = curves[np.isfinite(curves)]
    above = drawn[np.abs(drawn) > _ROUND_OFF * np.abs(drawn).max()]
    if _spans_a_decade(above):
        axes.set_yscale("log")
        if len(above) < len(drawn):
            axes.set_ylim(bottom=above.min() / 2)


def _spans_a_decade(values: np.ndarray) -> bool:
    return bool(values.size and values.min() > 0 and values.max() >= _DECADE * values.min())


def _text(value: object) -> str:
    return format_number(float(value)) if isinstance(value, float) else str(value)


def _label(array: xr.DataArray) -> str:
    label, units = str(array.attrs["long_name"]), array.attrs.get("units", "1")
    text = label if units in ("1", "") else f"{label}  ({units})"
    return textwrap.fill(text, _LABEL_WIDTH)
