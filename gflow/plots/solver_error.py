"""The solver's error beside what it is compared with: drawn where it is near, else written."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from gflow.plots.labels import Curve, label_level, note
from gflow.plots.scales import set_log_y

NEAR = 30.0  # an error, or a bound, that is drawn and not written


def draw_error(axes: Axes, drawn: np.ndarray, error: float, *, at: str = "lower left") -> None:
    """Scale the axes to what is drawn; draw the solver's error if it is near, else write it.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    drawn : ndarray
        All values of the curves.
    error : float
        NaN where it was not measured.
    at : str
        The corner for the note.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> draw_error(axes, np.array([0.1, 1.0]), 1e-12)
    >>> axes.texts[0].get_text()
    'solver error 1e-12, 11 decades below'
    """
    positive = drawn[np.isfinite(drawn) & (drawn > 0)]
    low = float(positive.min()) if positive.size else np.nan
    if not (np.isfinite(error) and error > 0):
        set_log_y(axes, drawn)
    elif error * NEAR >= low:
        set_log_y(axes, np.append(drawn, error))
        label_level(axes, error, "solver error", "grey", ls=":")
    else:
        set_log_y(axes, drawn)
        below = f"{np.log10(low / error):.0f} decades below"
        note(axes, f"solver error {error:.1g}, {below}", at=at)


def draw_error_path(
    axes: Axes, drawn: np.ndarray, time: np.ndarray, errors: np.ndarray
) -> list[Curve]:
    """Scale the axes to what is drawn; draw the solver's errors if they are near, else write them.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    drawn : ndarray
        All values of the other curves.
    time, errors : ndarray, shape (points,)
        NaN where an error was not measured.

    Returns
    -------
    list of Curve
        The drawn errors, to be labelled with the others; empty where they are far below.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes, times = Figure().subplots(), np.arange(3.0)
    >>> draw_error_path(axes, np.array([0.1, 1.0]), times, np.full(3, 1e-12))
    []
    >>> len(draw_error_path(axes, np.array([0.1, 1.0]), times, np.full(3, 0.01)))
    1
    """
    largest = float(np.nanmax(errors, initial=0.0))
    positive = drawn[np.isfinite(drawn) & (drawn > 0)]
    if not positive.size or largest * NEAR < positive.min():
        draw_error(axes, drawn, largest or np.nan)
        return []
    seen = errors > 0
    axes.plot(time[seen], errors[seen], ":", color="grey")
    set_log_y(axes, np.concatenate([drawn, errors[seen & (errors * NEAR > positive.min())]]))
    return [Curve(time[seen], errors[seen], "solver error", "grey")]
