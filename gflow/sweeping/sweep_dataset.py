"""The dataset of a sweep, which can draw itself."""

from __future__ import annotations

from typing import Any

import xarray as xr
from xarray.plot.accessor import DatasetPlotAccessor


class SweepDataset(xr.Dataset):
    """The dataset of a sweep, which `load_sweep` returns; ``plot`` draws a quantity of it."""

    __slots__ = ()

    @property
    def plot(self) -> SweepPlot:  # type: ignore[override]
        """Draw y against x by ``plot(x, y, hue)``; ``plot.scatter`` and the rest are xarray's."""
        return SweepPlot(self)


class SweepPlot(DatasetPlotAccessor):
    """``plot(x, y, hue)`` of a sweep, beside the plots of every dataset."""

    def __call__(self, x: str, y: str, hue: str | None = None, *, ax: Any = None) -> Any:
        """Draw a quantity against a swept key: medians and bands over the other keys.

        Parameters
        ----------
        x : str
            A swept key, or another coordinate of y (``time``).
        y : str
            A numeric variable.
        hue : str, optional
            A swept key, with a curve for each value.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from gflow.views import plot_sweep

        return plot_sweep(self._ds, x, y, hue, ax=ax)
