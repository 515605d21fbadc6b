r"""Greedy low-rank learning: what W = UUᵀ does from an infinitesimal start.

From rank r to r + 1: append to U_r a column εc·q, q the leading eigenvector of −∇ℓ(W_r) and c² of
the order of the minimiser h of ℓ(W_r + h qqᵀ), so that ε has no unit; then follow the flow of U to
a stationary point (Li, Luo & Lyu 2021, arXiv:2012.09839, algorithm 1). It stops where no eigenvalue
of −∇ℓ is positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.baselines.arguments import require_precision
from gflow.checks import require_count, require_positive
from gflow.errors import InputError
from gflow.events import Event
from gflow.flows import FactorFlow
from gflow.losses import Loss
from gflow.solvers import integrate

_POSITIVE = 100.0  # tolerances
_SMALL = 1e-3  # of a new column: absolute tolerance beside it
_ROUNDS, _GROWTH = 100, 1e6  # of the search for a minimum along a line; of a step there
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
        Size of a new column of U, below 1: relative to that at which ℓ is least along it.
    tolerance : float
        Of the gradient at a stationary point, relative to the largest eigenvalue of −∇ℓ(0), and in
        the newest column to the eigenvalue that it grew with. An eigenvalue a hundred times as
        large as the first counts as positive.

    Returns
    -------
    GreedyLowRank

    Raises
    ------
    InputError
        If the loss is one of matrices that are not square or of an ensemble, a number is out of
        range, or a new column is so small that its square underflows.

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
    if epsilon >= 1:
        raise InputError(f"epsilon must be below 1, got {epsilon:g}; take 1e-6")
    flow = FactorFlow(loss)
    if loss.members:
        raise InputError(
            f"the loss must be that of one matrix, got {loss!r}; pass "
            "loss.for_members(torch.tensor(0))"
        )
    require_precision("data of the loss", loss.reference_tensor)
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
        rate, newest = eigenvalues[-1], Q[:, -1:]
        size = _size(loss, W, newest, rate)
        atol = _SMALL * epsilon * size
        if atol**2 < torch.finfo(U.dtype).tiny:
            raise InputError(
                f"epsilon must leave a column whose square does not underflow in {U.dtype}, got "
                f"{epsilon:g} for one of size {size:.2g}; take 1e-6, or larger units"
            )
        start = torch.cat([U, epsilon * size * newest], dim=1)
        speed = tolerance * eigenvalues[0] * max(float(U.norm()), size)
        event = _at_rest(flow, speed, tolerance * rate)
        # The saddle itself is nearly at rest: leave it before the end is awaited.
        escape = -0.25 * math.log(epsilon) / rate
        away = integrate(flow, start, [0.0, escape], atol=atol)
        U = integrate(flow, away.ys[-1], [0.0, _END / rate], atol=atol, until=event).ys[-1]
    return GreedyLowRank(tuple(solutions), tuple(losses), tuple(eigenvalues))


def _size(loss: Loss, W: Tensor, q: Tensor, rate: float) -> float:
    """Return c of the same order as that of the minimum of ℓ(W + c² qqᵀ), for slope −rate at 0."""
    h = rate
    for _ in range(_ROUNDS):
        there = 0.5 * loss.symmetric_descent(W + h * q @ q.mT)
        fall = rate - float(q.mT @ there @ q)
        if 0.5 * rate <= fall <= 2 * rate:
            return math.sqrt(h)
        h *= rate / max(fall, rate / _GROWTH)
        if not math.isfinite(h):
            break
    return math.sqrt(rate)  # there is no minimum


def _at_rest(flow: FactorFlow, speed: float, rate: float) -> Event:
    """Stop where ‖U̇‖ ≤ speed, and the newest column has ‖u̇‖ ≤ rate·‖u‖, however small it is."""

    def event(U: Tensor) -> Tensor:
        moved = flow(0.0, U)
        newest = moved[..., -1].norm(dim=-1) - rate * U[..., -1].norm(dim=-1)
        return torch.maximum(flow.norm(moved) - speed, newest)

    return event
