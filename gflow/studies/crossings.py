"""When a quantity along a path first reaches a level: between two of its times, or by a solve."""

from __future__ import annotations

import math

import numpy as np

from gflow.events import Event
from gflow.solvers.integrate import integrate
from gflow.solvers.options import SolveOptions
from gflow.trajectory import Trajectory


def passing_time(times: np.ndarray, values: np.ndarray, level: float) -> float:
    """Return when values first reach a level, by linear interpolation between two times.

    Parameters
    ----------
    times : ndarray, shape (n,)
        Ascending.
    values : ndarray, shape (n,)
        NaN after a path ended.
    level : float

    Returns
    -------
    float
        NaN if they never do.

    Examples
    --------
    >>> passing_time(np.array([0.0, 2.0, 4.0]), np.array([0.1, 0.5, 0.9]), 0.8)
    3.5
    """
    reached = np.flatnonzero(values >= level)
    if not len(reached):
        return math.nan
    i = int(reached[0])
    if i == 0:
        return float(times[0])
    low, high = values[i - 1], values[i]
    return float(times[i - 1] + (times[i] - times[i - 1]) * (level - low) / (high - low))


def event_time(
    path: Trajectory, i: int, event: Event, options: SolveOptions, method: str | None = None
) -> float:
    """Return when an event happens between two times of a path, by a solve from the first.

    Parameters
    ----------
    path : Trajectory
    i : int
        The second of the two times; at least 1.
    event : Event
    options : SolveOptions
    method : str, optional
        That of the options by default.

    Returns
    -------
    float
        The second time if the event does not happen before.

    Examples
    --------
    >>> import gflow
    >>> flow, start = gflow.KernelFlow.example()
    >>> path = gflow.integrate(flow, start, [0.0, 1.0])
    >>> event = gflow.events.loss_reaches(flow, 0.9 * float(path.losses[0]))
    >>> 0 < event_time(path, 1, event, SolveOptions("tsit5")) < 1
    True
    """
    span = path.ts[i - 1 : i + 1].tolist()
    leg = integrate(
        path.flow, path.ys[i - 1], span, method, options=options, until=event, estimate_error=False
    )
    return leg.event_times.get(0, span[1])
