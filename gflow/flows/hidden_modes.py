"""Modes of the hidden spaces of a deep linear network: balancing layers, and narrower ones.

With h_j in the hidden spaces such that W_jᵀh_j = 0 and W_{j+1}h_j = 0, these directions stay so:
hidden layers without them are exact. The unbalance D_j = W_{j+1}ᵀW_{j+1} − W_jW_jᵀ is conserved,
so that of a balanced start is that of errors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gflow.flows.lost_modes import rank_above
from gflow.linalg.eigen import scaled_rank

DANGER = 0.02  # relative unbalance of a mode from which layers are balanced anew
_RESTORED = 1e-4  # of it: what may remain
_SWEEPS = 20


class Hidden(NamedTuple):
    """The modes of one hidden space, the largest first."""

    sizes: Tensor  #: s_r with s_r² = ‖W_jᵀh_r‖² + ‖W_{j+1}h_r‖², (m,)
    directions: Tensor  #: h_r in rows, (m, d_j)


def hidden_stacks(layers: Sequence[Tensor]) -> list[Tensor]:
    """Return [W_jᵀ; W_{j+1}], (..., d_{j−1} + d_{j+1}, d_j), of every hidden space."""
    return [torch.cat([a.mT, b], dim=-2) for a, b in itertools.pairwise(layers)]


def hidden_modes(layers: Sequence[Tensor]) -> list[Hidden]:
    """Return the modes of every hidden space of layers [W_1, …, W_N], (d_j, d_{j−1}).

    Parameters
    ----------
    layers : sequence of Tensor
        [W_1, …, W_N].

    Returns
    -------
    list of Hidden

    Examples
    --------
    >>> layers = [torch.diag(torch.tensor([3.0, 0.0])), torch.diag(torch.tensor([4.0, 0.0]))]
    >>> hidden_modes(layers)[0].sizes.tolist()
    [5.0, 0.0]
    """
    found = []
    for stack in hidden_stacks(layers):
        _, sizes, directions = torch.linalg.svd(stack, full_matrices=False)
        found.append(Hidden(sizes, directions))
    return found


def hidden_rank(layers: Sequence[Tensor], noise: float) -> int:
    """Return the largest rank of a hidden space.

    Parameters
    ----------
    layers : sequence of Tensor
        [W_1, …, W_N].
    noise : float
        Modes below noise times the largest count if hidden units, or the inputs and outputs, have
        sizes so far apart.

    Returns
    -------
    int

    Examples
    --------
    >>> layers = [torch.diag(torch.tensor([1.0, 1e-30]))] * 2
    >>> hidden_rank(layers, 1e-6)
    2
    """
    most = 0
    for stack in hidden_stacks(layers):
        rank = rank_above(torch.linalg.svdvals(stack), noise)
        if rank < min(stack.shape[-2:]):  # the sizes may be far apart
            rank = max(rank, int(scaled_rank(stack)))
        most = max(most, rank)
    return most


def modes_in_danger(layers: Sequence[Tensor], modes: Sequence[Hidden]) -> list[Tensor]:
    """Return which modes of each hidden space have an unbalance that is not far below their size.

    The unbalance of a mode is conserved, so that beside a mode that decays it takes over at last:
    one layer's part then passes zero, and the determinant changes its sign.

    Parameters
    ----------
    layers : sequence of Tensor
        [W_1, …, W_N].
    modes : sequence of Hidden
        Their `hidden_modes`.

    Returns
    -------
    list of Tensor
        Boolean, one for each hidden space.

    Examples
    --------
    >>> layers = [torch.diag(torch.tensor([1.0, x]).double()) for x in (2e-3, 1e-3)]
    >>> modes_in_danger(layers, hidden_modes(layers))[0].tolist()
    [False, True]
    """
    return [relative_unbalance(layers, j, mode) > DANGER for j, mode in enumerate(modes)]


def balanced_anew(layers: Sequence[Tensor], chosen: Sequence[Tensor]) -> list[Tensor]:
    """Restore W_{j+1}ᵀW_{j+1} = W_jW_jᵀ in some modes.

    The product stays: W_j becomes T_jW_jT_{j−1}⁻¹. With A = W_jW_jᵀ, B = W_{j+1}ᵀW_{j+1} and
    T_j = I + X, X(A + B) + (A + B)X = B − A to first order, which is repeated.

    Parameters
    ----------
    layers : sequence of Tensor
        [W_1, …, W_N], each (d_j, d_{j−1}).
    chosen : sequence of Tensor
        Of each hidden space, which of its `hidden_modes` to balance.

    Returns
    -------
    list of Tensor
        The layers.

    Examples
    --------
    >>> import torch
    >>> layers = [torch.diag(torch.tensor([1.0, x]).double()) for x in (2e-3, 1e-3)]
    >>> restored = balanced_anew(layers, [torch.tensor([False, True])])
    >>> [round(float(W[1, 1]), 7) for W in restored]
    [0.0014142, 0.0014142]
    """
    new = list(layers)
    for _ in range(_SWEEPS):
        for j, mask in enumerate(chosen):
            mode = hidden_modes(new[j : j + 2])[0]
            D, squares = unbalance(new, j, mode), mode.sizes.square()
            scale = (squares[:, None] + squares).clamp_min(torch.finfo(D.dtype).tiny)
            X = torch.where(mask[:, None] | mask, D / scale, 0.0).clamp(-0.3, 0.3)
            T = mode.directions.mT @ X @ mode.directions
            T.diagonal().add_(1.0)
            new[j], new[j + 1] = T @ new[j], torch.linalg.solve(T, new[j + 1], left=False)
        rest = [relative_unbalance(new, j, mode) for j, mode in enumerate(hidden_modes(new))]
        if all(
            bool((r[mask] < _RESTORED * DANGER).all()) for r, mask in zip(rest, chosen, strict=True)
        ):
            break
    return new


def relative_unbalance(layers: Sequence[Tensor], j: int, mode: Hidden) -> Tensor:
    """Return the unbalance of each mode over its own size; 0 for those near round-off, (m,).

    Parameters
    ----------
    layers : sequence of Tensor
    j : int
    mode : Hidden
        As in `unbalance`.

    Returns
    -------
    Tensor, shape (m,)

    Examples
    --------
    >>> layers = [torch.diag(torch.tensor([1.0, x]).double()) for x in (2e-3, 1e-3)]
    >>> [round(x, 6) for x in relative_unbalance(layers, 0, hidden_modes(layers)[0]).tolist()]
    [0.0, 0.6]
    """
    squares = mode.sizes.square()
    resolved = mode.sizes > 1e4 * torch.finfo(squares.dtype).eps * mode.sizes[0]
    defect = unbalance(layers, j, mode).diagonal().abs()
    return torch.where(resolved, defect / squares.where(resolved, 1.0), 0.0)


def unbalance(layers: Sequence[Tensor], j: int, mode: Hidden) -> Tensor:
    """Return W_{j+1}ᵀW_{j+1} − W_jW_jᵀ (layers counted from 0: j + 1 and j) in a hidden basis.

    Parameters
    ----------
    layers : sequence of Tensor
        [W_1, …, W_N].
    j : int
        The hidden space, from 0.
    mode : Hidden
        Its modes.

    Returns
    -------
    Tensor, shape (m, m)
        The matrix; rows of small modes are accurate relative to themselves.

    Examples
    --------
    >>> import torch
    >>> layers = [torch.tensor([[1.0]]), torch.tensor([[2.0]])]
    >>> unbalance(layers, 0, hidden_modes(layers)[0]).tolist()
    [[3.0]]
    """
    before, after = mode.directions @ layers[j], layers[j + 1] @ mode.directions.mT
    return after.mT @ after - before @ before.mT


def narrowed(
    layers: Sequence[Tensor], modes: Sequence[Hidden], rank: int
) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], list[Tensor]]]:
    """Return layers with hidden spaces of the first modes alone, and the map back.

    Parameters
    ----------
    layers : sequence of Tensor
        [W_1, …, W_N].
    modes : sequence of Hidden
        Their `hidden_modes`.
    rank : int
        Number of modes to keep.

    Returns
    -------
    layers : list of Tensor
        The narrower layers.
    widened : callable
        Maps narrower layers, with any leading dimensions, to layers of the full widths.

    Examples
    --------
    >>> import torch
    >>> layers = [torch.diag(torch.tensor([2.0, 1e-20]))] * 2
    >>> narrow, widened = narrowed(layers, hidden_modes(layers), 1)
    >>> [tuple(W.shape) for W in narrow], widened(narrow)[0].abs().tolist()
    ([(1, 2), (2, 1)], [[2.0, 0.0], [0.0, 0.0]])
    """
    bases = [mode.directions[:rank] for mode in modes]  # rows
    new = list(layers)
    for j, basis in enumerate(bases):
        new[j], new[j + 1] = basis @ new[j], new[j + 1] @ basis.mT

    def widened(narrow: Sequence[Tensor]) -> list[Tensor]:
        wide = list(narrow)
        for j, basis in enumerate(bases):
            wide[j], wide[j + 1] = basis.mT @ wide[j], wide[j + 1] @ basis
        return wide

    return new, widened
