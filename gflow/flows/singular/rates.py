r"""Rates of singular values and vectors along Ẇ = −Σ_j [WWᵀ]^{(j−1)/N} G [WᵀW]^{(N−j)/N}.

With W = U diag(e^l) Vᵀ, σ = e^l and g = UᵀGV, UᵀẆV = −K∘g for
K_rs = Σ_j σ_r^{2(j−1)/N} σ_s^{2(N−j)/N}. Over the larger of both, it needs their ratio alone:

    F_rs = −K_rs g_rs / max(σ_r, σ_s),   K_rs/max = max^{1−2/N} Σ_{i<N} (min/max)^{2i/N}.

Then l̇_r = F_rr, and with x_rs = σ_r/max(σ_r, σ_s), U̇ = UΩ and V̇ = VΨ inside the ranges of W,

    Ω_rs = (F_rs x_sr + F_sr x_rs)/(x_sr² − x_rs²),   Ψ_rs = (F_rs x_rs + F_sr x_sr)/(x_sr² − x_rs²)

(from K∘g = −(ΩΣ − ΣΨ) off the diagonal), and outside of them, with the projections P and Q onto
the ranges, U̇ = −(I − P) G V σ^{1−2/N}, V̇ = −(I − Q) Gᵀ U σ^{1−2/N}. No number underflows that
matters, however far apart the singular values are. W = UUᵀ is the case N = 2 with G + Gᵀ for G.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class ModeRates(NamedTuple):
    """Rates of the modes of W, tensors or arrays; r modes of an m × n matrix."""

    scaled: Any  #: F, (..., r, r); its diagonal has the rates of the logs
    left: Any  #: Ω, (..., r, r), antisymmetric; 0 where not wanted
    right: Any  #: Ψ, (..., r, r)
    outside_left: Any  #: U̇ outside the range of W, (..., m, r); None where there is no outside
    outside_right: Any  #: V̇ outside the range of Wᵀ, (..., n, r), or None


def library(values: Any) -> Any:
    """Return the module of tensors or of arrays.

    Examples
    --------
    >>> library(np.zeros(1)) is np, library(torch.zeros(1)) is torch
    (True, True)
    """
    return np if isinstance(values, np.ndarray) else torch


def mode_rates(logs: Any, U: Any, V: Any, G: Any, depth: int, apart: Any = None) -> ModeRates:
    """Compute the rates of the modes of W from the gradient ∇ℓ(W).

    Parameters
    ----------
    logs : Tensor or ndarray, shape (..., r)
        Logarithms of the singular values, in any order.
    U : Tensor or ndarray, shape (..., m, r)
        Left singular vectors in columns.
    V : Tensor or ndarray, shape (..., n, r)
        Right singular vectors in columns.
    G : Tensor or ndarray, shape (..., m, n)
        ∇ℓ(W).
    depth : int
        N ≥ 2.
    apart : Tensor or ndarray of bool, shape (r, r), optional
        Pairs of modes that rotate where their logs differ; all by default.

    Returns
    -------
    ModeRates

    Examples
    --------
    >>> logs, frame, G = np.log([4.0, 1.0]), np.eye(2), -np.ones((2, 2))
    >>> rates = mode_rates(logs, frame, frame, G, depth=2)   # l̇ = −N σ^(1−2/N) g
    >>> rates.scaled.diagonal().tolist(), rates.left.round(6).tolist()
    ([2.0, 2.0], [[0.0, -1.666667], [1.666667, 0.0]])
    """
    xp, r = library(logs), logs.shape[-1]
    GV = G @ V
    g = U.mT @ GV
    row, column = logs.reshape(*logs.shape, 1), logs.reshape(*logs.shape[:-1], 1, r)
    gap = row - column
    size = abs(gap)
    couplings = one = xp.exp(size * (-2.0 / depth))
    for _ in range(depth - 2):
        couplings = couplings * one + one
    couplings = couplings + 1.0
    powers = None
    if depth > 2:
        largest = 0.5 * (row + column + size)
        couplings = couplings * xp.exp(largest * (1.0 - 2.0 / depth))
        powers = xp.exp(column * (1.0 - 2.0 / depth))
    F = -couplings * g
    apart = size > 0 if apart is None else apart & (size > 0)
    # x_sr² − x_rs² = ∓(1 − (min/max)²), positive where σ_s > σ_r.
    denominator = xp.where(apart, xp.sign(gap) * xp.expm1(-2.0 * size), xp.ones_like(gap))
    weight = xp.where(apart, 1.0 / denominator, xp.zeros_like(gap))
    x = xp.exp(0.5 * (gap - size))
    Ft, xt = F.mT, x.mT
    left, right = (F * xt + Ft * x) * weight, (F * x + Ft * xt) * weight
    outside_left = outside_right = None
    if U.shape[-2] > r:
        outside_left = U @ g - GV
        outside_left = outside_left if powers is None else outside_left * powers
    if V.shape[-2] > r:
        outside_right = V @ g.mT - G.mT @ U
        outside_right = outside_right if powers is None else outside_right * powers
    return ModeRates(F, left, right, outside_left, outside_right)


def reference_rates(logs: Tensor, U: Tensor, V: Tensor, G: Tensor, depth: int) -> ModeRates:
    """Compute the rates of the modes of W from sums over layers and 2 × 2 systems, slowly.

    Parameters
    ----------
    logs : Tensor, shape (..., r)
    U : Tensor, shape (..., m, r)
    V : Tensor, shape (..., n, r)
    G : Tensor, shape (..., m, n)
    depth : int
        As in `mode_rates`.

    Returns
    -------
    ModeRates

    Examples
    --------
    >>> logs, frame, G = torch.tensor([1.4, 0.0]), torch.eye(2), -torch.ones(2, 2)
    >>> slow, fast = (f(logs, frame, frame, G, 3) for f in (reference_rates, mode_rates))
    >>> bool(torch.allclose(slow.left, fast.left)), bool(torch.allclose(slow.right, fast.right))
    (True, True)
    """
    row, column = logs.unsqueeze(-1), logs.unsqueeze(-2)
    largest = torch.maximum(row, column)
    layers = range(1, depth + 1)
    exponents = [(2 * (j - 1) * row + 2 * (depth - j) * column) / depth for j in layers]
    F = -sum((exponent - largest).exp() for exponent in exponents) * (U.mT @ G @ V)
    # F_rs = Ω_rs σ_s − σ_r Ψ_rs and F_sr = −Ω_rs σ_r + σ_s Ψ_rs, over the larger of the two.
    x = (row - largest).exp()
    A = torch.stack([torch.stack([x.mT, -x], -1), torch.stack([-x, x.mT], -1)], -2)
    equal = (row == column)[..., None, None]
    eye = torch.eye(2, dtype=A.dtype, device=A.device)
    turns = torch.linalg.solve(torch.where(equal, eye, A), torch.stack([F, F.mT], -1))
    left, right = torch.where(equal[..., 0], 0.0, turns).unbind(-1)
    outside = []
    for frame, image in ((U, G @ V), (V, G.mT @ U)):
        inside = torch.eye(frame.shape[-2], dtype=A.dtype, device=A.device) - frame @ frame.mT
        power = (column * (1 - 2 / depth)).exp()
        outside.append(-inside @ image * power if frame.shape[-2] > frame.shape[-1] else None)
    return ModeRates(F, left, right, *outside)
