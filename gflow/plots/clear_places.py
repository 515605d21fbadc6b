"""Places of texts that cover neither each other nor, where that can be, a curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from gflow.plots.style import format_number

CORNERS = ("lower left", "lower right", "upper left", "upper right")
LEVEL_PLACES = ("left above", "left below", "right above", "right below")
NOTE_ID, LEVEL_ID = "note", "level"  # of texts that may move
_ARROWS = "↓↑"  # before what is below or above the axes
_PAD = 4.0  # pixels around a text
_NONE = ("None", "none", "", " ", None)  # no marks, no line
_RING = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 24)])
_POINTS = 400  # of a curve, at which it is compared with a text
_TEXT = 1000  # points of a curve that another text counts for


def move_clear(panels: Sequence[Axes]) -> None:
    """Move notes and labels of levels to where they cover the least of what is drawn.

    Each stays where it is if nowhere is better. A level beyond the axes is written as a note with
    an arrow, ↓ or ↑; such notes stay at their side. The limits and scales of the axes must be
    final.

    Parameters
    ----------
    panels : sequence of matplotlib.axes.Axes

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from gflow.plots.labels import note
    >>> axes = Figure().subplots()
    >>> _ = axes.plot([0, 1], [0, 1]), note(axes, "a remark", at="lower left")
    >>> move_clear([axes])
    >>> axes.texts[0].get_ha(), axes.texts[0].get_va()
    ('right', 'bottom')
    """
    for axes in panels:
        for text in [text for text in axes.texts if text.get_gid() == LEVEL_ID]:
            if isinstance(text, Annotation):
                _note_beyond(axes, text)
        texts = [text for text in axes.texts if text.get_gid() in (NOTE_ID, LEVEL_ID)]
        if texts:
            points = np.concatenate([np.empty((0, 2)), *(_points(line) for line in axes.lines)])
            for text in texts:
                _move(axes, text, points)


def _note_beyond(axes: Axes, text: Annotation) -> None:
    """Write a level beyond the axes into a corner instead, with its value."""
    level, (low, high) = text.xy[1], sorted(axes.get_ylim())
    if low <= level <= high:
        return
    text.set(visible=False, gid=None)
    if np.isnan(level):
        return
    words = f"{_ARROWS[int(level > high)]} {text.get_text()}: {format_number(level)}"
    style: dict[str, Any] = {"fontsize": "small", "color": text.get_color()}
    written = axes.text(0, 0, words, transform=axes.transAxes, **style)
    written.set_gid(NOTE_ID)
    put_note(written, "upper left" if level > high else "lower left")


def _move(axes: Axes, text: Text, points: np.ndarray) -> None:
    seen = [other for other in axes.texts if other is not text and other.get_visible()]
    others = [other.get_window_extent() for other in seen]
    legend = axes.get_legend()
    if legend is not None:
        others.append(legend.get_window_extent())
    isnote = text.get_gid() == NOTE_ID
    now = _place_of(text)
    places = sorted(CORNERS if isnote else LEVEL_PLACES, key=lambda place: place != now)
    if isnote and text.get_text().startswith(tuple(_ARROWS)):
        places = [place for place in places if place.split()[0] == now.split()[0]]
    costs = []
    for place in places:
        (put_note if isnote else put_level)(text, place)
        box = text.get_window_extent().padded(_PAD if isnote else 0.0)
        inside = covered(box, points) + _TEXT * sum(box.overlaps(other) for other in others)
        # A label of a level near the edge may leave the axes on one side.
        outside = box.y0 < axes.bbox.y0 - 1 or box.y1 > axes.bbox.y1 + 0.5 * box.height
        costs.append(inside + _TEXT * int(outside and not isnote))
        if not costs[-1]:
            return
    (put_note if isnote else put_level)(text, places[int(np.argmin(costs))])


def covered(box: Bbox, points: np.ndarray) -> int:
    """Return how many points are in a box.

    Parameters
    ----------
    box : matplotlib.transforms.Bbox
        In pixels.
    points : ndarray, shape (points, 2)
        In pixels.

    Returns
    -------
    int

    Examples
    --------
    >>> covered(Bbox([[0, 0], [2, 2]]), np.array([[1.0, 1.0], [3.0, 1.0]]))
    1
    """
    x, y = points.T
    return int(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).sum())


def put_note(text: Text, corner: str) -> None:
    """Put a note into a corner of its axes.

    Parameters
    ----------
    text : matplotlib.text.Text
        In coordinates of the axes.
    corner : str
        One of ``CORNERS``.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> text = axes.text(0, 0, "a remark", transform=axes.transAxes)
    >>> put_note(text, "upper right")
    >>> text.get_position()
    (0.985, 0.98)
    """
    vertical, horizontal = corner.split()
    x, y = {"left": 0.015, "right": 0.985}[horizontal], {"lower": 0.02, "upper": 0.98}[vertical]
    side: Any = {"lower": "bottom", "upper": "top"}[vertical]
    text.set(position=(x, y), ha=horizontal, va=side)


def put_level(text: Text, place: str) -> None:
    """Put the label of a level at an end of its line, above or below.

    Parameters
    ----------
    text : matplotlib.text.Annotation
        At a fraction of the width and a value of the data.
    place : str
        One of ``LEVEL_PLACES``.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    >>> text = axes.annotate("a level", (0, 0.5), xytext=(4, 2), **place)
    >>> put_level(text, "right below")
    >>> text.xy, text.get_position(), text.get_va()
    ((1.0, 0.5), (-4, -2), 'top')
    """
    if not isinstance(text, Annotation):
        return
    horizontal, vertical = place.split()
    right, below = horizontal == "right", vertical == "below"
    text.xy = (float(right), text.xy[1])
    text.set_position((-4 if right else 4, -2 if below else 2))
    text.set(ha=horizontal, va="top" if below else "bottom")


def _place_of(text: Text) -> str:
    vertical, horizontal = text.get_verticalalignment(), text.get_horizontalalignment()
    if text.get_gid() == NOTE_ID:
        return f"{ {'bottom': 'lower', 'top': 'upper'}[vertical] } {horizontal}"
    return f"{horizontal} { {'bottom': 'above', 'top': 'below'}[vertical] }"


def _points(line: Line2D) -> np.ndarray:
    """Return points along a line, in pixels, shape (points, 2), close enough to miss no text."""
    data, axes = np.asarray(line.get_xydata(), float), line.axes
    if not len(data) or axes is None:
        return np.empty((0, 2))
    with np.errstate(all="ignore"):
        path = np.asarray(line.get_transform().transform(data))
    path = path[np.isfinite(path).all(axis=1)]
    path = np.clip(path, axes.bbox.p0 - 9, axes.bbox.p1 + 9)  # ends may be far away
    if line.get_marker() not in _NONE:
        radius = 0.5 * line.get_markersize() * axes.figure.dpi / 72
        path_of_marks = (path[:, None] + radius * _RING).reshape(-1, 2)
        if len(path) < 2 or line.get_linestyle() in _NONE:
            return path_of_marks
    if len(path) < 2:
        return path
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = np.linspace(0.0, along[-1], _POINTS)
    return np.stack([np.interp(at, along, path[:, 0]), np.interp(at, along, path[:, 1])], axis=1)


def spread_apart(
    wanted: np.ndarray, heights: np.ndarray, low: float = -np.inf, high: float = np.inf
) -> np.ndarray:
    """Return the centres of texts that do not overlap, as near to the wanted ones as can be.

    Parameters
    ----------
    wanted : ndarray, shape (n,)
        Ascending, at least one.
    heights : ndarray, shape (n,)
        Of the texts.
    low, high : float
        Between which the texts are; those that do not fit rise above ``high``.

    Returns
    -------
    ndarray, shape (n,)

    Examples
    --------
    >>> spread_apart(np.array([0.0, 1.0, 9.0]), np.array([3.0, 3.0, 1.0])).tolist()
    [-1.0, 2.0, 9.0]
    >>> spread_apart(np.array([0.0, 1.0, 9.0]), np.array([3.0, 3.0, 1.0]), low=0.0).tolist()
    [1.5, 4.5, 9.0]
    """
    # Blocks of neighbours that touch are centred on the mean of what they want.
    blocks: list[tuple[float, int]] = []  # sum of wanted − offset, and size
    offsets = np.concatenate([[0.0], np.cumsum((heights[1:] + heights[:-1]) / 2)])
    for value in wanted - offsets:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            total, count = blocks.pop()
            blocks[-1] = (blocks[-1][0] + total, blocks[-1][1] + count)
    means = np.array([_mean(block) for block in blocks for _ in range(block[1])])
    # The nearest within bounds: what would be beyond them is at them.
    means = np.minimum(means, high - offsets[-1] - heights[-1] / 2)
    return np.asarray(np.maximum(means, low + heights[0] / 2)) + offsets


def _mean(block: tuple[float, int]) -> float:
    return block[0] / block[1]
