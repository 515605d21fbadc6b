r"""The unobserved entry of a 2 × 2 matrix, which grows for ever while the loss falls.

With ℓ(W) = 1/6·((W₁₂ − 1)² + (W₂₁ − 1)² + W₂₂²), the mean over three observed entries of half the
square, and det W > 0, which the flow conserves: as the loss falls, no norm of W stays bounded,
and the rank tends to 1 (Razin & Cohen 2020, arXiv:2005.06398, theorem 1). Here
W₁₁·√(6ℓ) → 1. Time unit: t = k·step_size of descent on the layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.callbacks import Stages, as_stages
from gflow.checks import require_count, require_float, require_positive
from gflow.display import Display, holds, span
from gflow.errors import InputError
from gflow.events import loss_reaches
from gflow.flows import SpectralFlow
from gflow.losses import MatrixCompletion
from gflow.solvers.integrate import integrate
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.studies.arguments import positive_numbers, study_options
from gflow.studies.loss_progress import decades_of_loss
from gflow.trajectory import Trajectory

_LATEST = 10.0  # times ℓ^{−3/2}, the time that depth 2, the slowest, takes to a loss ℓ

DEFAULTS = SolveOptions(points=300)


@dataclass(frozen=True, repr=False)
class UnobservedEntry(Display):
    """Paths of 2 × 2 completion, one for each depth.

    Attributes
    ----------
    depths : tuple of int
    paths : tuple of Trajectory
        Each to the loss asked for.
    entries : tuple of Tensor, each of shape (T,)
        W₁₁.
    log_singular_values : tuple of Tensor, each of shape (T, 2)
    """

    depths: tuple[int, ...]
    paths: tuple[Trajectory, ...]
    entries: tuple[Tensor, ...]
    log_singular_values: tuple[Tensor, ...]

    def __repr__(self) -> str:
        depths = ", ".join(map(str, self.depths))
        ends = span([float(entries[-1]) for entries in self.entries])
        return (
            f"UnobservedEntry(depths {depths}, W₁₁ grows to {ends}, "
            f"{holds(*(path.certificate for path in self.paths))})"
        )


def two_by_two(like: Tensor) -> MatrixCompletion:
    """Return the loss: the three entries but W₁₁ of [[·, 1], [1, 0]].

    Examples
    --------
    >>> loss = two_by_two(torch.zeros(1, dtype=torch.float64))
    >>> round(float(loss(torch.zeros(2, 2, dtype=torch.float64))), 6)      # 2/6
    0.333333
    """
    values = like.new_tensor([[0.0, 1.0], [1.0, 0.0]])
    mask = torch.tensor([[False, True], [True, True]], device=like.device)
    return MatrixCompletion(values, mask)


def unobserved_entry(
    start: Tensor,
    depths: Sequence[int],
    loss_end: float,
    *,
    t_end: float | None = None,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> UnobservedEntry:
    """Follow W at several depths from one start to a small loss.

    Parameters
    ----------
    start : Tensor, shape (2, 2)
        W at the start, with det W > 0.
    depths : sequence of int
        Numbers of layers, at least 2.
    loss_end : float
        The loss at which a path ends.
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
    UnobservedEntry

    Raises
    ------
    InputError
        If det W is not positive at the start, or the start has a smaller loss.

    Examples
    --------
    >>> start = 1e-2 * torch.tensor([[1.2, 0.3], [0.3, 0.9]], dtype=torch.float64)
    >>> found = unobserved_entry(start, [3], 1e-2, rtol=1e-7, atol=0.0, points=20)
    >>> round(float(found.entries[0][-1]), 4)
    3.8562
    """
    options, stages = study_options(options, keywords), as_stages(stages)
    t_end = None if t_end is None else require_positive("t_end", t_end)
    start = require_float("start", start)
    if start.shape != (2, 2):
        raise InputError(f"start must have shape (2, 2), got {tuple(start.shape)}; reshape it")
    layers = sorted(
        {require_count("each of depths", n, 2) for n in positive_numbers("depths", depths)}
    )
    loss_end = require_positive("loss_end", loss_end)
    loss = two_by_two(start)
    determinant = float(torch.linalg.det(start))
    if not determinant > 0:
        raise InputError(
            f"the start must have a positive determinant, which the flow keeps, got "
            f"{determinant:.3g}; otherwise the entry need not grow"
        )
    if float(loss(start)) <= loss_end:
        raise InputError(
            f"loss_end must be below the loss of the start, {float(loss(start)):.3g}, got "
            f"{loss_end:g}; use a smaller one"
        )
    end = t_end or _LATEST * loss_end**-1.5
    later = torch.logspace(-9.0, 0.0, options.points - 1, dtype=torch.float64)
    if end > 1:
        later = torch.logspace(0.0, math.log10(end), options.points - 1, dtype=torch.float64) / end
    ts = end * torch.cat([torch.zeros(1, dtype=torch.float64), later])
    paths, entries, logs = [], [], []
    for depth in layers:
        flow = SpectralFlow(loss, depth=depth)
        path = integrate(
            flow,
            flow.start(start),
            ts,
            options=options,
            until=loss_reaches(flow, loss_end),
            progress=decades_of_loss(stages, f"depth {depth}", float(loss(start)), loss_end),
        )
        paths.append(path)
        entries.append(path.flow.end_to_end(path.ys)[:, 0, 0])
        logs.append(flow.log_singular_values(path.ys))
    return UnobservedEntry(tuple(layers), tuple(paths), tuple(entries), tuple(logs))
