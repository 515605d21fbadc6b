"""Spectral quantities: matrix powers, effective rank, and the sharpness of a flow.

The sharpness at a state is the largest eigenvalue λ_max of the Hessian of the
objective, minus the Jacobian of its gradient flow; gradient descent is stable for
step sizes below 2/λ_max.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from gflow.flows.base import Flow

_WARM = 0.02  # of the residual where the start is near


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


class Eigenpairs(NamedTuple):
    """The largest eigenvalues of a symmetric operator.

    Attributes
    ----------
    values : Tensor, shape (k,)
        Descending; each is below the true one, by at most its residual. NaN where a product
        is not finite.
    vectors : Tensor, shape (k + 1 or fewer, n)
        Their eigenvectors, and the next Ritz vector as a guard: what to start from at a
        nearby operator, whose order of eigenvalues may have changed.
    residuals : Tensor, shape (k,)
        ‖A v − θ v‖. Where the gap to the next eigenvalue is larger, the error is at most
        residual²/gap.
    products : int
        How many it took.
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
    """The k largest (most positive) eigenvalues of a symmetric operator.

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
    tol : float
        Residuals are held to tol·θ_1.
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
    fresh = list(start.reshape(-1, n))
    noise = torch.Generator().manual_seed(0)
    while True:
        for vector in fresh:
            unit = _beyond(basis, vector)
            if unit is not None and len(basis) < min(max_products, n):
                basis = torch.cat([basis, unit[None]])
                images = torch.cat([images, matvec(unit)[None]])
        size = len(basis)
        square = (images @ basis.mT).double().cpu()
        if not bool(torch.isfinite(square).all()):  # as where descent diverges
            nothing = start.new_full((k,), torch.nan)
            return Eigenpairs(nothing, basis, nothing, size)
        theta, ritz = torch.linalg.eigh((square + square.mT) / 2)
        theta, ritz = theta.flip(0), ritz.flip(1)[:, : k + 1].to(basis)
        vectors = ritz.mT @ basis
        rest = ritz.mT[:k] @ images - theta[:k, None].to(basis) * vectors[:k]
        residuals = rest.norm(dim=1)
        allowed = max(tol * float(theta[0].abs()), 10 * eps * float(theta.abs().max()))
        late = (residuals > allowed).nonzero().flatten().tolist()
        if size >= min(max_products, n) or (not late and size >= k):
            return Eigenpairs(theta[:k].to(basis), vectors, residuals, size)
        fresh = [rest[late[0]]] if late else [torch.randn(n, generator=noise).to(basis)]


def _beyond(basis: Tensor, vector: Tensor) -> Tensor | None:
    """The part of a vector beyond the span of orthonormal rows, normalised; None where
    there is none."""
    size = vector.norm()
    for _ in range(2):  # twice is enough for orthogonality to round-off
        vector = vector - basis.mT @ (basis @ vector)
        left = vector.norm()
        if not float(left) > 1e-8 * float(size):
            return None
        vector, size = vector / left, torch.ones_like(left)
    return vector


def sharpness(
    flow: Flow,
    y: Tensor,
    k: int = 1,
    start: Tensor | None = None,
    *,
    tol: float | None = None,
    max_products: int = 200,
) -> Eigenpairs:
    """The k largest eigenvalues of the Hessian of the objective of the parameters.

    Along a path pass the ``vectors`` of one state as the ``start`` of the next, as
    `sharpness_along` does. On the digits tanh network (8,970 parameters) at 100 times to
    T = 1,000 that takes 2.6 products a time after the first, and λ_max is right to 0.1 % at
    most times, 1.3 % where it is nearly double. The last of the k may be overtaken unseen for
    a while: ask for one more than matter.

    Parameters
    ----------
    flow : Flow
        Of a reduced flow it is the objective of its parameters, at ``flow.lift(y)``.
    y : Tensor, shape (*state)
        One state.
    k : int
    start : Tensor, shape (m, n), optional
        First vectors over the flattened parameters; k fixed random ones by default.
    tol, max_products
        As in `largest_eigenvalues`; by default 0.02, and 0.002 from a random start, which
        does not know which eigenvector is the first. Where eigenvalues are apart, the
        relative error is of the order of tol².

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    >>> flow = gflow.KernelFlow(H, torch.ones(2, dtype=torch.float64))
    >>> round(sharpness(flow, torch.zeros(2, dtype=torch.float64)).values.item(), 4)
    4.0
    """
    inner, theta = flow.parameter_flow, flow.lift(y)
    if tol is None:
        tol = _WARM if start is not None else _WARM / 10
    if start is None:
        noise = torch.Generator().manual_seed(0)
        # As many as values: a repeated eigenvalue is seen as often as there are first vectors.
        start = torch.randn(k, theta.numel(), generator=noise, dtype=torch.float64).to(theta)
    product = inner.linearised(theta)
    return largest_eigenvalues(
        lambda v: -product(v.reshape(theta.shape)).flatten(),
        start,
        k,
        tol=tol,
        max_products=max_products,
    )


class SharpnessPath:
    """`sharpness` along one path, state by state, each started from the one before.

    Parameters
    ----------
    flow : Flow
    k, tol
        As in `sharpness`.
    """

    def __init__(self, flow: Flow, k: int = 1, *, tol: float | None = None):
        self.k = k
        self.values: list[Tensor] = []  #: (k,) at every state so far
        self.vectors: Tensor | None = None  #: what to start the next state from
        self.products = 0
        self._flow = flow
        self._tol = tol

    def add(self, y: Tensor) -> Eigenpairs:
        """The eigenvalues at the next state, (*state)."""
        top = sharpness(self._flow, y, self.k, self.vectors, tol=self._tol)
        self.values.append(top.values)
        self.vectors, self.products = top.vectors, self.products + top.products
        return top

    def tensors(self) -> dict[str, Tensor]:
        """What it knows so far, once there is a state; none of it is written to again."""
        if self.vectors is None:
            return {}
        return {"sharpness": torch.stack(self.values), "sharpness_vectors": self.vectors}

    def restore(self, tensors: Mapping[str, Tensor], products: int, like: Tensor) -> None:
        """The inverse of `tensors`, on the device of like; and how many products that took."""
        self.values = list(tensors["sharpness"].to(like))
        self.vectors, self.products = tensors["sharpness_vectors"].to(like), products


def sharpness_along(
    flow: Flow, ys: Tensor, k: int = 1, *, tol: float | None = None
) -> tuple[Tensor, int]:
    """`sharpness` at states of one path in turn, each started from the one before.

    Along a path that is yet to be integrated, `gflow.integrate` takes it with
    ``sharpness=k``, and the solver makes use of it.

    Parameters
    ----------
    flow : Flow
    ys : Tensor, shape (T, *state)
    k, tol
        As in `sharpness`.

    Returns
    -------
    (Tensor of shape (T, k), int)
        The eigenvalues, and how many products they took.
    """
    path = SharpnessPath(flow, k, tol=tol)
    for y in ys:
        path.add(y)
    return torch.stack(path.values), path.products
