"""Labels beside the ends of curves, which need no legend; curves that coincide share one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

_SAME = 2.5  # points between curves that nobody can tell apart
_GRID = 60  # places at which two curves are compared
_LINE_HEIGHT = 1.15  # of the font's size


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
    ['a and c', 'b']
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
    groups.sort(key=lambda group: paths[group[0]][-1, 1])
    size = 0.9 * float(axes.xaxis.label.get_fontsize())
    height = _LINE_HEIGHT * size * axes.figure.dpi / 72
    wanted = np.array([paths[group[0]][-1, 1] for group in groups])
    places = spread_apart(wanted, height)
    box, texts = axes.transAxes, []
    for group, place in zip(groups, places, strict=True):
        texts.append(joined([curves[i].label for i in group]))
        at = box.inverted().transform((0, place))[1]
        colour = curves[group[0]].colour if len(group) == 1 else "0.25"
        style: dict[str, Any] = {"va": "center", "ha": "left", "fontsize": size, "color": colour}
        axes.text(1.015, at, texts[-1], transform=box, clip_on=False, **style)
    return texts


def joined(labels: Sequence[str]) -> str:
    """Return labels as one text; a beginning that all have is written once.

    Examples
    --------
    >>> joined(["η = 0.4", "η = 0.2", "η = 0.1"]), joined(["flow", "η = 1"]), joined(["flow"])
    ('η = 0.4, 0.2 and 0.1', 'flow and η = 1', 'flow')
    """
    heads = {label.rpartition("= ")[0] for label in labels}
    if len(labels) > 1 and len(heads) == 1 and "" not in heads:
        labels = [labels[0], *(label.rpartition("= ")[2] for label in labels[1:])]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def spread_apart(wanted: np.ndarray, distance: float) -> np.ndarray:
    """Return places at least a distance apart, as near to the wanted, ascending ones as can be.

    Parameters
    ----------
    wanted : ndarray, shape (n,)
        Ascending.
    distance : float

    Returns
    -------
    ndarray, shape (n,)

    Examples
    --------
    >>> spread_apart(np.array([0.0, 1.0, 9.0]), 3.0).tolist()
    [-1.0, 2.0, 9.0]
    """
    # Blocks of neighbours that touch are centred on the mean of what they want.
    blocks: list[tuple[float, int]] = []  # sum of wanted − offset, and size
    offsets = distance * np.arange(len(wanted))
    for value in wanted - offsets:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            total, count = blocks.pop()
            blocks[-1] = (blocks[-1][0] + total, blocks[-1][1] + count)
    means = [_mean(block) for block in blocks for _ in range(block[1])]
    return np.array(means) + offsets


def _mean(block: tuple[float, int]) -> float:
    return block[0] / block[1]


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
