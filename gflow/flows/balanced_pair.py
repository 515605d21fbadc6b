r"""The closed form of a λ-balanced two-layer linear network on ½‖W₂W₁ − M‖².

With Q = [W₁ᵀ; W₂] and W₂ᵀW₂ − W₁W₁ᵀ = λI, which the flow conserves, Q alone says how it moves:

    Q̇ = F Q − ½ Q QᵀQ,   F = [[−λ/2 I, Mᵀ], [M, λ/2 I]]

so that P = QQᵀ solves Ṗ = F P + P F − P², which `riccati_factor` has in closed form (λ = 0:
Fukumizu 1998; Braun et al. 2022, eq. 9; any λ: Dominé et al. 2024, arXiv:2409.14623, theorem 4.3).
P determines W = W₂W₁ and both Gram matrices, and the layers up to a rotation of the hidden units.
That one follows from QᵀQ̇ being symmetric: within a panel of time, factors Q̂ of P for which ZᵀQ̂ is
symmetric, Z a pseudo-inverse of Q̂ᵀ at the start of the panel, are smooth, and Q = Q̂R with

    Ṙ = ΩR,   SΩ + ΩS = K − Kᵀ,   S = ZᵀQ̂,   K = Zᵀ(F Q̂ − ½ Q̂Q̂ᵀQ̂),

an equation in R alone, solved to round-off by Chebyshev collocation; panels are bisected until
the highest coefficients vanish. Time unit: t = k·step_size of descent on the layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.flows.closed_forms import riccati_factor
from gflow.linalg.eigen import without_round_off

_NODES = 16  # of a panel, both ends among them
_TAIL = 3  # Chebyshev coefficients that must vanish
_SMALL = 1e-13  # against the size of Q
_LATEST = 1e18  # over the fastest time scale: then nothing turns any more
_MAX_PANELS = 4096
_PICARD = 40  # iterations; the error falls as 1/k!
_LEAST_MODE = 1e-6  # of the largest: round-off in smaller modes of a start would show


# -- starts -----------------------------------------------------------------------


def shared_balance(layers: Sequence[Tensor]) -> float | None:
    """Return λ where W₂ᵀW₂ − W₁W₁ᵀ = λI to round-off; None where it is no multiple of I.

    Parameters
    ----------
    layers : sequence of Tensor
        [W₁, W₂], (h, d_0) and (d_2, h).

    Returns
    -------
    float or None

    Examples
    --------
    >>> import torch
    >>> W = torch.eye(2, dtype=torch.float64)
    >>> shared_balance([W, 2 * W]), shared_balance([W, torch.diag(torch.tensor([1.0, 2.0]))])
    (3.0, None)
    """
    first, second = layers
    D = second.mT @ second - first @ first.mT
    scale = first.square().sum() + second.square().sum()
    balance = D.diagonal().mean()
    allowed = 1e3 * torch.finfo(D.dtype).eps * scale
    if bool(D.norm() <= allowed):
        return 0.0
    excess = D - balance * torch.eye(len(D), dtype=D.dtype, device=D.device)
    return float(balance) if bool(excess.norm() <= allowed) else None


def pair_with_balance(W: Tensor, width: int, balance: float) -> list[Tensor]:
    """Build two layers with product W and W₂ᵀW₂ − W₁W₁ᵀ = λI, λ ≠ 0.

    With W = U diag(σ) Vᵀ they are W₂ = U diag(a), W₁ = diag(b) Vᵀ, ab = σ, a² − b² = λ.

    Parameters
    ----------
    W : Tensor, shape (..., d_2, d_0)
        The product.
    width : int
        Hidden width h: from the rank of W to d_2 for λ > 0, to d_0 for λ < 0.
    balance : float
        λ.

    Returns
    -------
    list of Tensor
        [W₁, W₂], (..., h, d_0) and (..., d_2, h).

    Raises
    ------
    InputError
        If the hidden width is out of this range.

    Examples
    --------
    >>> import torch
    >>> first, second = pair_with_balance(torch.tensor([[2.0]]), 1, 3.0)
    >>> first.tolist(), second.tolist()
    ([[1.0]], [[2.0]])
    """
    if balance < 0:
        first, second = pair_with_balance(W.mT, width, -balance)
        return [second.mT, first.mT]
    rows, columns = W.shape[-2:]
    U, sigma, Vh = torch.linalg.svd(W, full_matrices=True)
    sigma = without_round_off(sigma, max(rows, columns))
    rank = int((sigma > 0).sum(-1).max())
    if not rank <= width <= rows:
        raise InputError(
            f"a start of this balance needs a hidden width from the rank of W0, {rank}, to "
            f"{rows} (d_N for a positive balance, d_0 for a negative one), got {width}; change "
            "the width, or pass balance=0"
        )
    modes = min(width, len(Vh[..., 0, :]), sigma.shape[-1])
    sigma = torch.nn.functional.pad(sigma[..., :modes], (0, width - modes))
    a = ((balance + torch.hypot(sigma.new_tensor(balance), 2 * sigma)) / 2).sqrt()
    b = (sigma / a)[..., :modes, None]
    first = torch.nn.functional.pad(b * Vh[..., :modes, :], (0, 0, 0, width - modes))
    return [first, U[..., :width] * a[..., None, :]]


def resolved_modes(first: Tensor, second: Tensor, M: Tensor, balance: float) -> Tensor | None:
    """Return a basis (h, r) of the hidden units in use; None where round-off decides the path.

    It does where a mode of Q is small beside the largest, or where Q nearly misses an eigenvector
    of F that grows faster than those which it has: such a start stays at a saddle.

    Parameters
    ----------
    first, second : Tensor, shape (h, d_0) and (d_2, h)
        The layers.
    M : Tensor, shape (d_2, d_0)
        Target.
    balance : float
        λ of W₂ᵀW₂ − W₁W₁ᵀ = λI.

    Returns
    -------
    Tensor or None

    Examples
    --------
    >>> import torch
    >>> W = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    >>> resolved_modes(W, W, W, 0.0).shape, resolved_modes(W, W, -W, 0.0)
    (torch.Size([2, 1]), None)
    """
    Q0 = torch.cat([first.mT, second])
    _, sigma, Eh = torch.linalg.svd(Q0, full_matrices=False)
    used = sigma > max(Q0.shape) * torch.finfo(sigma.dtype).eps * sigma[0]
    least = _LEAST_MODE * sigma[0]
    if bool((used & (sigma < least)).any()) or not bool(used.any()):
        return None
    basis = Eh[used].mT
    rates, V = torch.linalg.eigh(_generator(M, balance))
    reached = (V.mT @ Q0 @ basis).flip(0)
    rates = rates.flip(0)
    apart = rates[:-1] - rates[1:] > 1e-10 * rates.abs().max()
    for rows in [*(apart.nonzero().flatten() + 1).tolist(), len(rates)]:
        if bool((torch.linalg.svdvals(reached[:rows]) < least).any()):
            return None
        if rows >= basis.shape[1]:
            break
    return basis


def _generator(M: Tensor, balance: float) -> Tensor:
    """Return F = [[−λ/2 I, Mᵀ], [M, λ/2 I]]."""
    rows, columns = M.shape
    signs = torch.cat([-M.new_ones(columns), M.new_ones(rows)])
    F = torch.diag(0.5 * balance * signs)
    F[:columns, columns:], F[columns:, :columns] = M.mT, M
    return F


# -- the path ---------------------------------------------------------------------


def balanced_pair(
    first: Tensor, second: Tensor, M: Tensor, balance: float, ts: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the layers of a λ-balanced two-layer linear network under the flow of ½‖W − M‖².

    Parameters
    ----------
    first, second : Tensor, shape (h, d_0) and (d_2, h)
        The layers at t = 0.
    M : Tensor, shape (d_2, d_0)
        Target.
    balance : float
        λ of W₂ᵀW₂ − W₁W₁ᵀ = λI.
    ts : Tensor, shape (T,)
        Times, t ≥ 0, in any order.

    Returns
    -------
    (Tensor, Tensor), shape (T, h, d_0) and (T, d_2, h)
        The layers at each time.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> W_1, W_2 = balanced_pair(one, 2 * one, 5 * one, 3.0, torch.tensor([0.0, 99.0]).double())
    >>> (W_2 * W_1).flatten().tolist()[0], round((W_2 * W_1).flatten().tolist()[1], 12)
    (2.0, 5.0)
    """
    columns = first.shape[-1]
    Q0 = torch.cat([first.mT, second]).double()
    M, times = M.double(), ts.double()
    basis = resolved_modes(first.double(), second.double(), M, balance)
    E = torch.eye(len(first), dtype=Q0.dtype, device=Q0.device) if basis is None else basis
    path = _Path(_generator(M, balance), Q0 @ E)
    Q = path(times) @ E.mT
    Q = torch.where((times == 0)[:, None, None], Q0, Q).to(first.dtype)
    return Q[:, :columns].mT, Q[:, columns:]


@dataclass(frozen=True)
class _Panels:
    """Panels [a, b] of time, of which Q(a) = Q̂(a)·turn."""

    a: Tensor  # (p,)
    b: Tensor
    Z: Tensor  # (p, n, k)
    coefficients: Tensor  # (p, nodes, k, k), Chebyshev's, of R
    end: Tensor  # Q̂(b)R(b), (p, n, k)


class _Path:
    """Q(t) of Q̇ = F Q − ½QQᵀQ from Q(0) = Q₀."""

    def __init__(self, F: Tensor, Q0: Tensor):
        self._F, self._Q0 = F, Q0
        x = np.cos(np.pi * np.arange(_NODES - 1, -1, -1) / (_NODES - 1))
        values = np.polynomial.chebyshev.chebvander(x, _NODES - 1)
        inverse = np.linalg.inv(values)
        integrals = [
            np.polynomial.chebyshev.chebval(x, np.polynomial.chebyshev.chebint(row, lbnd=-1))
            for row in np.eye(_NODES)
        ]
        self._x = torch.from_numpy((x + 1) / 2).to(Q0)
        self._inverse = torch.from_numpy(inverse).to(Q0)
        self._integral = torch.from_numpy(np.stack(integrals, 1) @ inverse).to(Q0) / 2

    def _factor(self, ts: Tensor) -> Tensor:
        flat = riccati_factor(self._F, self._Q0, 1.0, ts.flatten())
        return flat.unflatten(0, ts.shape)

    def __call__(self, ts: Tensor) -> Tensor:
        """Compute Q at times in any order, (T, n, k)."""
        if not bool((ts > 0).any()):
            return self._Q0.expand(len(ts), *self._Q0.shape)
        panels = self._panels(float(ts.max()))
        turns = [torch.eye(self._Q0.shape[1], dtype=ts.dtype, device=ts.device)]
        for Z, end in zip(panels.Z[1:], panels.end[:-1], strict=True):
            turns.append(_orthogonal(Z.mT @ end @ turns[-1]))
        index = torch.searchsorted(panels.b, ts).clamp_max(len(panels.b) - 1)
        a, b = panels.a[index], panels.b[index]
        angle = torch.acos((2 * (ts - a) / (b - a) - 1).clamp(-1, 1))
        basis = torch.cos(angle[:, None] * torch.arange(_NODES).to(ts))
        R = torch.einsum("tc,tcij->tij", basis, panels.coefficients[index])
        Q, _, _ = _smooth(self._factor(ts), panels.Z[index])
        return Q @ R @ torch.stack(turns)[index]

    def _panels(self, t_end: float) -> _Panels:
        speed = float(torch.linalg.matrix_norm(self._F, 2) + self._Q0.square().sum())
        t_end = min(t_end, _LATEST / speed)
        count = max(0, math.ceil(math.log2(max(t_end * speed, 1.0))))
        edges = self._Q0.new_tensor([0.0, *(t_end * 0.5**j for j in range(count, -1, -1))])
        a, b = edges[:-1], edges[1:]
        done: list[_Panels] = []
        total = 0
        while len(a):
            panels, settled = self._solved(a, b)
            total += len(a)
            settled |= total > _MAX_PANELS
            done.append(_Panels(*(value[settled] for value in vars(panels).values())))
            a, b = a[~settled], b[~settled]
            middle = 0.5 * (a + b)
            a, b = torch.cat([a, middle]), torch.cat([middle, b])
        joined = [torch.cat(parts) for parts in zip(*(vars(p).values() for p in done), strict=True)]
        order = joined[0].argsort()
        return _Panels(*(value[order] for value in joined))

    def _solved(self, a: Tensor, b: Tensor) -> tuple[_Panels, Tensor]:
        """Solve Ṙ = ΩR on panels; also say which of them are resolved."""
        half = self._factor(torch.cat([a[:, None] + (b - a)[:, None] * self._x], dim=1))
        Z = torch.linalg.pinv(half[:, 0], rtol=_SMALL).mT
        Q, S, V = _smooth(half, Z[:, None])
        velocity = self._F @ Q - 0.5 * Q @ (Q.mT @ Q)
        size = torch.linalg.matrix_norm(Q)
        noise = 50 * torch.finfo(Q.dtype).eps * size * torch.linalg.matrix_norm(self._F)
        still = torch.linalg.matrix_norm(velocity) <= noise
        K = V.mT @ (Z[:, None].mT @ velocity) @ V
        pairs = S[..., :, None] + S[..., None, :]
        Omega = torch.where(pairs > 0.1, (K - K.mT) / pairs.clamp_min(0.1), 0.0)
        Omega = torch.where(still[..., None, None], 0.0, V @ Omega @ V.mT)
        Omega = Omega * (b - a)[:, None, None, None]
        eye = torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device)
        R = eye.expand_as(Omega)
        for _ in range(_PICARD):
            before, R = R, eye + torch.einsum("st,ptij->psij", self._integral, Omega @ R)
            if bool((R - before).abs().max() <= torch.finfo(R.dtype).eps):
                break
        coefficients = torch.einsum("ct,ptij->pcij", self._inverse, R)
        tail = coefficients[:, -_TAIL:].abs().amax(dim=1)[:, None]
        error = (torch.linalg.matrix_norm(Q.abs() @ tail) / size).amax(dim=1)
        slow = torch.linalg.matrix_norm(Omega).amax(dim=1) <= 2.0
        settled = slow & (error <= _SMALL) & (S.amin(dim=(-2, -1)) > 0.1)
        return _Panels(a, b, Z, coefficients, Q[:, -1] @ R[:, -1]), settled


def _smooth(half: Tensor, Z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Turn factors such that ZᵀQ̂ = V diag(S) Vᵀ is symmetric and positive; return Q̂, S and V."""
    U, S, Vh = torch.linalg.svd(half.mT @ Z)
    return half @ (U @ Vh), S, Vh.mT


def _orthogonal(A: Tensor) -> Tensor:
    """Return the orthogonal matrix next to A."""
    U, _, Vh = torch.linalg.svd(A)
    return U @ Vh
