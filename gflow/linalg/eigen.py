"""Eigenvalues and functions of eigenvalues of symmetric matrices and operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gflow.checks import require_float
from gflow.errors import InputError

_MOSTLY = 0.9  # of a vector is left: one pass of orthogonalisation is enough


def without_round_off(values: Tensor, size: int) -> Tensor:
    """Set values below size·ε·max|values| to zero: a fractional power would amplify the noise.

    Parameters
    ----------
    values : Tensor, shape (..., r)
        Singular values, or eigenvalues of a semidefinite matrix.
    size : int
        The larger dimension of the matrix.

    Returns
    -------
    Tensor, shape (..., r)

    Examples
    --------
    >>> import torch
    >>> without_round_off(torch.tensor([1.0, 1e-3, 1e-9]), 10).tolist()
    [1.0, 0.0010000000474974513, 0.0]
    """
    floor = size * torch.finfo(values.dtype).eps * values.abs().amax(-1, keepdim=True)
    return torch.where(values > floor, values, 0.0)


def row_scaled(matrix: Tensor) -> Tensor:
    """Divide rows by their norms: rows of sizes far apart keep digits of their own.

    Examples
    --------
    >>> import torch
    >>> row_scaled(torch.tensor([[3.0, 4.0], [0.0, 1e-30], [0.0, 0.0]])).tolist()[1:]
    [[0.0, 1.0], [0.0, 0.0]]
    """
    largest = matrix.abs().amax(dim=-1, keepdim=True)  # squares could underflow
    rows = matrix / torch.where(largest > 0, largest, torch.ones_like(largest))
    norms = rows.norm(dim=-1, keepdim=True)
    return rows / torch.where(norms > 0, norms, torch.ones_like(norms))


def scaled_singular_values(W: Tensor) -> Tensor:
    """Compute the singular values of a matrix with rows and columns divided by their norms.

    They show modes of a matrix whose rows or columns have sizes far apart.

    Parameters
    ----------
    W : Tensor, shape (..., m, n)

    Returns
    -------
    Tensor, shape (..., min(m, n))

    Examples
    --------
    >>> import torch
    >>> scaled_singular_values(torch.diag(torch.tensor([1.0, 1e-30]))).tolist()
    [1.0, 1.0]
    """
    # Columns first: norms of rows are those of the largest columns.
    return torch.linalg.svdvals(row_scaled(row_scaled(W.mT).mT))


def scaled_rank(W: Tensor) -> Tensor:
    """Count the modes of a matrix whose rows and columns may have sizes far apart, (...).

    Examples
    --------
    >>> import torch
    >>> scaled_rank(torch.diag(torch.tensor([1.0, 1e-30]))).item()
    2
    >>> scaled_rank(torch.ones(2, 2)).item()
    1
    """
    sigma = scaled_singular_values(W)
    return (without_round_off(sigma, 10 * max(W.shape[-2:])) > 0).sum(-1)


def singular_modes(W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose a matrix, with singular values that are round-off set to zero.

    Parameters
    ----------
    W : Tensor, shape (..., m, n)

    Returns
    -------
    U, sigma, Vh : Tensor, shapes (..., m, r), (..., r), (..., r, n)
        W = U diag(σ) Vᴴ, r = min(m, n). Values below max(m, n)·ε·σ_1 are round-off, unless rows
        and columns of sizes far apart have modes that small, and the product has every entry right
        to its row and column.

    Examples
    --------
    >>> import torch
    >>> _, sigma, _ = singular_modes(torch.diag(torch.tensor([1.0, 1e-30])))
    >>> sigma[1].item() > 0
    True
    >>> singular_modes(torch.ones(2, 2))[1][1].item()
    0.0
    """
    U, sigma, Vh = torch.linalg.svd(W, full_matrices=False)
    resolved = without_round_off(sigma, max(W.shape[-2:]))
    if bool((resolved > 0).all()):
        return U, sigma, Vh
    size = W.abs()
    rows, columns = size.amax(-1, keepdim=True), size.amax(-2, keepdim=True)
    largest = rows.amax(-2, keepdim=True).clamp_min(torch.finfo(W.dtype).tiny)
    allowed = 100 * torch.finfo(W.dtype).eps * (rows / largest) * columns
    right = (((U * sigma[..., None, :]) @ Vh - W).abs() <= allowed).all(-1).all(-1)
    index = torch.arange(sigma.shape[-1], device=W.device)
    kept = right[..., None] & (index < scaled_rank(W)[..., None])
    return U, torch.where(kept, sigma, resolved), Vh


def sym_power(A: Tensor, exponent: float) -> Tensor:
    """Compute a power of a symmetric positive semidefinite matrix.

    Parameters
    ----------
    A : Tensor, shape (..., n, n)
        Its eigenvalues at the level of round-off count as zero.
    exponent : float
        The power.

    Returns
    -------
    Tensor, shape (..., n, n)

    Examples
    --------
    >>> import torch
    >>> sym_power(torch.tensor([[4.0, 0.0], [0.0, 9.0]]), 0.5).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """
    lam, V = torch.linalg.eigh(A)
    lam = without_round_off(lam, A.shape[-1])
    return (V * lam.pow(exponent)[..., None, :]) @ V.mT


def effective_rank(sigma: Tensor) -> Tensor:
    """Return exp(entropy(σ/Σσ)) of singular values (..., r); 0 where all vanish.

    NaN where one is negative or NaN.

    Roy & Vetterli (2007), as used by Arora et al. 2019 (arXiv:1905.13655).

    Examples
    --------
    >>> import torch
    >>> effective_rank(torch.tensor([2.0, 2.0, 0.0])).item()
    2.0
    """
    sigma = require_float("singular values", sigma)
    if sigma.ndim == 0:
        raise InputError("singular values must have at least one dimension, got one number")
    total = sigma.sum(-1, keepdim=True)
    vanish = (sigma == 0).all(-1, keepdim=True)
    p = sigma / torch.where(vanish, torch.ones_like(total), total)
    entropy = -torch.special.xlogy(p, p).sum(-1)
    return torch.where(vanish[..., 0], torch.zeros_like(entropy), entropy.exp())


class Eigenpairs(NamedTuple):
    """The largest eigenvalues of a symmetric operator.

    Attributes
    ----------
    values : Tensor, shape (k,)
        Descending; each is below the true one, by at most its residual. NaN where a product
        is not finite.
    vectors : Tensor, shape (k + 1 or fewer, n)
        Their eigenvectors, and the next Ritz vector as a guard: the start for a nearby
        operator, whose order of eigenvalues may have changed.
    residuals : Tensor, shape (k,)
        ‖A v − θ v‖. Where the gap to the next eigenvalue is larger, the error is at most
        residual²/gap.
    products : int
        Products with the operator.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int


def largest_eigenvalues(
    matvec: Callable[[Tensor], Tensor],
    start: Tensor,
    k: int = 1,
    *,
    tol: float = 1e-6,
    max_products: int = 200,
) -> Eigenpairs:
    """Compute the k largest (most positive) eigenvalues of a symmetric operator.

    Rayleigh-Ritz on the span of the start, extended by the residual of the first pair that has
    not converged: from one vector, Lanczos with full reorthogonalisation; from the eigenvectors
    of a nearby operator, a few products. (``torch.lobpcg`` takes no operator; those of SciPy
    go through the host, and ARPACK takes some twenty products however good the start.)

    Parameters
    ----------
    matvec : callable
        v ↦ A v for v of shape (n,).
    start : Tensor, shape (n,) or (m, n)
        First vectors, not all zero. An eigenvalue is found at most m times.
    k : int
        Number of eigenvalues.
    tol : float
        Bound on the residuals, relative to θ_1.
    max_products : int
        Bound on the number of products, and of the vectors in memory.

    Returns
    -------
    Eigenpairs

    Examples
    --------
    >>> import torch
    >>> A = torch.diag(torch.tensor([1.0, 5.0, 3.0], dtype=torch.float64))
    >>> top = largest_eigenvalues(lambda v: A @ v, torch.ones(3, dtype=torch.float64), 2)
    >>> top.values.round(decimals=9).tolist(), top.products
    ([5.0, 3.0], 3)
    """
    n = start.shape[-1]
    k = min(k, n)
    eps = torch.finfo(start.dtype).eps
    basis = start.new_empty(0, n)
    images = start.new_empty(0, n)
    directions = list(start.reshape(-1, n))
    generator = torch.Generator().manual_seed(0)
    while True:
        for vector in directions:
            unit = _orthogonal_part(basis, vector)
            if unit is not None and len(basis) < min(max_products, n):
                basis = torch.cat([basis, unit[None]])
                images = torch.cat([images, matvec(unit)[None]])
        size = len(basis)
        square = (images @ basis.mT).double().cpu()
        if not bool(torch.isfinite(square).all()):  # as where descent diverges
            nan = start.new_full((k,), torch.nan)
            return Eigenpairs(nan, basis, nan, size)
        theta, ritz = torch.linalg.eigh((square + square.mT) / 2)
        theta, ritz = theta.flip(0), ritz.flip(1)[:, : k + 1].to(basis)
        vectors = ritz.mT @ basis
        defects = ritz.mT[:k] @ images - theta[:k, None].to(basis) * vectors[:k]
        residuals = defects.norm(dim=1)
        allowed = max(tol * float(theta[0].abs()), 10 * eps * float(theta.abs().max()))
        unconverged = (residuals > allowed).nonzero().flatten().tolist()
        if size >= min(max_products, n) or (not unconverged and size >= k):
            return Eigenpairs(theta[:k].to(basis), vectors, residuals, size)
        if unconverged:
            directions = [defects[unconverged[0]]]
        else:
            directions = [torch.randn(n, generator=generator).to(basis)]


def _orthogonal_part(basis: Tensor, vector: Tensor) -> Tensor | None:
    """Return the normalised part of a vector orthogonal to orthonormal rows; None where that is
    round-off.

    Not `gflow.linalg.orthogonalisation`: the vector is normalised after each pass."""
    size = float(vector.norm())
    for _ in range(2):  # twice is enough for orthogonality to round-off
        vector = vector - basis.mT @ (basis @ vector)
        norm = float(vector.norm())
        if not norm > 1e-8 * size:
            return None
        vector = vector / norm
        if norm > _MOSTLY * size:
            break
        size = 1.0
    return vector
