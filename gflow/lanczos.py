r"""Lanczos: a symmetric operator on the Krylov space of a vector.

    A Q_m = Q_m T_m + β_m q_{m+1} e_mᵀ,   ‖r‖ Q_m g(T_m) e_1 ≈ g(A) r

with Q_m orthonormal, q_1 = r/‖r‖, and T_m tridiagonal (Saad 1992, doi:10.1137/0729014). The
error of the exponentials among these g has a bound that needs T_m and β_m alone. The residual
of w_m(t) = ‖r‖ Q_m tᵖφ_p(−tT_m) e_1 in the equation it solves is β_m q_{m+1}‖r‖[tᵖφ_p(−tT_m)]_{m1},
and for A positive semidefinite e^{−sA} is a contraction, so

    ‖w(t) − w_m(t)‖ ≤ β_m ‖r‖ ∫₀ᵗ |[sᵖφ_p(−sT_m)]_{m1}| ds = β_m ‖r‖ |[t^{p+1}φ_{p+1}(−tT_m)]_{m1}|.

The integral is exact: signs alternating along the diagonal make −T_m a matrix with
positive off-diagonal entries, so the entry (m, 1) of its exponential never changes sign. The
bound grows with t, so it is enough to look at the last time.

[g(T_m)]_{m1} = ∏β_i · g[θ_1, …, θ_m] is summed as Σ_j g(θ_j) ∏β_i/∏_{i≠j}(θ_j − θ_i): its weights
keep the relative accuracy that the last components of computed eigenvectors lose where
they are tiny. What round-off may do to the sum is estimated beside it.

Memory: the basis, vectors × m × n numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gflow.errors import InputError

#: v ↦ A v for each row of v, shape (vectors, n).
Product = Callable[[Tensor], Tensor]

_SERIES = 0.3  # below this φ_2 is summed as a series


def phi(order: int, t: Tensor, theta: Tensor) -> Tensor:
    """tᵖφ_p(−tθ) for p = 0, 1, 2 and t, θ ≥ 0 that broadcast.

    Examples
    --------
    >>> import torch
    >>> t = torch.tensor([0.0, 1.0, 1e9], dtype=torch.float64)
    >>> phi(1, t, torch.zeros(1, dtype=torch.float64)).tolist()
    [0.0, 1.0, 1000000000.0]
    """
    z = t * theta
    if order == 0:
        return torch.exp(-z)
    safe = torch.where(z > 0, z, torch.ones_like(z))
    if order == 1:
        return t * torch.where(z > 0, -torch.expm1(-safe) / safe, torch.ones_like(z))
    series = torch.zeros_like(z)
    for j in range(12, 1, -1):  # Σ (−z)^{j−2}/j! from its last term
        series = (1 - z * series) / j if j > 2 else (1 - z * series) / 2
    return t * t * torch.where(z > _SERIES, (safe + torch.expm1(-safe)) / safe.square(), series)


class Lanczos:
    """Orthonormal bases of the Krylov spaces of a symmetric operator, one for each row of start.

    Every new vector is orthogonalised twice against all before it. Where a space is
    invariant (or a row of start is zero) its later vectors are zero and change nothing.

    Parameters
    ----------
    product : callable
        v ↦ A v for each row of v, shape (vectors, n).
    start : Tensor, shape (vectors, n)

    Examples
    --------
    >>> import torch
    >>> A = torch.diag(torch.tensor([1.0, 5.0, 3.0], dtype=torch.float64))
    >>> space = Lanczos(lambda v: v @ A, torch.ones(1, 3, dtype=torch.float64))
    >>> space.extend(3)
    >>> [round(x, 9) for x in space.values[0].tolist()]
    [1.0, 3.0, 5.0]
    """

    def __init__(self, product: Product, start: Tensor):
        self._product = product
        self.norms = start.norm(dim=1)
        self._next = _unit(start, self.norms)
        self._basis = start.new_empty(start.shape[0], min(32, start.shape[1]), start.shape[1])
        self._largest = torch.zeros_like(self.norms)
        self._alpha: list[Tensor] = []
        self._beta: list[Tensor] = []
        self._small: tuple[int, Tensor, Tensor] | None = None

    @property
    def size(self) -> int:
        """m, the number of basis vectors and of products so far."""
        return len(self._alpha)

    def extend(self, count: int) -> None:
        """Add basis vectors, at one product each."""
        for _ in range(count):
            m, v = self.size, self._next
            if m == self._basis.shape[1]:
                more = min(m, v.shape[1] - m)
                self._basis = torch.cat([self._basis, torch.empty_like(self._basis[:, :more])], 1)
            self._basis[:, m] = v
            Q = self._basis[:, : m + 1]
            w = self._product(v)
            along = torch.bmm(Q, w[:, :, None])
            w = w - torch.bmm(along.mT, Q)[:, 0]
            w = w - torch.bmm(torch.bmm(Q, w[:, :, None]).mT, Q)[:, 0]
            alpha, beta = along[:, -1, 0], w.norm(dim=1)
            self._largest = torch.maximum(self._largest, alpha.abs() + beta)
            noise = 10 * torch.finfo(w.dtype).eps * self._largest
            if m + 1 == v.shape[1]:  # the space is everything
                beta = torch.zeros_like(beta)
            beta = torch.where(beta <= noise, torch.zeros_like(beta), beta)
            self._next = _unit(w, beta)
            self._alpha.append(alpha)
            self._beta.append(beta)

    # -- the small problem, in float64 on the host -------------------------------------

    def _tridiagonal(self) -> tuple[Tensor, Tensor]:
        """The matrices T_m, shape (vectors, m, m), and β, shape (vectors, m), its last the β_m
        that leads out of the space."""
        alpha = torch.stack(self._alpha, dim=1).double().cpu()
        beta = torch.stack(self._beta, dim=1).double().cpu()
        if not bool(torch.isfinite(alpha.sum() + beta.sum())):
            raise InputError("the product with the operator returned NaN or infinity")
        off = beta[:, :-1]
        return torch.diag_embed(alpha) + torch.diag_embed(off, 1) + torch.diag_embed(off, -1), beta

    @property
    def values(self) -> Tensor:
        """Eigenvalues of T_m (Ritz values), ascending, shape (vectors, m)."""
        return torch.linalg.eigvalsh(self._tridiagonal()[0])

    def _decay_rates(self, theta: Tensor) -> Tensor:
        """Ritz values without their round-off; InputError where one is negative."""
        eps = torch.finfo(self._basis.dtype).eps
        noise = self._basis.shape[2] * eps * theta.abs().amax(dim=1, keepdim=True)
        if bool((theta < -10 * noise).any()):
            raise InputError(
                "the operator must be positive semidefinite, but it has an eigenvalue below "
                f"{float(theta.min()):.3g} (largest {float(theta.max()):.3g}); such a flow explodes"
            )
        return torch.where(theta > noise, theta, torch.zeros_like(theta))

    def bound(self, ts: Tensor, order: int) -> tuple[Tensor, Tensor]:
        """The bound on ‖w(t) − w_m(t)‖ of the module's head, and the round-off of computing
        it, which is to be added; both of shape (T, vectors)."""
        eps = torch.finfo(torch.float64).eps
        T, beta = self._tridiagonal()
        theta = torch.linalg.eigvalsh(T)
        top = theta.abs().amax(dim=1)[:, None, None].clamp_min(torch.finfo(torch.float64).tiny)
        gaps = (theta[:, :, None] - theta[:, None, :]).abs().clamp_min(eps * top)
        gaps.diagonal(dim1=1, dim2=2).fill_(1.0)
        logs = beta.log().sum(dim=1)[:, None] - gaps.log().sum(dim=2)
        out = beta.amin(dim=1) > 0  # else the space is invariant
        # Products of two components of orthonormal vectors: at most one.
        weights = torch.where(out[:, None], logs.exp(), torch.zeros_like(logs)).clamp_max(1.0)
        terms = weights * phi(order + 1, outer(ts), self._decay_rates(theta))
        alternating = (-1.0) ** torch.arange(self.size, dtype=torch.float64)
        blurred = eps * (10 * self.size + (top / gaps).sum(dim=2))
        norms = self.norms.double().cpu()
        return (
            norms * (alternating * terms).sum(dim=2).abs(),
            norms * (blurred * terms).sum(dim=2),
        )

    def apply(self, factors: Callable[[Tensor], Tensor]) -> Tensor:
        """‖r‖ Q_m g(T_m) e_1 for factors g: θ (vectors, m) ↦ (T, vectors, m); (T, vectors, n)."""
        if self._small is None or self._small[0] != self.size:
            theta, V = torch.linalg.eigh(self._tridiagonal()[0])
            self._small = self.size, self._decay_rates(theta), V
        _, theta, V = self._small
        modes = factors(theta) * V[:, 0]
        coefficients = torch.einsum("tvj,vmj->vtm", modes, V).to(self._basis)
        moved = torch.bmm(coefficients * self.norms[:, None, None], self._basis[:, : self.size])
        return moved.transpose(0, 1)


def outer(ts: Tensor) -> Tensor:
    """Times, (T,), as they broadcast against Ritz values, (vectors, m)."""
    return ts.double().cpu()[:, None, None]


def _unit(w: Tensor, norms: Tensor) -> Tensor:
    """Rows divided by their norms; zero where those are."""
    return w / torch.where(norms > 0, norms, torch.ones_like(norms))[:, None] * (norms > 0)[:, None]
