r"""Greedy low-rank learning: what W = UUᵀ does from an infinitesimal start.

From rank r to r + 1: append to U_r a column ε·q, q the leading eigenvector of −∇ℓ(W_r), and
follow the flow of U to a stationary point (Li, Luo & Lyu 2021, arXiv:2012.09839, algorithm 1). It
stops where no eigenvalue of −∇ℓ is positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.checks import require_count, require_positive
from gflow.errors import InputError
from gflow.events import gradient_norm_reaches
from gflow.flows import FactorFlow
from gflow.losses import Loss
from gflow.solvers import integrate

_POSITIVE = 100.0  # tolerances
_SMALL = 1e-3  # of a new column: absolute tolerance beside it
_END = 1e12  # of time, in units of 1/(the eigenvalue that leaves the saddle)


@dataclass(frozen=True)
class GreedyLowRank:
    """The stationary points of one rank after another.

    Attributes
    ----------
    solutions : tuple of Tensor, each of shape (d, d)
        W_0 = 0, W_1, ….
    losses : tuple of float
        ℓ of each.
    eigenvalues : tuple of float
        The largest eigenvalue of −∇ℓ at each.
    """

    solutions: tuple[Tensor, ...]
    losses: tuple[float, ...]
    eigenvalues: tuple[float, ...]


def greedy_low_rank(
    loss: Loss, max_rank: int, *, epsilon: float = 1e-6, tolerance: float = 1e-8
) -> GreedyLowRank:
    """Learn one rank after another.

    Parameters
    ----------
    loss : Loss
        The loss ℓ(W) of square matrices.
    max_rank : int
        The largest rank.
    epsilon : float
        Size of a new column of U.
    tolerance : float
        Of the gradient at a stationary point, relative to the largest eigenvalue of −∇ℓ(0); a
        hundred times it counts as a positive eigenvalue.

    Returns
    -------
    GreedyLowRank

    Raises
    ------
    InputError
        If the loss is one of matrices that are not square or of an ensemble, or a number is out of
        range.

    Examples
    --------
    >>> import torch
    >>> from gflow.losses import SquaredDistance
    >>> target = torch.diag(torch.tensor([3.0, 2.0, 0.0], dtype=torch.float64))
    >>> found = greedy_low_rank(SquaredDistance(target), 3)
    >>> [round(x, 6) for x in found.losses]      # 13/2, 4/2, 0
    [6.5, 2.0, 0.0]
    """
    max_rank = require_count("max_rank", max_rank)
    epsilon, tolerance = (
        require_positive("epsilon", epsilon),
        require_positive("tolerance", tolerance),
    )
    flow = FactorFlow(loss)
    if loss.members:
        raise InputError(
            f"the loss must be that of one matrix, got {loss!r}; pass "
            "loss.for_members(torch.tensor(0))"
        )
    U = loss.reference_tensor.new_zeros(loss.shape[0], 0)
    solutions, losses, eigenvalues = [], [], []
    while True:
        W = U @ U.mT
        lam, Q = torch.linalg.eigh(0.5 * loss.symmetric_descent(W))
        solutions.append(W)
        losses.append(float(loss(W)))
        eigenvalues.append(float(lam[-1]))
        if len(solutions) > max_rank or lam[-1] <= _POSITIVE * tolerance * abs(eigenvalues[0]):
            break
        start = torch.cat([U, epsilon * Q[:, -1:]], dim=1)
        rest = tolerance * abs(eigenvalues[0]) * float(max(U.norm(), abs(eigenvalues[0]) ** 0.5))
        event = gradient_norm_reaches(flow, rest)
        rate = 2 * eigenvalues[-1]
        # The saddle itself is nearly at rest: leave it before the end is awaited.
        escape = -0.5 * math.log(epsilon) / rate
        away = integrate(flow, start, [0.0, escape], atol=_SMALL * epsilon)
        U = integrate(flow, away.ys[-1], [0.0, _END / rate], until=event).ys[-1]
    return GreedyLowRank(tuple(solutions), tuple(losses), tuple(eigenvalues))
