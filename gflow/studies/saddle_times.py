r"""From saddle to saddle: a diagonal network from ever smaller starts, beside the limit α → 0.

From u = v = α·1 the weights stay near saddles of 1/(2n)‖Xw − y‖² for times of the order of
log(1/α), and jump between them at times that, in units of log(1/α)/2, tend to those of the
algorithm of Pesme & Flammarion (2023, arXiv:2304.00488). Some jumps switch weights off again. A
jump is at the time at which the loss first is half-way between two saddles' losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.baselines import saddle_sequence
from gflow.baselines.saddles import SaddleSequence
from gflow.callbacks import Stages, as_stages
from gflow.checks import require_count, require_positive
from gflow.display import Display, holds
from gflow.errors import InputError
from gflow.events import loss_reaches
from gflow.flows import DiagonalFlow
from gflow.solvers.integrate import integrate
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.studies.arguments import distinct_positive, study_options
from gflow.studies.crossings import event_time
from gflow.text import power_of_ten
from gflow.trajectory import Trajectory

_BEYOND = 1.1  # times the last jump: the end of a path, unless the next jump is near

DEFAULTS = SolveOptions(points=300)


@dataclass(frozen=True, repr=False)
class SaddleTimes(Display):
    """Jump times of diagonal networks beside those of the limit.

    Attributes
    ----------
    limit : SaddleSequence
        The saddles, and the times of the jumps between them; the jumps that were followed.
    powers : tuple of float
        p of each start α = 10^−p, ascending.
    paths : tuple of Trajectory
    weights : tuple of Tensor, each of shape (T, d)
    times : Tensor, shape (powers, jumps)
        In units of log(1/α)/2; NaN where a path ends before.
    switched_off : tuple of (int, int)
        (jump, weight) for every weight that a jump of the limit switches off, from 0.
    """

    limit: SaddleSequence
    powers: tuple[float, ...]
    paths: tuple[Trajectory, ...]
    weights: tuple[Tensor, ...]
    times: Tensor
    switched_off: tuple[tuple[int, int], ...]

    def __repr__(self) -> str:
        last = f"within {float(self.distances[-1]):.2g} of the limit at α = 1e-{self.powers[-1]:g}"
        return (
            f"SaddleTimes({self.times.shape[1]} jumps from {len(self.powers)} starts, {last}, "
            f"{holds(*(path.certificate for path in self.paths))})"
        )

    @property
    def distances(self) -> Tensor:
        """The largest distance of a jump from that of the limit, for each start."""
        return (self.times - self.limit.times).abs().amax(dim=1)


def unit_of(power: float) -> float:
    """Return the unit of the times from α = 10^−power, log(1/α)/2."""
    return 0.5 * power * math.log(10)


def saddle_times(
    inputs: Tensor,
    targets: Tensor,
    powers: Sequence[float],
    jumps: int,
    *,
    t_end: float | None = None,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> SaddleTimes:
    """Follow diagonal networks from several starts through the first jumps.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        X.
    targets : Tensor, shape (n,)
        y.
    powers : sequence of float
        p of the starts u = v = 10^−p·1.
    jumps : int
        How many jumps to follow.
    t_end : float, optional
        The length of the paths, in units of log(1/α)/2; by default long enough, by theory.
    options : SolveOptions
        Of the solver; by default there are 300 points on each path.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for each path; True shows bars.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    SaddleTimes

    Raises
    ------
    InputError
        If the network does not jump at all.

    Examples
    --------
    >>> import torch
    >>> X, y = torch.eye(2).double(), torch.tensor([2.0, -1.0]).double()
    >>> found = saddle_times(X, y, [1000], 2)
    >>> found.limit.times.tolist(), [round(t, 2) for t in found.times[0].tolist()]
    ([1.0, 2.0], [1.0, 2.0])
    """
    options, stages = study_options(options, keywords), as_stages(stages)
    t_end = None if t_end is None else require_positive("t_end", t_end)
    flow = DiagonalFlow(inputs, targets)
    exponents = distinct_positive("powers", powers)[::-1]
    whole = saddle_sequence(inputs, targets)
    count = min(require_count("jumps", jumps), len(whole.times))
    if not count:
        raise InputError("the network must jump, but w = 0 is the solution; use other targets")
    limit = SaddleSequence(
        whole.times[:count], whole.weights[: count + 1], whole.losses[: count + 1]
    )
    end = t_end or _end(whole.times.tolist(), count)
    levels = 0.5 * (limit.losses[:-1] + limit.losses[1:])
    paths, weights, times = [], [], []
    for power in exponents:
        unit = unit_of(power)
        ts = torch.linspace(0.0, end * unit, options.points, dtype=torch.float64)
        progress = stages(f"start of {power_of_ten(-power)}", end * unit)
        start = flow.start(log_scale=-power * math.log(10))
        path = integrate(flow, start, ts, options=options, progress=progress)
        paths.append(path)
        weights.append(path.flow.end_to_end(path.ys))
        times.append([_falls_to(path, float(level), options) / unit for level in levels])
    active = limit.weights != 0
    off = torch.nonzero(active[:-1] & ~active[1:])
    return SaddleTimes(
        limit,
        tuple(exponents),
        tuple(paths),
        tuple(weights),
        torch.tensor(times, dtype=torch.float64),
        tuple((int(i), int(j)) for i, j in off),
    )


def _end(times: Sequence[float], count: int) -> float:
    """Return a time after a jump and well before the next."""
    last = times[count - 1]
    return (
        min(_BEYOND * last, 0.5 * (last + times[count])) if count < len(times) else _BEYOND * last
    )


def _falls_to(path: Trajectory, level: float, options: SolveOptions) -> float:
    """Return when the loss first is at a level, by a solve between two of the path's times."""
    below = torch.nonzero(path.losses <= level)
    if not len(below):
        return math.nan
    return event_time(path, max(1, int(below[0])), loss_reaches(path.flow, level), options)
