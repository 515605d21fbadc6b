r"""Stochastic Lanczos quadrature: the spectral density of a symmetric operator from its products.

For a random vector v, |v| = 1, the measure μ_v(f) = vᵀf(A)v is the spectral density (1/n) tr f(A)
in the mean. m steps of Lanczos from v give A on the Krylov space, T_m = QᵀAQ, and with its
eigenpairs (θ_i, s_i) the Gauss quadrature Σ_i s_{i1}² f(θ_i), exact for polynomials of degree
2m − 1 (Golub & Welsch 1969; Ubaru, Chen & Saad 2017, doi:10.1137/16M1104974, section 3; for
Hessians Ghorbani, Krishnan & Xiao 2019, arXiv:1901.10159).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gflow.linalg.krylov_space import KrylovSpace


class Quadrature(NamedTuple):
    """Nodes and weights of a spectral density.

    Attributes
    ----------
    nodes : Tensor, shape (probes, steps)
        Ritz values, ascending; NaN beyond the end of a Krylov space.
    weights : Tensor, shape (probes, steps)
        Their weights, which sum to 1 for each probe; 0 there.
    """

    nodes: Tensor
    weights: Tensor


def random_probes(count: int, like: Tensor, seed: int = 0) -> Tensor:
    """Draw Gaussian vectors, (count, n), of the size, dtype and device of a tensor.

    Parameters
    ----------
    count : int
    like : Tensor
        Of n numbers.
    seed : int

    Returns
    -------
    Tensor, shape (count, n)

    Examples
    --------
    >>> random_probes(3, torch.zeros(2, 2)).shape
    torch.Size([3, 4])
    """
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(count, like.numel(), generator=noise, dtype=torch.float64).to(like)


def lanczos_quadrature(
    product: Callable[[Tensor], Tensor], probes: Tensor, steps: int
) -> Quadrature:
    """Compute the Gauss quadrature of vᵀf(A)v for each probe v.

    Parameters
    ----------
    product : callable
        v ↦ A v for v of shape (n,), A symmetric.
    probes : Tensor, shape (probes, n)
        First vectors; they are normalised.
    steps : int
        Products for each probe, and vectors in memory.

    Returns
    -------
    Quadrature

    Examples
    --------
    >>> import torch
    >>> A = torch.diag(torch.tensor([1.0, 5.0, 3.0], dtype=torch.float64))
    >>> nodes, weights = lanczos_quadrature(lambda v: A @ v, torch.ones(1, 3).double(), 3)
    >>> nodes.round(decimals=9).tolist(), weights.round(decimals=9).tolist()
    ([[1.0, 3.0, 5.0]], [[0.333333333, 0.333333333, 0.333333333]])
    """
    rows = [_of_one(product, probe, min(steps, probes.shape[1])) for probe in probes]
    nodes, weights = zip(*rows, strict=True)
    return Quadrature(_stacked(nodes, torch.nan), _stacked(weights, 0.0))


def _of_one(
    product: Callable[[Tensor], Tensor], probe: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    space = KrylovSpace(product, probe)
    space.grow(steps)
    values, vectors = space.ritz()
    return values, vectors[0].square()


def _stacked(rows: tuple[Tensor, ...], filling: float) -> Tensor:
    longest = max(map(len, rows))
    padded = [torch.cat([row, row.new_full((longest - len(row),), filling)]) for row in rows]
    return torch.stack(padded)
