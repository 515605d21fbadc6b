"""The registry of figures: what each needs, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import xarray as xr
from matplotlib.figure import Figure

Draw = Callable[[xr.Dataset, Figure], None]


class FigureSpec(NamedTuple):
    """A registered figure.

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


#: Every registered figure, by name.
FIGURES: dict[str, FigureSpec] = {}


def register_figure(
    name: str, variables: Sequence[str], *, panels: int = 1
) -> Callable[[Draw], Draw]:
    """Register the decorated function as a figure.

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

    Raises
    ------
    ValueError
        If a function of another module has the name.

    Examples
    --------
    >>> @register_figure("example", ["loss_of_example"])
    ... def _example(ds, figure):
    ...     figure.axes[0].plot(ds["time"], ds["loss_of_example"])
    >>> FIGURES.pop("example").variables
    ('loss_of_example',)
    """

    def register(draw: Draw) -> Draw:
        if name in FIGURES and FIGURES[name].draw.__module__ != draw.__module__:
            raise ValueError(
                f"figures must have different names, got '{name}' in "
                f"{FIGURES[name].draw.__module__} and {draw.__module__}; rename one"
            )
        FIGURES[name] = FigureSpec(name, tuple(variables), draw, panels)
        return draw

    return register
