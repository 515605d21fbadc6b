"""What users see of results: `plot`, `to_dataset`, `observables` and the forms in a notebook.

Trajectories, descents, gaps, studies and runs derive from `Display`. Its methods are the functions
of `gflow.views`, which is far above the packages that define those classes; they reach it through
the public package, when a user asks for a figure, and so import nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr
    from torch import Tensor


class Display:
    """Base class of everything that can be drawn."""

    __slots__ = ()

    def plot(self, observable: str | None = None, *, ax: Any = None, **options: Any) -> Any:
        """Draw one figure of this value; matplotlib's settings are those of the user.

        Parameters
        ----------
        observable : str, optional
            A figure (``loss``, ``singular_values``, ``gap``, …) or a variable of `to_dataset`; by
            default the one that shows the value best.
        ax : matplotlib.axes.Axes, or a sequence of them, optional
            Where to draw; by default a new figure.
        **options
            ``title`` and the other options of `gflow.plot`.

        Returns
        -------
        matplotlib.axes.Axes
            The axes with the drawing; an array of them where the figure has several panels.
        """
        return _views().plot(self, observable=observable, ax=ax, **options)

    def to_dataset(self) -> xr.Dataset:
        """Return labelled arrays, with the names and units of the file ``result.nc`` of runs."""
        return _views().to_dataset(self)

    def observables(self) -> dict[str, Tensor]:
        """Return the numeric variables of `to_dataset` as tensors by name."""
        return _views().tensors(self.to_dataset())

    def _lines(self) -> tuple[str, list[tuple[str, str]]]:
        """Return a verdict in words and labelled lines, for notebooks."""
        return _views().lines(self)

    def _repr_html_(self) -> str:
        return _views().html(self)


def holds(*certificates: Any) -> str:
    """Return whether certificates hold, for a short text."""
    return "certificate holds" if all(c.holds for c in certificates) else "DOES NOT HOLD"


def span(values: Any) -> str:
    """Return the largest and the smallest of some numbers as text.

    Examples
    --------
    >>> span([0.5, 0.25]), span([0.5])
    ('0.5 … 0.25', '0.5')
    """
    first, last = max(values), min(values)
    return f"{first:.3g}" if first == last else f"{first:.3g} … {last:.3g}"


def _views() -> Any:
    import gflow

    return gflow.views
