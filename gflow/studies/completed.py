r"""Ends of flows that complete a matrix, and what is measured of them.

All layers W_j are d × d with Gaussian entries of standard deviation α^{1/N}·d^{−1/2}, N the depth,
so that W = W_N⋯W_1 has entries of the order of α·d^{−1/2} (Arora et al. 2019, arXiv:1905.13655,
section 2 and appendix D). The loss is 1/(2|Ω|) Σ_Ω (W_ij − v_ij)². Time unit: t = k·step_size of
descent on the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gflow.callbacks import Stages
from gflow.checks import require_count, require_float, require_numbers
from gflow.errors import InputError
from gflow.events import loss_reaches
from gflow.flows import LayerwiseFlow
from gflow.linalg.eigen import effective_rank
from gflow.losses import MatrixCompletion
from gflow.solvers import SolveOptions, integrate
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


class Ends(NamedTuple):
    """Ends of the flows of one depth from several starts."""

    path: Trajectory  #: an ensemble of all starts
    W: Tensor  #: (..., d, d); NaN where a flow failed
    losses: Tensor  #: (...)
    times: Tensor  #: (...), on the host


def require_square(matrix: Tensor) -> Tensor:
    """Return a matrix to complete; raise InputError unless it is square.

    Parameters
    ----------
    matrix : Tensor, shape (d, d)

    Returns
    -------
    Tensor

    Raises
    ------
    InputError
        If it is no square matrix.

    Examples
    --------
    >>> require_square(torch.eye(2)).shape
    torch.Size([2, 2])
    """
    matrix = require_float("matrix", matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(
            f"matrix must be square, got shape {tuple(matrix.shape)}; use gflow.integrate"
        )
    return matrix


def start_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Return the seeds of starts, of their number or of a list of seeds.

    Parameters
    ----------
    seeds : int or sequence of int

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> start_seeds(3), start_seeds([7, 5, 7])
    ((0, 1, 2), (7, 5))
    """
    one = isinstance(seeds, int)
    numbers = range(require_count("seeds", seeds)) if one else require_numbers("seeds", seeds)
    return tuple(dict.fromkeys(require_count("each of seeds", s, 0, 2**63 - 1) for s in numbers))


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


def complete(
    loss: MatrixCompletion,
    depth: int,
    starts: Sequence[Sequence[tuple[float, int]]],
    loss_end: float,
    options: SolveOptions,
    stages: Stages,
) -> Ends:
    """Follow the flows of one depth from a table of starts, as one ensemble.

    Parameters
    ----------
    loss : MatrixCompletion
        Of d × d; its members, if it has some, have the shape of the table.
    depth : int
        N.
    starts : sequence of sequences of (float, int)
        Rows of scales α and seeds.
    loss_end : float
        The loss at which a path ends.
    options : SolveOptions
    stages : callable
        ``stages(name, t_end)`` gives a progress callback.

    Returns
    -------
    Ends
        Of the shape of the table.

    Raises
    ------
    InputError
        If a start has the loss already.

    Examples
    --------
    >>> from gflow.callbacks import as_stages
    >>> loss = MatrixCompletion(torch.eye(1).double(), torch.ones(1, 1))
    >>> ends = complete(loss, 2, [[(0.1, 0)], [(0.01, 0)]], 1e-6, DEFAULTS, as_stages(None))
    >>> ends.W.shape, bool(ends.times[1] > ends.times[0])
    (torch.Size([2, 1, 1, 1]), True)
    """
    size = loss.shape[0]
    flow = LayerwiseFlow(loss, [size] * (depth + 1))
    y0 = torch.stack(
        [
            torch.stack(
                [
                    flow.pack(gaussian_layers(size, depth, scale, seed, loss.reference_tensor))
                    for scale, seed in row
                ]
            )
            for row in starts
        ]
    )
    first = float(flow.loss(y0).max())
    if first <= loss_end:
        raise InputError(
            f"loss_end must be below the loss of the start, {first:.3g}, got {loss_end:g}; use a "
            "smaller one"
        )
    path = integrate(
        flow,
        y0,
        [0.0, _LATEST],
        options=options,
        until=loss_reaches(flow, loss_end),
        progress=decades_of_loss(stages, f"depth {depth}", first, loss_end),
    )
    shape = y0.shape[:2]
    W = flow.end_to_end(path.ends)
    failed = torch.tensor([i in path.failures for i in range(shape.numel())], device=W.device)
    W = torch.where(failed.reshape(shape)[..., None, None], torch.nan, W)
    last = float(path.ts[-1])
    ended = [path.event_times.get(i, last) for i in range(shape.numel())]
    times = torch.tensor(ended, dtype=torch.float64).reshape(shape)
    return Ends(path, W, flow.loss(path.ends), times)


def measured(W: Tensor, matrix: Tensor, observed: Tensor) -> Completed:
    """Measure completed matrices.

    Parameters
    ----------
    W : Tensor, shape (..., d, d)
        NaN where there is none.
    matrix : Tensor, shape (d, d)
        NaN where an entry is not known.
    observed : Tensor of bool, shape (..., d, d)
        The entries that were observed.

    Returns
    -------
    Completed

    Examples
    --------
    >>> found = measured(torch.ones(2, 2), torch.eye(2), torch.eye(2, dtype=torch.bool))
    >>> found.errors.item(), round(found.nuclear_norms.item(), 6)
    (1.0, 2.0)
    """
    good = W.isfinite().all(dim=-1).all(dim=-1)
    sigma = torch.linalg.svdvals(torch.where(good[..., None, None], W, 0.0))
    sigma = torch.where(good[..., None], sigma, torch.nan)
    hidden = ~observed & ~matrix.isnan()
    squares = torch.where(hidden, (W - matrix).square(), 0.0).sum((-2, -1))
    return Completed(squares / hidden.sum((-2, -1)), sigma.sum(-1), effective_rank(sigma))
