"""What a figure needs, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import xarray as xr

#: ``draw(dataset, *axes)`` returns the title, what was measured; None for none.
Draw = Callable[..., str | None]


class FigureSpec(NamedTuple):
    """A figure of a result.

    Attributes
    ----------
    name : str
        The name of its files.
    variables : tuple of str
        The variables that it needs.
    draw : callable
        ``draw(dataset, *axes)`` draws into as many axes as there are panels, and returns a title.
    panels : int
        The number of axes, side by side.
    priority : int
        Of several figures, ``plot()`` draws the one with the highest priority.
    """

    name: str
    variables: tuple[str, ...]
    draw: Draw
    panels: int
    priority: int = 0

    def fits(self, ds: xr.Dataset) -> bool:
        """Return whether a dataset has all variables that the figure needs."""
        return all(name in ds for name in self.variables)


def figure_spec(
    name: str, variables: Sequence[str], *, panels: int = 1, priority: int = 0
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
    priority : int
        Of several figures, ``plot()`` draws the one with the highest priority.

    Returns
    -------
    callable
        A decorator of ``draw(dataset, *axes)``.

    Examples
    --------
    >>> @figure_spec("example", ["loss_of_example"])
    ... def _example(ds, axes):
    ...     axes.plot(ds["time"], ds["loss_of_example"])
    ...     return f"the loss falls to {float(ds['loss_of_example'][-1]):.2g}"
    >>> _example.variables
    ('loss_of_example',)
    """

    def register(draw: Draw) -> FigureSpec:
        return FigureSpec(name, tuple(variables), draw, panels, priority)

    return register
