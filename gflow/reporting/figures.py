"""Figures of a report: SVG inside the page, each with a text for those who cannot see it.

A figure is an image with a ``data:`` address: it is vector graphics that a browser enlarges without
loss, it loads nothing, and nothing in it can run.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gflow.plots.style import STYLE, colour_of
from gflow.reporting.comparison import CurveDifference
from gflow.runs.reading import Run
from gflow.text import printable

_CURVES_SHOWN = 6
#: What the commands of formulas in labels say.
_SYMBOLS = {"lambda": "λ", "nabla": "∇", "Sigma": "Σ", "eta": "η", "theta": "θ", "top": "ᵀ"}
_SYMBOLS |= {"cdots": "⋯", "cdot": "·", "propto": "∝", "times": "×", "|": "‖", "sqrt": "√"}
_DECADES = 1e3  # an axis is logarithmic from this ratio of the largest value to the smallest


@dataclass(frozen=True)
class ReportFigure:
    """A figure of a report.

    Attributes
    ----------
    name : str
        As that of its file in ``figures/``.
    title : str
        What was measured.
    alt : str
        The axes and curves, in words.
    source : str
        The address of the image, with the whole image in it.
    is_wide : bool
        Whether it has several panels, which need the width of the page.
    """

    name: str
    title: str
    alt: str
    source: str
    is_wide: bool


def report_figure(name: str, figure: Figure, second_line: str = "") -> ReportFigure:
    """Return a matplotlib figure as part of a page.

    Parameters
    ----------
    name : str
    figure : matplotlib.figure.Figure
        Its title says what was measured; without one the name stands for it.
    second_line : str
        The end of the title, which the caption leaves out.

    Returns
    -------
    ReportFigure

    Examples
    --------
    >>> figure = Figure()
    >>> _ = figure.subplots().set(xlabel="time", ylabel="loss", yscale="log")
    >>> report_figure("loss", figure).alt
    'Plot of loss (logarithmic) against time.'
    """
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "gflow", "svg.fonttype": "path"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]  # without the address of a document type
    encoded = base64.b64encode(svg.encode()).decode()
    headline = printable(figure.get_suptitle().removesuffix(second_line))
    title = headline or name.replace("_", " ")
    source = f"data:image/svg+xml;base64,{encoded}"
    return ReportFigure(name, title, _alt(figure), source, len(figure.axes) > 1)


def _alt(figure: Figure) -> str:
    return " ".join(_axes_text(axes) for axes in figure.axes if axes.get_visible())


def _axes_text(axes: Axes) -> str:
    x, y = (_words(label) or "values" for label in (axes.get_xlabel(), axes.get_ylabel()))
    scale = " (logarithmic)" if axes.get_yscale() == "log" else ""
    legend = axes.get_legend()
    entries = [] if legend is None else [_words(t.get_text()) for t in legend.get_texts()]
    names = "; ".join(entry for entry in entries if entry)
    return f"Plot of {y}{scale} against {x}." + (f" Shown are: {names}." if names else "")


def _words(label: str) -> str:
    """Return a label without the marks of formulas."""
    without_commands = re.sub(r"\\(?:mathrm|mathbf|left|right|,|;|!)", "", label)
    plain = re.sub(r"\\([A-Za-z]+|\|)", lambda m: _SYMBOLS.get(m[1], m[1]), without_commands)
    return printable(re.sub(r"\^(?=ᵀ)|[${}\\]", "", plain))


def overlays(
    runs: Sequence[Run], labels: Sequence[str], curves: Iterable[CurveDifference]
) -> list[ReportFigure]:
    """Draw the curves over time that differ, one figure for each, with a line for each run.

    Parameters
    ----------
    runs : sequence of Run
    labels : sequence of str
        The name of each run in the legends.
    curves : iterable of CurveDifference
        The differences of the curves, of which the largest are drawn.

    Returns
    -------
    list of ReportFigure

    Examples
    --------
    >>> overlays([], [], [])
    []
    """
    drawn: list[ReportFigure] = []
    for curve in sorted(curves, key=lambda curve: curve.name not in ("loss", "flow_loss")):
        if len(drawn) < _CURVES_SHOWN and curve.largest > 0:
            arrays = [run.result.get(curve.name) for run in runs]
            if all(a is None or a.dims == ("time",) for a in arrays):
                drawn.append(_overlay(curve, arrays, labels))
    return drawn


def _overlay(
    curve: CurveDifference, arrays: Sequence[xr.DataArray | None], labels: Sequence[str]
) -> ReportFigure:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.9))
        axes = figure.subplots()
        values = []
        for i, (array, label) in enumerate(zip(arrays, labels, strict=True)):
            if array is not None:
                dashes = ("-", "--", ":", "-.")[i % 4]  # curves that coincide are both seen
                (line,) = axes.plot(array["time"], array, dashes, color=colour_of(i))
                line.set_label(_no_formula(label))
                values.append(np.asarray(array.values, float))
        finite = np.concatenate(values)
        finite = finite[np.isfinite(finite)]
        if finite.size and finite.min() > 0 and finite.max() > _DECADES * finite.min():
            axes.set_yscale("log")
        axes.set_xlabel("time t  (step size × steps)")
        axes.set_ylabel(curve.long_name, parse_math=False)
        axes.legend()
        figure.suptitle(
            f"{curve.name.replace('_', ' ')} of the runs", fontsize=10, parse_math=False
        )
        return report_figure(f"compare-{curve.name}", figure)


def _no_formula(label: str) -> str:
    return label.replace("$", r"\$")
