r"""Plateaus of linear attention that learns regression in context, beside theory.

From a small start, linear attention with separate keys and queries of rank one learns the principal
directions of the inputs one after another: each plateau of its loss is a saddle at which m of them
are learned, with the loss

    L_m = ½ [tr Λ − Σ_{d ≤ m} λ_d / (1 + (1 + tr Λ/λ_d)/N)]

for inputs of covariance Λ, functions w ~ N(0, I) and N examples (Zhang, Singh, Latham & Saxe 2025,
arXiv:2501.16265, section 5: its loss is twice this one). On a finite sample of contexts with second
moments S the same saddles are the best maps A of rank m in ½ E tr (I − SA)ᵀ(I − SA)Λ.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from gflow.callbacks import Stages, as_stages
from gflow.checks import require_count, require_positive, require_tensor
from gflow.display import Display, holds
from gflow.errors import InputError
from gflow.events import loss_reaches
from gflow.flows import Flow
from gflow.flows.starts import single_start
from gflow.linalg.arrays import to_numpy
from gflow.solvers.integrate import integrate
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.studies.arguments import study_options
from gflow.trajectory import Trajectory

_USAGE = "context_plateaus(flow, y0, theory, sample, t_end=t)"
_NEAR = 1e-3  # of the last fall: a path ends this near to the last level
_FIRST = 1e-4  # of the last time: the first one that is measured after 0

DEFAULTS = SolveOptions(points=150)


@dataclass(frozen=True, repr=False)
class ContextPlateaus(Display):
    """A path of linear attention from plateau to plateau.

    Attributes
    ----------
    path : Trajectory
    times : Tensor, shape (D + 1,)
        When the path is nearest to each saddle: where the gradient is least between the falls. NaN
        for those that it does not reach.
    heights : Tensor, shape (D + 1,)
        The loss there.
    theory, sample : Tensor, shape (D + 1,)
        L_m at the covariance of the sample, and of the best maps of rank m on the sample.
    """

    path: Trajectory
    times: Tensor
    heights: Tensor
    theory: Tensor
    sample: Tensor

    def __repr__(self) -> str:
        reached = int(torch.isfinite(self.heights).sum())
        return (
            f"ContextPlateaus({reached} of {len(self.theory)} plateaus, heights within "
            f"{self.theory_error:.2%} of theory and {self.sample_error:.2%} of the sample's best "
            f"maps, {holds(self.path.certificate)})"
        )

    @property
    def theory_error(self) -> float:
        """The largest relative difference of a height from theory."""
        return float(np.nanmax(to_numpy((self.heights / self.theory - 1).abs())))

    @property
    def sample_error(self) -> float:
        """The largest relative difference of a height from the best map on the sample."""
        return float(np.nanmax(to_numpy((self.heights / self.sample - 1).abs())))


def context_levels(covariance: Tensor, length: int) -> Tensor:
    """Compute L_0, …, L_D by theory.

    Parameters
    ----------
    covariance : Tensor, shape (D, D)
        Λ.
    length : int
        N.

    Returns
    -------
    Tensor, shape (D + 1,)

    Raises
    ------
    InputError
        If the covariance is no square matrix, or the length no positive whole number.

    Examples
    --------
    >>> context_levels(torch.eye(1, dtype=torch.float64), 2).tolist()   # ½, and ½(1 − 1/2)
    [0.5, 0.25]
    """
    covariance = require_tensor("covariance", covariance)
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise InputError(
            f"covariance must be a square matrix, got shape {tuple(covariance.shape)}; reshape it"
        )
    values = torch.linalg.eigvalsh(covariance).flip(0)
    length = require_count("length", length)
    learned = values / (1 + (1 + values.sum() / values) / length)
    return 0.5 * (values.sum() - torch.cat([values.new_zeros(1), learned.cumsum(0)]))


def best_levels(second_moments: Tensor, covariance: Tensor) -> Tensor:
    """Compute the loss of the best maps A of rank 0, …, D on a sample of contexts.

    Parameters
    ----------
    second_moments : Tensor, shape (contexts, D, D)
        S of each.
    covariance : Tensor, shape (D, D)
        Λ of the queries.

    Returns
    -------
    Tensor, shape (D + 1,)

    Examples
    --------
    >>> S = torch.tensor([[[1.0]], [[3.0]]], dtype=torch.float64)   # E S = 2, E S² = 5
    >>> best_levels(S, torch.eye(1, dtype=torch.float64))   # ½, and ½(1 − 4/5)
    tensor([0.5000, 0.1000], dtype=torch.float64)
    """
    mean, square = second_moments.mean(0), (second_moments @ second_moments).mean(0)
    left = torch.linalg.cholesky(square)
    whitened = torch.linalg.solve_triangular(left, mean, upper=False)
    fits = torch.linalg.svdvals(whitened @ torch.linalg.cholesky(covariance)).square()
    return 0.5 * (covariance.trace() - torch.cat([fits.new_zeros(1), fits.cumsum(0)]))


def context_plateaus(
    flow: Flow,
    y0: Tensor,
    theory: Tensor,
    sample: Tensor,
    *,
    t_end: float,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> ContextPlateaus:
    """Follow linear attention from a small start until all directions are learned.

    Parameters
    ----------
    flow : Flow
        Of a network of linear attention, with the halved squared error.
    y0 : Tensor, shape (p,)
        A small start.
    theory, sample : Tensor, shape (D + 1,)
        Levels of the loss by `context_levels` and `best_levels`.
    t_end : float
        The longest time; the path ends sooner where the last fall is done to 0.1 %.
    options : SolveOptions
        Of the solver.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for the path; True shows a bar.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    ContextPlateaus

    Raises
    ------
    InputError
        If the levels do not fall or differ in number, or the start is an ensemble.

    Examples
    --------
    >>> import gflow                           # a loss with saddles at 1, ½ and 0
    >>> valley = gflow.flow_from_loss(lambda u: 0.5 * ((1 - u[:2].square()) ** 2).sum(), shape=2)
    >>> start, levels = torch.tensor([1e-2, 1e-5]).double(), torch.tensor([1.0, 0.5, 0.0]).double()
    >>> found = context_plateaus(valley, start, levels, levels + 1e-9, t_end=20.0)
    >>> [round(float(height), 2) for height in found.heights]
    [1.0, 0.5, 0.0]
    """
    options, stages = study_options(options, keywords), as_stages(stages)
    flow, y0 = single_start("context_plateaus", flow, y0, _USAGE)
    t_end = require_positive("t_end", t_end)
    theory, sample = require_tensor("theory", theory), require_tensor("sample", sample)
    for name, levels in (("theory", theory), ("sample", sample)):
        is_row = levels.ndim == 1 and len(levels) == len(theory) > 1
        if not is_row or not bool((levels.diff() < 0).all()):
            raise InputError(
                f"{name} must be two or more falling levels, as many as of theory, got "
                f"{levels.tolist()}; take those of context_levels and best_levels"
            )
    first, last = np.log10(_FIRST * t_end), np.log10(t_end)
    ts = torch.logspace(first, last, max(2, options.points) - 1, dtype=torch.float64)
    ts = torch.cat([torch.zeros(1, dtype=torch.float64), ts.clamp_max(t_end)])
    end = sample[-1] + _NEAR * (sample[-2] - sample[-1])
    path = integrate(
        flow, y0, ts, options=options, until=loss_reaches(flow, float(end)),
        progress=stages("the flow", t_end),
    )  # fmt: skip
    times, heights = _nearest(path, to_numpy(sample))
    return ContextPlateaus(path, times, heights, theory, sample)


def _nearest(path: Trajectory, levels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return when the path is nearest to each saddle, and the loss there."""
    ts, losses = to_numpy(path.ts), to_numpy(path.losses)
    speeds = np.array(
        [float(path.flow(t, y).norm()) for t, y in zip(path.ts, path.ys, strict=True)]
    )
    middles = 0.5 * (levels[1:] + levels[:-1])
    below = [np.flatnonzero(losses < middle) for middle in middles]
    cuts = [0, *(int(b[0]) if len(b) else len(ts) for b in below), len(ts)]
    found = np.full((2, len(levels)), np.nan)
    for m, (begin, end) in enumerate(itertools.pairwise(cuts)):
        if begin < end:
            # At the last level the path only ends: its last state is the nearest.
            i = begin + int(np.argmin(speeds[begin:end])) if m < len(levels) - 1 else end - 1
            found[:, m] = ts[i], losses[i]
    times, heights = torch.as_tensor(found)
    return times, heights
