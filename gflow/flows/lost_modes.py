"""Modes of a matrix that float64 no longer resolves beside the others.

The flows of W = W_N⋯W_1 from a balanced start and of W = UUᵀ conserve the rank of W, and the sign
of its determinant. A singular value may fall below round-off of the largest for all that. From
then on round-off decides whether it passes zero, so that its direction has to be followed apart
from the others, or not at all:

- with h_j in the hidden spaces such that W_jᵀh_j = 0 and W_{j+1}h_j = 0, or with Uq = 0, the
  directions h_j and q are constant, so that hidden layers as narrow as the rank left are exact;
- a mode outside, with singular vectors u and v, obeys σ̇ = −N σ^{2−2/N} uᵀGv (Arora et al. 2019,
  arXiv:1905.13655, theorem 3), which says whether it comes back.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_RETURNED = 100.0  # times its σ where it was left: a mode that is not negligible any more
_STEADY = 0.02  # error of log w, or of w^{2−N} relatively, by the trapezoidal rule


def rank_above(values: Tensor, floor: float) -> int:
    """Count the values above floor·(largest value).

    Parameters
    ----------
    values : Tensor, shape (r,)
        Not negative.
    floor : float
        Relative to the largest.

    Returns
    -------
    int

    Examples
    --------
    >>> rank_above(torch.tensor([2.0, 1e-3, 0.0]), 1e-2)
    1
    """
    return int((values > floor * values.max()).sum())


def growth_outside(W: Tensor, G: Tensor, rank: Tensor | int, sign: Tensor | float) -> Tensor:
    """Compute the largest −uᵀGv of modes outside the first ones of W: they grow if it is positive.

    Parameters
    ----------
    W, G : Tensor, shape (..., m, n)
        A matrix and ∇ℓ there.
    rank : int or Tensor, shape (...)
        Number of modes of W that are resolved.
    sign : float or Tensor, shape (...)
        The sign of det W, which orients the last mode of a square matrix; 0 where not known: the
        outer modes may then turn, and ‖U_⊥ᵀGV_⊥‖₂ bounds their growth.

    Returns
    -------
    Tensor, shape (...)

    Examples
    --------
    >>> import torch
    >>> W, G = torch.diag(torch.tensor([2.0, 0.0])), torch.diag(torch.tensor([0.0, 3.0]))
    >>> [growth_outside(W, G, 1, sign).item() for sign in (1.0, -1.0, 0.0)]
    [-3.0, 3.0, 3.0]
    """
    rank, sign = torch.as_tensor(rank, device=W.device), torch.as_tensor(sign).to(W)
    U, _, Vh = torch.linalg.svd(W)
    g = U.mT @ G @ Vh.mT
    rows = torch.arange(g.shape[-2], device=W.device) >= rank[..., None]
    columns = torch.arange(g.shape[-1], device=W.device) >= rank[..., None]
    outer = torch.where(rows[..., :, None] & columns[..., None, :], g, torch.zeros_like(g))
    size = torch.linalg.matrix_norm(outer, 2)
    if W.shape[-2] != W.shape[-1]:
        return size
    oriented = -g[..., -1, -1] * sign * torch.linalg.det(U).sign() * torch.linalg.det(Vh).sign()
    one = (rank == W.shape[-1] - 1) & (sign != 0)
    return torch.where(one, oriented, size)


def round_off(y: Tensor, size: int) -> float:
    """Return the relative size at which singular values of a matrix are round-off.

    Parameters
    ----------
    y : Tensor
        A tensor of its dtype.
    size : int
        Its larger dimension.

    Returns
    -------
    float

    Examples
    --------
    >>> round(round_off(torch.ones(1, dtype=torch.float64), 2) / 1e-15, 2)
    4.44
    """
    return 10 * size * torch.finfo(y.dtype).eps


def determinant_sign(W: Tensor) -> Tensor:
    """Return the sign of det W, (...), of W (..., m, n); 0 where W is not square or not regular.

    Examples
    --------
    >>> [determinant_sign(torch.diag(torch.tensor([2.0, x]))).item() for x in (-1.0, 0.0)]
    [-1.0, 0.0]
    """
    none = W.new_zeros(W.shape[:-2])
    if W.shape[-1] != W.shape[-2]:
        return none
    sigma = torch.linalg.svdvals(W)
    regular = sigma[..., -1] > round_off(W, W.shape[-1]) * sigma[..., 0]
    return torch.where(regular, torch.linalg.slogdet(W).sign, none)


def factor_growth(
    gradient: Callable[[Tensor], Tensor],
) -> Callable[[Tensor, int], Tensor]:
    """Return a function of (W, rank): the largest eigenvalue of −2S outside W's first eigenvectors.

    Parameters
    ----------
    gradient : callable
        ∇ℓ, whose symmetric part is S.

    Returns
    -------
    callable

    Examples
    --------
    >>> growth = factor_growth(lambda W: W - torch.diag(torch.tensor([2.0, 3.0])))
    >>> growth(torch.diag(torch.tensor([2.0, 0.0])), 1).item()
    6.0
    """

    last: list[Tensor] = []  # W, with its eigenvectors and gradient, for several ranks

    def growth(W: Tensor, rank: int) -> Tensor:
        if not last or last[0] is not W:
            G = gradient(W)
            last[:] = W, torch.linalg.eigh(W).eigenvectors, G + G.mT
        V = last[1][..., : W.shape[-1] - rank]
        return torch.linalg.eigvalsh(-(V.mT @ last[2] @ V))[..., -1]

    return growth


class Outside:
    """The size of a mode that is no longer followed, by quadrature of its equation.

    With w = σ^{1/N}: ẇ = −w^{N−1} uᵀGv, so that log w (N = 2) or w^{2−N} is an integral. A column
    x of U with ẋ = −2Sx is the case N = 2.

    Parameters
    ----------
    size : float
        w where it was left.
    depth : int
        N ≥ 2.
    growth : callable
        −uᵀGv, or a bound on it, by the end-to-end matrix W.

    Examples
    --------
    >>> import torch
    >>> outside = Outside(1e-8, 2, lambda W: W.sum())
    >>> for t in (0.0, 10.0):
    ...     outside.add(t, torch.ones(1))
    >>> round(outside.size / 1e-8 / math.exp(10), 6), outside.returned
    (1.0, True)
    """

    def __init__(self, size: float, depth: int, growth: Callable[[Tensor], Tensor]):
        self._limit, self._depth, self._growth = size * _RETURNED ** (1 / depth), depth, growth
        if size == 0:
            self._power = -math.inf if depth == 2 else math.inf
        else:
            self._power = math.log(size) if depth == 2 else size ** (2 - depth)
        self._slope = 1.0 if depth == 2 else 2.0 - depth
        self._last: tuple[float, float] | None = None
        self.returned = False  #: whether σ has grown a hundred times since
        self.steady = False  #: whether it hardly changed its growth between the last two times

    def add(self, t: float, W: Tensor) -> None:
        """Follow the mode to a time, where the end-to-end matrix is W; times ascend."""
        growth = float(self._growth(W))
        if self._last is not None:
            elapsed, before = t - self._last[0], self._last[1]
            self._power += self._slope * elapsed * 0.5 * (growth + before)
            scale = 1.0 if self._depth == 2 else abs(self._power)
            self.steady = abs(self._slope * elapsed * (growth - before)) <= _STEADY * scale
        self._last = (t, growth)
        self.returned |= not self.size <= self._limit

    @property
    def size(self) -> float:
        """The size w now; infinite where it has escaped."""
        if self._depth == 2:
            return math.exp(min(self._power, 700.0))
        return self._power ** (1 / (2 - self._depth)) if self._power > 0 else math.inf
