"""What a figure needs, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import xarray as xr
from matplotlib.figure import Figure

Draw = Callable[[xr.Dataset, Figure], None]


class FigureSpec(NamedTuple):
    """A figure of a result.

    Attributes
    ----------
    name : str
        The name of its files.
    variables : tuple of str
        The variables that it needs.
    draw : callable
        ``draw(dataset, figure)`` draws into the axes of a figure.
    panels : int
        The number of axes, side by side.
    """

    name: str
    variables: tuple[str, ...]
    draw: Draw
    panels: int


def figure_spec(
    name: str, variables: Sequence[str], *, panels: int = 1
) -> Callable[[Draw], FigureSpec]:
    """Turn the decorated function into a figure, which `gflow.plots.figures` discovers.

    Parameters
    ----------
    name : str
        The name of the figure's files.
    variables : sequence of str
        The figure is drawn of every dataset that has all of these variables.
    panels : int
        The number of axes, side by side.

    Returns
    -------
    callable
        A decorator of ``draw(dataset, figure)``.

    Examples
    --------
    >>> @figure_spec("example", ["loss_of_example"])
    ... def _example(ds, figure):
    ...     figure.axes[0].plot(ds["time"], ds["loss_of_example"])
    >>> _example.variables
    ('loss_of_example',)
    """

    def register(draw: Draw) -> FigureSpec:
        return FigureSpec(name, tuple(variables), draw, panels)

    return register
