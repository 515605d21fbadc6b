r"""Plateaus of the loss along a path, and the jumps between them.

A plateau is a stretch of at least a given part of the path along which the loss falls by less than
a given part of its first value; a jump is at the time at which the loss is half-way between two
plateaus. A mode (a weight, or a singular value) is active on a plateau where it is above a given
part of the largest size of any along the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gflow.checks import require_fraction, require_positive, shown
from gflow.display import Display
from gflow.errors import InputError
from gflow.linalg.arrays import to_numpy
from gflow.studies.crossings import passing_time
from gflow.trajectory import Trajectory

_MODES = ("weights", "singular_values", "eigenvalues")


@dataclass(frozen=True, repr=False)
class Plateaus(Display):
    """Plateaus of a path and the jumps between them.

    Attributes
    ----------
    trajectory : Trajectory
        The path.
    unit : float
        What the times below are multiples of.
    times : tuple of float
        Times of the jumps, one fewer than plateaus, in the given unit.
    losses : tuple of float
        The loss on each plateau, in the middle of its time.
    intervals : tuple of (float, float)
        When each plateau begins and ends, in the given unit.
    active : tuple of tuple of int
        The modes that are active on each plateau; empty where the flow has none.
    half_times : mapping of int to float
        Of each mode, when it first has half of its last size, in the given unit.
    """

    trajectory: Trajectory
    unit: float
    times: tuple[float, ...]
    losses: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    active: tuple[tuple[int, ...], ...]
    half_times: Mapping[int, float]

    def __repr__(self) -> str:
        jumps = ", ".join(f"{t:.4g}" for t in self.times) or "none"
        return f"Plateaus({len(self.losses)} plateaus, jumps at {jumps})"


def plateaus(
    trajectory: Trajectory,
    *,
    unit: float = 1.0,
    flat: float = 0.01,
    shortest: float = 0.01,
    threshold: float = 1e-2,
) -> Plateaus:
    """Find the plateaus of the loss along a path, and the jumps between them.

    Parameters
    ----------
    trajectory : Trajectory
        Of one start, at times close enough to resolve the jumps.
    unit : float
        Of the times that are returned, such as log(1/α).
    flat : float
        How much the loss may fall on a plateau, relative to its first value.
    shortest : float
        The shortest plateau, relative to the time of the whole path.
    threshold : float
        The size from which a mode is active, relative to the largest of any mode on the path.

    Returns
    -------
    Plateaus

    Raises
    ------
    InputError
        If the path is one of an ensemble, or a number is out of range.

    Examples
    --------
    >>> import torch, gflow
    >>> X, y = torch.eye(2).double(), torch.tensor([2.0, -1.0]).double()
    >>> flow, log_alpha = gflow.DiagonalFlow(X, y), -2302.6
    >>> ts = torch.linspace(0, 3000, 301).double()
    >>> path = gflow.integrate(flow, flow.start(log_scale=log_alpha), ts)
    >>> found = gflow.studies.plateaus(path, unit=-log_alpha / 2)
    >>> [round(t, 2) for t in found.times], [round(x, 3) for x in found.losses], found.active
    ([1.0, 2.0], [1.25, 0.25, 0.0], ((), (0,), (0, 1)))
    """
    if not isinstance(trajectory, Trajectory):
        raise InputError(
            f"plateaus needs a trajectory, got {shown(trajectory)}; pass gflow.integrate(...)"
        )
    losses = to_numpy(trajectory.losses)
    if losses.ndim > 1:
        raise InputError(
            f"plateaus needs the path of one start, got an ensemble of shape {losses.shape[1:]}; "
            "integrate its members one by one"
        )
    unit = require_positive("unit", unit)
    flat, shortest = require_fraction("flat", flat), require_fraction("shortest", shortest)
    threshold = require_fraction("threshold", threshold)
    ts = to_numpy(trajectory.ts)
    stretches = _stretches(ts, losses, flat * abs(losses[0]), shortest * (ts[-1] - ts[0]))
    middle = [int(np.searchsorted(ts, 0.5 * (ts[a] + ts[b]))) for a, b in stretches]
    levels = [float(losses[i]) for i in middle]
    jumps = []
    for (_, a), (b, _), up, down in zip(stretches, stretches[1:], levels, levels[1:], strict=False):
        half = 0.5 * (up + down)
        jumps.append(_crossing(ts[a : b + 1], -losses[a : b + 1], -half) / unit)
    sizes = _sizes(trajectory)
    largest = threshold * sizes.max(initial=0.0)
    active = tuple(tuple(np.flatnonzero(sizes[i] > largest).tolist()) for i in middle)
    half_times = {}
    for mode in np.flatnonzero(sizes[-1] > largest) if sizes.size else ():
        half_times[int(mode)] = _crossing(ts, sizes[:, mode], 0.5 * sizes[-1, mode]) / unit
    return Plateaus(
        trajectory,
        unit,
        tuple(jumps),
        tuple(levels),
        tuple((float(ts[a]) / unit, float(ts[b]) / unit) for a, b in stretches),
        active,
        half_times,
    )


def _stretches(
    ts: np.ndarray, losses: np.ndarray, fall: float, duration: float
) -> list[tuple[int, int]]:
    """Return first and last index of each plateau."""
    found: list[tuple[int, int]] = []
    i = 0
    while i < len(ts) - 1:
        beyond = np.flatnonzero(np.abs(losses[i:] - losses[i]) > fall)
        j = i + int(beyond[0]) - 1 if beyond.size else len(ts) - 1
        if j == i or ts[j] - ts[i] < duration:
            i += 1
            continue
        if found and abs(losses[found[-1][1]] - losses[i]) <= fall:
            found[-1] = (found[-1][0], j)  # one plateau on which the loss creeps
        else:
            found.append((i, j))
        i = j
    return found


def _crossing(ts: np.ndarray, values: np.ndarray, level: float) -> float:
    """Return when values first reach a level; the last time if they never do."""
    t = passing_time(ts, values, level)
    return float(ts[-1]) if np.isnan(t) else t


def _sizes(trajectory: Trajectory) -> np.ndarray:
    """Return the sizes of the modes at every time, (T, modes); (T, 0) where there are none."""
    seen = trajectory.flow.observables(trajectory.ys)
    for name in _MODES:
        if name in seen:
            return np.abs(to_numpy(seen[name]))
    return np.zeros((len(trajectory.ts), 0))
