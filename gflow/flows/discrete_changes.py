"""What matrix flows conserve beside their invariants, measured at states of a path.

The rank of W, the sign of its determinant, and whether every mode of the start is still resolved,
or lost in round-off where it may have grown since. Leading dimensions are times, then an ensemble.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gflow.flows.hidden_modes import hidden_stacks
from gflow.flows.lost_modes import (
    determinant_sign,
    factor_growth,
    growth_outside,
    round_off,
)
from gflow.linalg.eigen import scaled_rank, scaled_singular_values

_GROWTH = 3.0  # e-foldings of a lost mode that round-off may grow by unseen
_SIGN_OF_FACTOR = 1e-3  # relative size from which the tolerance cannot change a column's sign

Gradient = Callable[[Tensor], Tensor]


def matrix_changes(ts: Tensor, W: Tensor, gradient: Gradient, depth: int) -> dict[str, Tensor]:
    """Measure a path of W = W_N⋯W_1, (T, ..., m, n), with depth N ≥ 2 from a balanced start.

    Parameters
    ----------
    ts : Tensor, shape (T,)
        Times.
    W : Tensor, shape (T, ..., m, n)
        The path.
    gradient : callable
        ∇ℓ.
    depth : int
        N.

    Returns
    -------
    dict of str to Tensor, shape (...)
        As `Flow.discrete_changes`.

    Examples
    --------
    >>> W = torch.stack([torch.eye(2), torch.diag(torch.tensor([1.0, -0.1]))])
    >>> changes = matrix_changes(torch.arange(2.0), W, lambda W: W, 3)
    >>> {name: change.item() for name, change in changes.items()}
    {'rank': 0.0, 'determinant_sign': 1.0, 'resolved_rank': 0.0}
    """
    noise, sigma = round_off(W, max(W.shape[-2:])), torch.linalg.svdvals(W)
    resolved = _counts(sigma, noise)
    # Modes of a start whose rows or columns have sizes far apart may be below the noise of W.
    rank = torch.maximum(resolved[0], scaled_rank(W[0]))
    sign = determinant_sign(W[0])
    changes = {"rank": _beyond(sigma, rank)}
    if W.shape[-1] == W.shape[-2]:
        full = (rank == W.shape[-1]) & (sign == 0)
        sign = torch.where(full, torch.linalg.slogdet(W[0]).sign, sign)
        visible = sigma[..., -1] > noise * sigma[..., 0]
        changes["determinant_sign"] = _flipped(torch.linalg.slogdet(W).sign, sign, visible)
    lost = resolved < rank

    def rate() -> Tensor:
        size = (noise * sigma[..., 0]) ** (1 - 2 / depth)
        return depth * size * growth_outside(W, gradient(W), resolved, sign)

    changes["resolved_rank"] = _may_have_grown(ts, lost, rate)
    return changes


def layer_changes(
    ts: Tensor, layers: Sequence[Tensor], gradient: Gradient, balanced: Tensor
) -> dict[str, Tensor]:
    """Measure a path of layers [W_1, …, W_N], each (T, ..., d_j, d_{j−1}), of depth N ≥ 2.

    Nothing is conserved from a start that is not balanced: W may pass through zero.

    Parameters
    ----------
    ts : Tensor, shape (T,)
        Times.
    layers : sequence of Tensor
        The path.
    gradient : callable
        ∇ℓ.
    balanced : Tensor of bool, shape (...)
        Whether the start is.

    Returns
    -------
    dict of str to Tensor, shape (...)
        As `Flow.discrete_changes`.

    Examples
    --------
    >>> layers = [torch.stack([torch.eye(2), torch.diag(torch.tensor([1.0, -0.1]))])] * 3
    >>> changes = layer_changes(torch.arange(2.0), layers, lambda W: W, torch.tensor(True))
    >>> changes["determinant_sign"].item()
    1.0
    """
    W = layers[0]
    for layer in layers[1:]:
        W = layer @ W
    widths = [layers[0].shape[-1], *(layer.shape[-2] for layer in layers)]
    noise, depth = round_off(W, max(widths)), len(layers)
    stacks = hidden_stacks(layers)
    sizes = [torch.linalg.svdvals(stack) for stack in stacks]
    counts = [_counts(scaled_singular_values(stack), noise) for stack in stacks]
    ranks = [
        torch.maximum(_counts(size, noise)[0], count[0])
        for size, count in zip(sizes, counts, strict=True)
    ]
    largest = torch.stack(
        [_beyond(size, rank) for size, rank in zip(sizes, ranks, strict=True)]
    ).amax(0)
    changes = {"rank": largest}
    sign = determinant_sign(W[0])
    if len(set(widths)) == 1:
        signs = torch.stack([torch.linalg.slogdet(layer).sign for layer in layers]).prod(0)
        visible = torch.stack([size[..., -1] > noise * size[..., 0] for size in sizes]).all(0)
        sign = signs[0] * visible[0]
        changes["determinant_sign"] = _flipped(signs, sign, visible)
    resolved = torch.stack(counts).amin(0)
    lost = torch.stack([n < rank for n, rank in zip(counts, ranks, strict=True)]).any(0)

    def rate() -> Tensor:
        size = (noise * sizes[0][..., 0]) ** (depth - 2)
        return size * growth_outside(W, gradient(W), resolved, sign)

    changes["resolved_rank"] = _may_have_grown(ts, lost, rate)
    return {name: change * balanced for name, change in changes.items()}


def factor_changes(ts: Tensor, U: Tensor, gradient: Gradient) -> dict[str, Tensor]:
    """Measure a path of U, (T, ..., d, k), of W = UUᵀ.

    Parameters
    ----------
    ts : Tensor, shape (T,)
        Times.
    U : Tensor, shape (T, ..., d, k)
        The path.
    gradient : callable
        ∇ℓ.

    Returns
    -------
    dict of str to Tensor, shape (...)
        As `Flow.discrete_changes`.

    Examples
    --------
    >>> U = torch.stack([torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.eye(2)])
    >>> round(factor_changes(torch.arange(2.0), U, lambda W: W)["rank"].item(), 6)
    1.0
    """
    noise, sigma = round_off(U, max(U.shape[-2:])), torch.linalg.svdvals(U)
    resolved = _counts(scaled_singular_values(U), noise)
    rank = resolved[0]
    changes = {"rank": _beyond(sigma, rank)}
    if U.shape[-1] == U.shape[-2]:
        visible = sigma[..., -1] > _SIGN_OF_FACTOR * sigma[..., 0]
        signs = torch.linalg.slogdet(U).sign
        changes["determinant_sign"] = _flipped(signs, signs[0] * visible[0], visible)

    def rate() -> Tensor:
        W = U @ U.mT
        flat, ranks = W.reshape(-1, *W.shape[-2:]), resolved.flatten().tolist()
        growth = factor_growth(gradient)
        values = [
            growth(w, n) if n < len(w) else w.new_tensor(0.0)
            for w, n in zip(flat, ranks, strict=True)
        ]
        return torch.stack(values).reshape(resolved.shape)

    changes["resolved_rank"] = _may_have_grown(ts, resolved < rank, rate)
    return changes


def product_changes(W: Tensor, rank: Tensor) -> dict[str, Tensor]:
    """Measure a path of W = UUᵀ, (T, ..., d, d), whose start has a rank.

    Parameters
    ----------
    W : Tensor, shape (T, ..., d, d)
        The path.
    rank : Tensor of int, shape (...)
        Of the start.

    Returns
    -------
    dict of str to Tensor, shape (...)
        As `Flow.discrete_changes`.

    Examples
    --------
    >>> W = torch.stack([torch.diag(torch.tensor([1.0, 0.0])), torch.eye(2)])
    >>> product_changes(W, torch.tensor(1))["rank"].item()
    1.0
    """
    lam = torch.linalg.eigvalsh(0.5 * (W + W.mT)).abs().sort(dim=-1, descending=True).values
    return {"rank": _beyond(lam, rank)}


def _counts(sizes: Tensor, floor: float) -> Tensor:
    """Count sizes above floor·(largest), (...)."""
    return (sizes > floor * sizes[..., :1]).sum(-1)


def _beyond(sizes: Tensor, rank: Tensor) -> Tensor:
    """Return the largest of sizes (T, ..., r) beyond the rank (...), relative, over times."""
    index = torch.arange(sizes.shape[-1], device=sizes.device)
    beyond = torch.where(index >= rank[..., None], sizes, torch.zeros_like(sizes)).amax(-1)
    return (beyond / sizes[..., 0].clamp_min(torch.finfo(sizes.dtype).tiny)).amax(0)


def _flipped(signs: Tensor, first: Tensor, visible: Tensor) -> Tensor:
    """Return 1 where a visible sign (T, ...) is the opposite of the first (...)."""
    return (visible & (signs * first < 0)).any(0).to(signs)


def _may_have_grown(ts: Tensor, lost: Tensor, rate: Callable[[], Tensor]) -> Tensor:
    """Return 1 where ∫ rate dt over the times (T,) at which modes are lost (T, ...) is large."""
    if not bool(lost.any()) or len(ts) < 2:
        return lost[0] * 0.0
    rates = torch.where(lost, rate().clamp_min(0), 0.0)
    steps = (ts[1:] - ts[:-1]).to(rates).reshape(-1, *[1] * (rates.ndim - 1))
    before = torch.where(lost[:-1], rates[:-1], rates[1:])
    foldings = (0.5 * steps * (before + rates[1:])).sum(0)
    return (foldings > _GROWTH).to(rates)
