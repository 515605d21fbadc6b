"""Singular vectors of a start: their signs, and bases for equal singular values."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

EQUAL = 1e-8  # distance of logs of singular values that count as equal at a start


def signed(U: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
    """Return pairs of singular vectors whose largest entry of U is positive.

    Parameters
    ----------
    U, V : Tensor, shapes (..., m, r) and (..., n, r)

    Returns
    -------
    U, V : Tensor

    Examples
    --------
    >>> U, V = signed(-torch.eye(2), torch.eye(2))
    >>> U.diagonal().tolist(), V.diagonal().tolist()
    ([1.0, 1.0], [-1.0, -1.0])
    """
    largest = U.abs().argmax(dim=-2, keepdim=True)
    sign = torch.gather(U, -2, largest).sign()
    return U * sign, V * sign


def with_gradient(logs: Tensor, U: Tensor, V: Tensor, G: Tensor) -> tuple[Tensor, Tensor]:
    """Return singular vectors that equal singular values take as they move apart.

    Of the basis of a space of equal singular values W tells nothing: as Ẇ sets out along −G, it is
    one of eigenvectors of the symmetric part of UᵀGV, the fastest first.

    Parameters
    ----------
    logs : Tensor, shape (..., r)
        In descending order.
    U, V : Tensor, shapes (..., m, r) and (..., n, r)
    G : Tensor, shape (..., m, n)
        ∇ℓ(W).

    Returns
    -------
    U, V : Tensor

    Examples
    --------
    >>> G = torch.diag(torch.tensor([-1.0, -2.0]))
    >>> U, _ = with_gradient(torch.zeros(2), torch.eye(2), torch.eye(2), G)
    >>> U.abs().tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    if logs.ndim > 1:
        members = [with_gradient(*member) for member in zip(logs, U, V, G, strict=True)]
        left, right = zip(*members, strict=True)
        return torch.stack(left), torch.stack(right)
    gaps = (logs[:-1] - logs[1:]).tolist()
    cuts = [i + 1 for i, gap in enumerate(gaps) if not gap <= EQUAL]
    lefts, rights = [], []
    for first, end in itertools.pairwise([0, *cuts, len(logs)]):
        u, v = U[:, first:end], V[:, first:end]
        if end - first > 1:
            g = u.mT @ G @ v
            turn = torch.linalg.eigh(0.5 * (g + g.mT)).eigenvectors
            u, v = u @ turn, v @ turn
        lefts.append(u)
        rights.append(v)
    return torch.cat(lefts, dim=1), torch.cat(rights, dim=1)
