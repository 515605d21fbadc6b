"""One figure into given axes, or into new ones of the user's own style."""

from __future__ import annotations

import base64
import io
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gflow.errors import InputError
from gflow.plots.clear_places import move_clear
from gflow.plots.figure_spec import FigureSpec
from gflow.plots.observable import draw_observable
from gflow.plots.scales import mark_points, plain_ticks, scale_time
from gflow.plots.style import STYLE

_TITLE_WIDTH = 68  # characters above one panel
_NO_BREAK = re.compile(r"(?<![,;:]) (?=[\d(=<≤%])|(?<=[=<≤]) ")  # before numbers, in equations


def draw_into(spec: FigureSpec, ds: xr.Dataset, panels: Sequence[Axes], title: str = "") -> None:
    """Draw a figure into axes, with what was measured and a second line as its title.

    Parameters
    ----------
    spec : FigureSpec
    ds : xarray.Dataset
    panels : sequence of matplotlib.axes.Axes
        As many as the figure has panels; all those of their figure.
    title : str
        The second line.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> figure = Figure()
    >>> spec = FigureSpec("a", ("a",), lambda ds, axes: "what was measured", 1)
    >>> draw_into(spec, xr.Dataset(), [figure.subplots()], "a title")
    >>> figure.get_suptitle()
    'what was measured\\na title'
    """
    headline = wrapped(_drawn(spec, ds, panels), _TITLE_WIDTH * len(panels))
    text = "\n".join(filter(None, (headline, title)))
    if text:
        figure = panels[0].get_figure(root=False)
        if figure is not None:
            figure.suptitle(text, fontsize="medium", parse_math=False)


def draw_axes(
    spec: FigureSpec,
    ds: xr.Dataset,
    panels: Sequence[Axes],
    title: str | None,
    *,
    own: bool = False,
) -> None:
    """Draw a figure into the axes of a user, whose figure may hold others.

    Parameters
    ----------
    spec : FigureSpec
    ds : xarray.Dataset
    panels : sequence of matplotlib.axes.Axes
    title : str or None
        Of the first panel; None for what was measured.
    own : bool
        Whether the figure holds nothing else, and may have a title of its own.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes, spec = Figure().subplots(), FigureSpec("a", ("a",), lambda ds, axes: "measured", 1)
    >>> draw_axes(spec, xr.Dataset(), [axes], None)
    >>> axes.get_title()
    'measured'
    """
    headline = _drawn(spec, ds, panels)
    width = _TITLE_WIDTH * (len(panels) if own else 1)
    text = wrapped(headline, width) if title is None else title
    figure = panels[0].get_figure(root=False)
    if text and own and len(panels) > 1 and figure is not None:
        figure.suptitle(text, parse_math=False)
    elif text:
        panels[0].set_title(text, pad=_title_pad(panels[0]), parse_math=False)


def _drawn(spec: FigureSpec, ds: xr.Dataset, panels: Sequence[Axes]) -> str:
    """Draw a figure, make it readable whatever its values are, and return its title."""
    headline = spec.draw(ds, *panels) or ""
    scale_time(ds, panels)
    for axes in panels:
        plain_ticks(axes)
        mark_points(axes)
    move_clear(panels)
    return headline


def wrapped(text: str, width: int) -> str:
    """Return a text in as few lines as fit, all about as long; an equation stays on one.

    Parameters
    ----------
    text : str
    width : int
        Characters of the longest line.

    Returns
    -------
    str

    Examples
    --------
    >>> print(wrapped("The gap to the flow is at most 0.1 (η = 0.5)", 42))
    The gap to the flow is
    at most 0.1 (η = 0.5)
    """
    whole = _NO_BREAK.sub("\u00a0", text)
    most = len(textwrap.wrap(text, width))
    for narrow in range(max(1, len(text) // max(1, most)), width + 1):
        lines = textwrap.wrap(whole, narrow, break_on_hyphens=False, break_long_words=False)
        if len(lines) <= most and max(map(len, lines), default=0) <= narrow:
            return "\n".join(lines).replace("\u00a0", " ")
    return textwrap.fill(text, width)


def _title_pad(axes: Axes) -> float | None:
    """Return the points that a title must leave for a legend above the axes; None for none."""
    legend = axes.get_legend()
    if legend is None or legend.get_bbox_to_anchor().y0 < axes.bbox.y1 - 1:
        return None
    return 8.0 + legend.get_window_extent().height * 72 / axes.figure.dpi


def observable_spec(name: str) -> FigureSpec:
    """Return the figure of one variable over time, beside that of descents."""

    def draw(ds: xr.Dataset, axes: Axes) -> None:
        draw_observable(ds, axes, name)

    return FigureSpec(name, (name,), draw, 1)


def user_axes(panels: int, ax: Any = None) -> list[Axes]:
    """Return the axes that a user gave, or new ones in a figure of the user's own settings.

    Parameters
    ----------
    panels : int
        How many the drawing needs.
    ax : matplotlib.axes.Axes, or a sequence of them, optional

    Returns
    -------
    list of matplotlib.axes.Axes

    Raises
    ------
    InputError
        If their number is another.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> user_axes(1, axes) == [axes]
    True
    """
    if ax is None:
        import matplotlib.pyplot as plt

        width, height = plt.rcParams["figure.figsize"]
        _, made = plt.subplots(
            1, panels, figsize=(width * panels, height), squeeze=False, layout="constrained"
        )
        return list(made[0])
    given = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(given) != panels or not all(isinstance(axes, Axes) for axes in given):
        word = "axes" if panels == 1 else f"a sequence of {panels} axes, one a panel,"
        raise InputError(
            f"ax must be {word} of matplotlib, got {len(given)} of type "
            f"{type(given[0]).__name__ if given else 'nothing'}; write plt.subplots(1, {panels})"
        )
    return given


def thumbnail(spec: FigureSpec, ds: xr.Dataset) -> str:
    """Return a small picture of a figure, a PNG in base 64.

    Parameters
    ----------
    spec : FigureSpec
    ds : xarray.Dataset

    Returns
    -------
    str

    Examples
    --------
    >>> ds = xr.Dataset({"loss": ("time", [1.0, 0.5])}, {"time": [0.0, 1.0]})
    >>> thumbnail(observable_spec("loss"), ds)[:6]   # the first bytes of every PNG
    'iVBORw'
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * spec.panels, 2.5))
        panels = figure.subplots(1, spec.panels, squeeze=False)[0]
        draw_into(spec, ds, panels)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()
