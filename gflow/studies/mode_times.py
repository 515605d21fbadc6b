r"""When the modes of a factorized matrix are learned, from starts of several scales.

From W = α·I a mode that grows at the rate σ of the gradient at 0 obeys ṡ = N s^{2−2/N}σ while all
of W is small, so that a start of another scale shifts its time by

    t(α₂) − t(α₁) = log(α₁/α₂)/(2σ)    at depth N = 2,
    t = c + C·α^{2/N−1}                 at depth N ≥ 3

(Gissin, Shalev-Shwartz & Daniely 2019, arXiv:1909.12051, theorem 1): the deeper, the further apart.
Time unit: t = k·step_size of descent on the layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.callbacks import Stages, as_stages
from gflow.checks import require_count, require_positive, shown
from gflow.display import Display, holds, span
from gflow.errors import InputError
from gflow.events import Event, rank_reaches
from gflow.flows import EndToEndFlow, Flow, SpectralFlow
from gflow.losses import Loss
from gflow.solvers.integrate import integrate
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.studies.arguments import distinct_positive, positive_numbers, study_options
from gflow.studies.crossings import event_time
from gflow.trajectory import Trajectory

_WITHIN = 1.5  # times the half-time of the last mode by theory: the end of a path
_RELAXED = 10.0  # units of time of the linear flow, depth 1

DEFAULTS = SolveOptions(points=300)


@dataclass(frozen=True, repr=False)
class ModeTimes(Display):
    """Half-times of the modes of W, one row for each scale of the start.

    Attributes
    ----------
    depth : int
    modes : tuple of float
        The singular values of the target, descending.
    growth_rate : float
        σ₁, the largest singular value of ∇ℓ(0).
    scales : tuple of float
        α, descending.
    paths : tuple of Trajectory
    singular_values : tuple of Tensor, each of shape (T, k)
        The k largest of W at every time.
    half_times : Tensor, shape (scales, k)
        When the largest k singular values have half of their targets; at depth 1, which does not
        reach the target, half of their last size. NaN where a path ends before.
    """

    depth: int
    modes: tuple[float, ...]
    growth_rate: float
    scales: tuple[float, ...]
    paths: tuple[Trajectory, ...]
    singular_values: tuple[Tensor, ...]
    half_times: Tensor

    def __repr__(self) -> str:
        order = "in order" if self.in_order else "not in order"
        return (
            f"ModeTimes(depth {self.depth}, {len(self.modes)} modes learned {order} from starts "
            f"{span(self.scales)}, {holds(*(path.certificate for path in self.paths))})"
        )

    @property
    def shifts(self) -> Tensor:
        """How much later the first mode is learned than from the scale before, (scales − 1,)."""
        return self.half_times[:, 0].diff()

    @property
    def theory(self) -> Tensor:
        """What theory gives for `shifts`, (scales − 1,).

        At depth 2 by σ₁ alone; deeper by the shift before, so that the first is NaN; NaN at
        depth 1, where no shift is small.
        """
        alphas = torch.tensor(self.scales, dtype=torch.float64)
        if self.depth == 1:
            return torch.full_like(self.shifts, math.nan)
        if self.depth == 2:
            return -alphas.log().diff() / (2 * self.growth_rate)
        growth = (alphas ** (2 / self.depth - 1)).diff()
        return torch.cat([growth[:1] * math.nan, self.shifts[:-1] * growth[1:] / growth[:-1]])

    @property
    def exponent(self) -> float | None:
        """The p of t = c + C·α^p that the last three scales have; None with fewer, or at N ≤ 2."""
        if self.depth < 3 or len(self.scales) < 3:
            return None
        from scipy.optimize import brentq

        logs = [math.log(alpha) for alpha in self.scales[-3:]]
        before, last = (float(x) for x in self.shifts[-2:])
        if not (before > 0 and last > 0):
            return None

        def misfit(p: float) -> float:
            first, second, third = (math.exp(p * (x - logs[0])) for x in logs)
            return (third - second) / (second - first) - last / before

        low, high = -5.0, -1e-9
        if misfit(low) * misfit(high) > 0:
            return None
        return float(brentq(misfit, low, high, xtol=1e-12))

    @property
    def in_order(self) -> bool:
        """Whether each mode is learned after the larger ones, from every start."""
        return bool((self.half_times.diff(dim=1) > 0).all())


def mode_times(
    loss: Loss,
    modes: Sequence[float],
    scales: Sequence[float],
    depth: int,
    *,
    t_end: float | None = None,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> ModeTimes:
    """Follow W from α·I for several α, until all modes of the target are learned.

    Parameters
    ----------
    loss : Loss
        ℓ(W).
    modes : sequence of float
        The singular values of the target.
    scales : sequence of float
        α.
    depth : int
        Number of layers N.
    t_end : float, optional
        The longest time; by default long enough, by theory.
    options : SolveOptions
        Of the solver; by default there are 300 points on each path.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for each path; True shows bars.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    ModeTimes

    Raises
    ------
    InputError
        If there are more modes than singular values, a mode is below a start, or arguments are out
        of range.

    Examples
    --------
    >>> import torch, math
    >>> from gflow.losses import SquaredDistance
    >>> loss = SquaredDistance(torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64)))
    >>> found = mode_times(loss, [2.0, 1.0], [1e-3, 1e-6], 2)
    >>> shift = found.half_times[1] - found.half_times[0]
    >>> [round(float(s), 3) for s in shift], round(math.log(1e3) / (2 * 2.0), 3)
    ([1.727, 3.454], 1.727)
    """
    if not isinstance(loss, Loss):
        raise InputError(
            f"loss must be one of gflow.losses, got {shown(loss)}; write mode_times("
            "loss, modes, scales, depth)"
        )
    options, stages = study_options(options, keywords), as_stages(stages)
    depth = require_count("depth", depth)
    t_end = None if t_end is None else require_positive("t_end", t_end)
    targets = sorted(positive_numbers("modes", modes), reverse=True)
    alphas = distinct_positive("scales", scales)
    if len(targets) > min(loss.shape):
        raise InputError(
            f"there must be at most {min(loss.shape)} modes in a matrix of shape "
            f"{tuple(loss.shape)}, got {len(targets)}; give fewer modes or a larger size"
        )
    if alphas[0] >= 0.5 * targets[-1]:
        raise InputError(
            f"starts must be below half of the least mode {targets[-1]:g}, got the scale "
            f"{alphas[0]:g}; use a smaller one"
        )
    zero = loss.reference_tensor.new_zeros(loss.shape)
    rate = float(torch.linalg.svdvals(loss.gradient(zero))[0])
    paths, sizes, halves = [], [], []
    for alpha in alphas:
        end = t_end or _longest(alpha, targets, depth, rate)
        flow, y0 = flow_from(loss, depth, alpha)
        ts = torch.linspace(0.0, end, options.points, dtype=torch.float64)
        progress = stages(f"start of {alpha:g}", end)
        path = integrate(flow, y0, ts, options=options, progress=progress)
        values = _largest(path, len(targets))
        levels = 0.5 * (values[-1] if depth == 1 else values.new_tensor(targets))
        halves.append([_reaches(path, values, k, float(x), options) for k, x in enumerate(levels)])
        paths.append(path)
        sizes.append(values)
    half_times = torch.tensor(halves, dtype=torch.float64)
    return ModeTimes(
        depth, tuple(targets), rate, tuple(alphas), tuple(paths), tuple(sizes), half_times
    )


def _longest(alpha: float, targets: Sequence[float], depth: int, rate: float) -> float:
    """Return a time at which the last mode is learned, with room for what theory leaves out."""
    if depth == 1:
        return _RELAXED * targets[0] / rate
    return _WITHIN * escape_time(alpha, 0.5 * targets[-1], depth, targets[-1] * rate / targets[0])


def _largest(path: Trajectory, count: int) -> Tensor:
    """Return the largest singular values of W at every time."""
    if isinstance(path.flow, SpectralFlow):
        return path.flow.log_singular_values(path.ys)[:, :count].exp()
    return torch.linalg.svdvals(path.ys)[:, :count]


def _reaches(
    path: Trajectory, values: Tensor, mode: int, level: float, options: SolveOptions
) -> float:
    """Return when a singular value reaches a level, by a solve between two of the path's times."""
    above = torch.nonzero(values[:, mode] >= level)
    if not len(above):
        return math.nan
    i = int(above[0])
    if i == 0:
        return float(path.ts[0])
    method = "auto" if path.stats.method != "exact" else "tsit5"
    return event_time(path, i, _mode_reaches(path.flow, mode, level), options, method)


def _mode_reaches(flow: Flow, mode: int, level: float) -> Event:
    """Return the event of a singular value that reaches a level; in logarithms where it can be.

    A trial step may overflow W, of which no singular value decomposition exists.
    """
    if not isinstance(flow, SpectralFlow):
        return rank_reaches(flow, mode + 1, level)
    spectral, log_level = flow, math.log(level)
    return lambda y: log_level - spectral.log_singular_values(y)[..., mode]


def flow_from(loss: Loss, depth: int, alpha: float) -> tuple[Flow, Tensor]:
    """Return the flow of W at some depth, and its state at W = α·I.

    Parameters
    ----------
    loss : Loss
    depth : int
    alpha : float

    Returns
    -------
    Flow, Tensor
        At depth 1 of W itself, deeper of its singular values and vectors.

    Examples
    --------
    >>> import torch
    >>> from gflow.losses import SquaredDistance
    >>> loss = SquaredDistance(torch.eye(2, dtype=torch.float64))
    >>> [type(flow_from(loss, depth, 0.1)[0]).__name__ for depth in (1, 2)]
    ['EndToEndFlow', 'SpectralFlow']
    """
    if depth == 1:
        like = loss.reference_tensor
        start = torch.eye(*loss.shape, dtype=like.dtype, device=like.device)
        return EndToEndFlow(loss, 1), alpha * start
    flow = SpectralFlow(loss, depth=depth)
    return flow, flow.start(log_scale=math.log(alpha))


def escape_time(start: float, end: float, depth: int, rate: float) -> float:
    """Return the time from one size to another of ṡ = N s^{2−2/N}·rate, for N ≥ 2.

    Parameters
    ----------
    start, end : float
    depth : int
    rate : float

    Returns
    -------
    float

    Examples
    --------
    >>> round(escape_time(1e-3, 1.0, 2, 3.0), 4), round(escape_time(1e-3, 1.0, 3, 3.0), 4)
    (1.1513, 3.0)
    """
    if depth == 2:
        return math.log(end / start) / (2 * rate)
    power = 2 / depth - 1
    return (end**power - start**power) / (depth * power * rate)
