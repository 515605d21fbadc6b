"""Spectral quantities: matrix powers, effective rank, and the sharpness of a flow.

The sharpness at a state is the largest eigenvalue λ_max of the Hessian of the
objective, minus the Jacobian of its gradient flow; gradient descent is stable for
step sizes below 2/λ_max.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def without_round_off(values: Tensor, size: int) -> Tensor:
    """Singular values, or eigenvalues of a semidefinite matrix, (..., r), with those below
    size·ε·max|values| set to zero: a fractional power would amplify such noise."""
    floor = size * torch.finfo(values.dtype).eps * values.abs().amax(-1, keepdim=True)
    return torch.where(values > floor, values, torch.zeros_like(values))


def sym_power(A: Tensor, exponent: float) -> Tensor:
    """A^exponent of symmetric positive semidefinite A (..., n, n); eigenvalues at
    round-off level count as zero."""
    lam, V = torch.linalg.eigh(A)
    lam = without_round_off(lam, A.shape[-1])
    return (V * lam.pow(exponent)[..., None, :]) @ V.mT


def effective_rank(sigma: Tensor) -> Tensor:
    """exp(entropy(σ/Σσ)) of singular values (..., r); 0 where all vanish.

    Roy & Vetterli (2007), as used by Arora et al. 2019 (arXiv:1905.13655).

    Examples
    --------
    >>> import torch
    >>> effective_rank(torch.tensor([2.0, 2.0, 0.0])).item()
    2.0
    """
    total = sigma.sum(-1, keepdim=True)
    p = sigma / torch.where(total > 0, total, torch.ones_like(total))
    entropy = -torch.special.xlogy(p, p).sum(-1)
    return torch.where(total[..., 0] > 0, entropy.exp(), torch.zeros_like(entropy))


def largest_eigenvalue(
    matvec: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    tol: float = 1e-6,
    max_products: int = 200,
) -> tuple[float, int]:
    """Largest (most positive) eigenvalue of a symmetric operator by Lanczos.

    Full reorthogonalisation; stops where the Ritz residual falls below tol·|λ|.

    Parameters
    ----------
    matvec : callable
        v ↦ A v for v of the shape of start.
    start : Tensor
        A first vector, not zero.
    tol : float
        Relative tolerance of the eigenvalue's residual.
    max_products : int
        Bound on the number of products.

    Returns
    -------
    (float, int)
        λ_max and the number of products it took.

    Examples
    --------
    >>> import torch
    >>> A = torch.diag(torch.tensor([1.0, 5.0, 3.0], dtype=torch.float64))
    >>> value, products = largest_eigenvalue(lambda v: A @ v, torch.ones(3, dtype=torch.float64))
    >>> round(value, 9)
    5.0
    """
    n = start.numel()
    v = start.flatten() / start.norm()
    basis, alpha, beta = [v], [], []
    top = 0.0
    for k in range(min(max_products, n)):
        w = matvec(basis[-1].reshape(start.shape)).flatten()
        alpha.append(float(basis[-1] @ w))
        Q = torch.stack(basis, dim=1)
        for _ in range(2):
            w = w - Q @ (Q.mT @ w)
        beta.append(float(w.norm()))
        T = torch.diag(torch.tensor(alpha, dtype=torch.float64))
        if k:
            off = torch.tensor(beta[:-1], dtype=torch.float64)
            T = T + torch.diag(off, 1) + torch.diag(off, -1)
        values, vectors = torch.linalg.eigh(T)
        top = float(values[-1])
        residual = beta[-1] * abs(float(vectors[-1, -1]))
        if residual <= tol * max(abs(top), 1e-300) or beta[-1] == 0:
            return top, k + 1
        basis.append(w / beta[-1])
    return top, len(alpha)
