r"""Matrix completion by deep factorization, beside the matrix of least nuclear norm that fits.

All layers W_j are d × d with Gaussian entries of standard deviation α^{1/N}·d^{−1/2}, N the depth,
so that W = W_N⋯W_1 has entries of the order of α·d^{−1/2} (Arora et al. 2019, arXiv:1905.13655,
section 2 and appendix D). The flow on 1/(2|Ω|) Σ_Ω (W_ij − v_ij)² ends at a matrix whose nuclear
norm is not the least of those that fit, and which is nearer to a matrix of low rank the deeper the
network. Time unit: t = k·step_size of descent on the layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.baselines import minimum_nuclear_norm
from gflow.callbacks import Stages, as_stages
from gflow.checks import (
    require_bool,
    require_count,
    require_float,
    require_numbers,
    require_positive,
)
from gflow.display import Display, holds
from gflow.errors import InputError
from gflow.events import loss_reaches
from gflow.flows import LayerwiseFlow
from gflow.linalg.eigen import effective_rank
from gflow.losses import MatrixCompletion
from gflow.solvers import SolveOptions, integrate
from gflow.solvers.options import SolveKeywords
from gflow.studies.arguments import distinct_positive, study_options
from gflow.studies.loss_progress import decades_of_loss
from gflow.trajectory import Trajectory

_LATEST = 1e15  # the time at which a path ends in any case

DEFAULTS = SolveOptions(rtol=1e-3, atol=1e-6)


@dataclass(frozen=True)
class Completed:
    """What is measured of completed matrices.

    Attributes
    ----------
    errors : Tensor, shape (...)
        Mean of (W_ij − v_ij)² over the known entries that were not observed; NaN without any.
    nuclear_norms, effective_ranks : Tensor, shape (...)
    """

    errors: Tensor
    nuclear_norms: Tensor
    effective_ranks: Tensor


@dataclass(frozen=True, repr=False)
class CompletionStudy(Display):
    """Matrices that flows of several depths complete, from several starts.

    Attributes
    ----------
    depths : tuple of int
    init_scales : tuple of float
        α, descending.
    seeds : tuple of int
        Of the starts; those of all depths and scales have the same seeds.
    flows : Completed
        Of shape (depths, scales, seeds); NaN where a flow failed.
    losses : Tensor, shape (depths, scales, seeds)
        At the ends.
    times : Tensor, shape (depths, scales, seeds)
        Of the ends.
    trajectories : tuple of Trajectory
        One for each depth, an ensemble of all starts.
    convex : Completed or None
        Of the matrix of least nuclear norm that fits.
    truth : Completed or None
        Of the whole matrix, where all of it is known.
    """

    depths: tuple[int, ...]
    init_scales: tuple[float, ...]
    seeds: tuple[int, ...]
    flows: Completed
    losses: Tensor
    times: Tensor
    trajectories: tuple[Trajectory, ...]
    convex: Completed | None
    truth: Completed | None

    def __repr__(self) -> str:
        medians = self.flows.errors.nanmedian(dim=-1).values
        error = float(medians.nan_to_num(math.inf).min())
        certificates = [path.certificate for path in self.trajectories]
        return (
            f"CompletionStudy(depths {', '.join(map(str, self.depths))}, {len(self.init_scales)} "
            f"scales x {len(self.seeds)} seeds, least median error {error:.3g}, "
            f"{holds(*certificates)})"
        )


def completion_study(
    matrix: Tensor,
    mask: Tensor,
    depths: Sequence[int],
    init_scales: Sequence[float],
    seeds: int | Sequence[int] = 1,
    *,
    loss_end: float = 5e-7,
    convex: bool = True,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> CompletionStudy:
    """Complete a square matrix by flows of several depths from several starts.

    Parameters
    ----------
    matrix : Tensor, shape (d, d)
        The entries v_ij. Those that are not observed measure the error; NaN where unknown.
    mask : Tensor, shape (d, d)
        True where an entry is observed.
    depths : sequence of int
        Numbers of layers N.
    init_scales : sequence of float
        α.
    seeds : int or sequence of int
        How many starts there are for each depth and scale, or their seeds.
    loss_end : float
        The loss at which a path ends, the mean of half of the square over observed entries.
    convex : bool
        Whether to find the matrix of least nuclear norm that fits.
    options : SolveOptions
        By default rtol is 1e-3 and atol 1e-6. All starts of a depth are one ensemble.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for each depth; True shows bars.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, …) to change in ``options``.

    Returns
    -------
    CompletionStudy

    Raises
    ------
    InputError
        If the matrix is not square, or an argument is out of range.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([2.0, 1.0, 1.0])).double()
    >>> mask = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.bool)
    >>> study = completion_study(matrix, mask, [3], [1e-3, 1e-5])
    >>> study.flows.effective_ranks.round(decimals=2).squeeze().tolist()
    [1.0, 1.0]
    """
    options = study_options(options, keywords)
    matrix = require_float("matrix", matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(
            f"matrix must be square, got shape {tuple(matrix.shape)}; use gflow.integrate"
        )
    listed = require_numbers("depths", depths)
    layers = sorted({require_count("each of depths", depth) for depth in listed})
    alphas = distinct_positive("init_scales", init_scales)
    one = isinstance(seeds, int)
    numbers = range(require_count("seeds", seeds)) if one else require_numbers("seeds", seeds)
    starts = tuple(dict.fromkeys(require_count("each of seeds", s, least=0) for s in numbers))
    loss_end = require_positive("loss_end", loss_end)
    stage_of = as_stages(stages)
    loss = MatrixCompletion(matrix, mask)
    hidden = ~mask.to(torch.bool).to(matrix.device) & ~matrix.isnan()
    shape = (len(alphas), len(starts))
    paths, ends, losses, times = [], [], [], []
    for depth in layers:
        path = _solve(loss, depth, alphas, starts, loss_end, options, stage_of)
        W = path.flow.end_to_end(path.ends)
        failed = torch.tensor([i in path.failures for i in range(len(W))], device=W.device)
        W = torch.where(failed[:, None, None], torch.nan, W)
        last = float(path.ts[-1])
        ended = [path.event_times.get(i, last) for i in range(len(W))]
        paths.append(path)
        ends.append(_measured(W, matrix, hidden))
        losses.append(path.flow.loss(path.ends).reshape(shape))
        times.append(torch.tensor(ended, dtype=torch.float64).reshape(shape))
    best = None
    if require_bool("convex", convex):
        best = _measured(minimum_nuclear_norm(matrix, mask).solution, matrix, hidden)
    known = not bool(matrix.isnan().any())
    return CompletionStudy(
        tuple(layers),
        tuple(alphas),
        starts,
        Completed(
            *(
                torch.stack([getattr(end, name).reshape(shape) for end in ends])
                for name in ("errors", "nuclear_norms", "effective_ranks")
            )
        ),
        torch.stack(losses),
        torch.stack(times),
        tuple(paths),
        best,
        _measured(matrix, matrix, hidden) if known else None,
    )


def gaussian_layers(size: int, depth: int, scale: float, seed: int, like: Tensor) -> list[Tensor]:
    """Draw layers of standard deviation scale^{1/N}·d^{−1/2}.

    Parameters
    ----------
    size : int
        d.
    depth : int
        N.
    scale : float
        α.
    seed : int
    like : Tensor
        Of the dtype and device.

    Returns
    -------
    list of Tensor, each of shape (d, d)

    Examples
    --------
    >>> layers = gaussian_layers(100, 2, 1e-4, 0, torch.zeros(1, dtype=torch.float64))
    >>> [round(float(layer.std()), 4) for layer in layers]      # 1e-2/10
    [0.001, 0.001]
    """
    generator = torch.Generator().manual_seed(seed)
    deviation = scale ** (1 / depth) * size**-0.5
    drawn = torch.randn(depth, size, size, generator=generator, dtype=torch.float64)
    return list((deviation * drawn).to(like))


def _solve(
    loss: MatrixCompletion,
    depth: int,
    scales: Sequence[float],
    seeds: Sequence[int],
    loss_end: float,
    options: SolveOptions,
    stages: Stages,
) -> Trajectory:
    """Follow all starts of a depth as one ensemble."""
    size = loss.shape[0]
    flow = LayerwiseFlow(loss, [size] * (depth + 1))
    like = loss.reference_tensor
    y0 = torch.stack(
        [flow.pack(gaussian_layers(size, depth, a, seed, like)) for a in scales for seed in seeds]
    )
    first = float(flow.loss(y0).max())
    if first <= loss_end:
        raise InputError(
            f"loss_end must be below the loss of the start, {first:.3g}, got {loss_end:g}; use a "
            "smaller one"
        )
    return integrate(
        flow,
        y0,
        [0.0, _LATEST],
        options=options,
        until=loss_reaches(flow, loss_end),
        progress=decades_of_loss(stages, f"depth {depth}", first, loss_end),
    )


def _measured(W: Tensor, matrix: Tensor, hidden: Tensor) -> Completed:
    good = W.isfinite().all(dim=-1).all(dim=-1)
    sigma = torch.linalg.svdvals(torch.where(good[..., None, None], W, 0.0))
    sigma = torch.where(good[..., None], sigma, torch.nan)
    squares = (W - matrix)[..., hidden].square()
    return Completed(squares.mean(-1), sigma.sum(-1), effective_rank(sigma))
