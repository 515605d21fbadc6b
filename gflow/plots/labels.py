"""Labels beside the ends of curves, which need no legend; curves that coincide share one."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from gflow.plots.clear_places import LEVEL_ID, NOTE_ID, put_level, put_note, spread_apart

_SAME = 2.5  # points between curves that nobody can tell apart
_GRID = 60  # places at which two curves are compared
_LINE_HEIGHT = 1.15  # of the font's size
_WIDTH = 21  # characters of a line of a label


class Curve(NamedTuple):
    """A drawn curve and its label.

    Attributes
    ----------
    x, y : ndarray, shape (points,)
    label : str
    colour : str
    """

    x: np.ndarray
    y: np.ndarray
    label: str
    colour: str


def label_curves(axes: Axes, curves: Sequence[Curve]) -> list[str]:
    """Write labels to the right of the axes, beside the ends of curves.

    The limits and scales of the axes must be final.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    curves : sequence of Curve

    Returns
    -------
    list of str
        The texts from the lowest to the highest; those of curves that cannot be told apart are one.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> x, axes = np.arange(3.0), Figure().subplots()
    >>> _ = axes.plot(x, x**2), axes.set(xlim=(0, 2), ylim=(0, 5))
    >>> curves = [Curve(x, x, "a", "black"), Curve(x, x**2, "b", "red"), Curve(x, x, "c", "blue")]
    >>> label_curves(axes, curves)
    ['a and c coincide', 'b']
    """
    paths = [_visible(axes, curve) for curve in curves]
    groups: list[list[int]] = []
    for i, path in enumerate(paths):
        if len(path):
            group = next((g for g in groups if _coincide(paths[g[0]], path, axes)), None)
            if group is None:
                groups.append([i])
            else:
                group.append(i)
    if not groups:
        return []
    groups.sort(key=lambda group: round(paths[group[0]][-1, 1]))  # those that end together stay
    size = 0.9 * float(axes.xaxis.label.get_fontsize())
    texts = [joined([curves[i].label for i in group]) for group in groups]
    same = [f"{t} coincide" if len(g) > 1 else t for t, g in zip(texts, groups, strict=True)]
    written = [_wrapped(text) for text in same]
    line = _LINE_HEIGHT * size * axes.figure.dpi / 72
    heights = line * np.array([1 + text.count("\n") for text in written])
    wanted = np.array([paths[group[0]][-1, 1] for group in groups])
    box = axes.transAxes
    low, high = (float(box.transform((0, end))[1]) for end in (0, 1))
    places = spread_apart(wanted, heights, low, high + line / 2)
    for group, place, text in zip(groups, places, written, strict=True):
        at = box.inverted().transform((0, place))[1]
        colour = curves[group[0]].colour if len(group) == 1 else "0.25"
        style: dict[str, Any] = {"va": "center", "ha": "left", "fontsize": size, "color": colour}
        axes.text(1.015, at, text, transform=box, clip_on=False, **style)
    return written


def _wrapped(text: str) -> str:
    if "$" in text or "\n" in text:
        return text
    return textwrap.fill(text.replace(" = ", "\u00a0=\u00a0"), _WIDTH)  # not broken at "η ="


def note(axes: Axes, text: str, *, colour: str = "0.35", at: str = "lower left") -> None:
    """Write a short remark into a corner of the axes.

    Where it covers a curve, ``move_clear`` moves it to another corner.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    text : str
    colour : str
    at : {"lower left", "lower right", "upper left", "upper right"}

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> note(axes, "a remark", at="upper right")
    >>> axes.texts[0].get_text(), axes.texts[0].get_va()
    ('a remark', 'top')
    """
    box = {"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1.5}
    style: dict[str, Any] = {"fontsize": "small", "color": colour, "bbox": box}
    written = axes.text(0, 0, text, transform=axes.transAxes, **style)
    written.set_gid(NOTE_ID)
    put_note(written, at)


def label_level(
    axes: Axes, level: float, text: str, colour: str, *, below: bool = False, **style: Any
) -> None:
    """Draw a horizontal line across the axes, with its label at its left end.

    Where the label covers a curve, ``move_clear`` moves it to the other side or end.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    level : float
    text : str
    colour : str
    below : bool
        Whether the label is below the line instead of above it.
    **style
        Of the line.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> label_level(axes, 0.5, "2/η", "black", ls="--")
    >>> axes.lines[0].get_ydata()[0], axes.texts[0].get_text()
    (0.5, '2/η')
    """
    axes.axhline(level, color=colour, **{"lw": 1.0, **style})
    place: dict[str, Any] = {"xy": (0, level), "xycoords": ("axes fraction", "data")}
    offset: dict[str, Any] = {"xytext": (4, 2), "textcoords": "offset points"}
    look: dict[str, Any] = {"color": colour, "fontsize": "small", "annotation_clip": True}
    written = axes.annotate(text, **place, **offset, **look)
    written.set_gid(LEVEL_ID)
    put_level(written, "left below" if below else "left above")


def style_key(axes: Axes, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Write what marks and line styles mean in one row above the axes.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    entries : sequence of (str, dict)
        Texts, and the style of their lines.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> style_key(axes, [("flow", {"color": "black"}), ("descent", {"marker": "o", "ls": ""})])
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['flow', 'descent']
    """
    lines = [Line2D([], [], **{"color": "0.3", **style}) for _, style in entries]
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "ncols": 4}
    compact: dict[str, Any] = {"borderaxespad": 0.1, "columnspacing": 1.2, "handlelength": 1.6}
    axes.legend(lines, [text for text, _ in entries], **place, **compact, fontsize="small")


def joined(labels: Sequence[str]) -> str:
    """Return labels as one text; a beginning that all have is written once.

    Examples
    --------
    >>> joined(["η = 0.4", "η = 0.2", "η = 0.1"]), joined(["flow", "η = 2", "η = 1"])
    ('η = 0.4, 0.2 and 0.1', 'flow, η = 2 and 1')
    """
    short, last = [], ""
    for label in labels:
        head, equals, value = label.rpartition("= ")
        short.append(value if equals and head == last else label)
        last = head if equals else ""
    return short[0] if len(short) == 1 else f"{', '.join(short[:-1])} and {short[-1]}"


def _visible(axes: Axes, curve: Curve) -> np.ndarray:
    """Return the points of a curve within the axes, in pixels, shape (points, 2)."""
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    seen = np.isfinite(x) & np.isfinite(y) & (x >= left) & (x <= right) & (y >= low) & (y <= high)
    if not seen.any():
        return np.empty((0, 2))
    return np.asarray(axes.transData.transform(np.stack([x[seen], y[seen]], axis=1)))


def _coincide(first: np.ndarray, second: np.ndarray, axes: Axes) -> bool:
    low = max(first[:, 0].min(), second[:, 0].min())
    high = min(first[:, 0].max(), second[:, 0].max())
    width = axes.transAxes.transform((1, 0))[0] - axes.transAxes.transform((0, 0))[0]
    if high - low < 0.5 * width:
        return False
    grid = np.linspace(low, high, _GRID)
    apart = np.abs(np.interp(grid, *first.T) - np.interp(grid, *second.T))
    return bool(apart.max() * 72 / axes.figure.dpi <= _SAME)
