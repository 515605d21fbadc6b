r"""Exponentials of a large symmetric operator acting on vectors, by Lanczos.

    w(t) = tᵖ φ_p(−tA) r,   φ_0(−z) = e^{−z},   φ_1(−z) = (1 − e^{−z})/z,

for A symmetric positive semidefinite, known by its products alone. With Q_m an
orthonormal basis of the Krylov space of (A, r) and T_m = Q_mᵀAQ_m,

    w_m(t) = ‖r‖ Q_m tᵖ φ_p(−tT_m) e_1

(Saad 1992, doi:10.1137/0729014; Hochbruck & Lubich 1997, doi:10.1137/S0036142995280572)
serves all times, small ones at fewer products. As e^{−sA} is a contraction and the
residual of w_m' = … is β_m q_{m+1} ‖r‖ [tᵖφ_p(−tT_m)]_{m1},

    ‖w(t) − w_m(t)‖ ≤ β_m ‖r‖ ∫₀ᵗ |[sᵖφ_p(−sT_m)]_{m1}| ds = β_m ‖r‖ |[t^{p+1}φ_{p+1}(−tT_m)]_{m1}|.

The integral is exact: signs alternating along the diagonal make −T_m a matrix with
positive off-diagonal entries, so the entry (m, 1) of its exponential never changes sign.
The bound grows with t, so it is enough to look at the last time.

[g(T_m)]_{m1} = ∏β_i · g[θ_1, …, θ_m] is summed as Σ_j g(θ_j) ∏β_i/∏_{i≠j}(θ_j − θ_i), which
keeps the relative accuracy of tiny weights that the last components of computed
eigenvectors do not have, and its own round-off is added to the bound.

Memory: the basis, vectors × size × m numbers; where that would pass a limit the time is cut
and a new space is begun.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.errors import InputError

#: v ↦ A v for each row of v, shape (vectors, n).
Product = Callable[[Tensor], Tensor]

MEMORY = 2**27  # numbers in a basis: 1 GiB in float64
_FIRST = 8  # size of the first space whose bound is looked at
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
        terms = weights * phi(order + 1, _outer(ts), self._decay_rates(theta))
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


def _outer(ts: Tensor) -> Tensor:
    """Times, (T,), as they broadcast against Ritz values, (vectors, m)."""
    return ts.double().cpu()[:, None, None]


def _unit(w: Tensor, norms: Tensor) -> Tensor:
    """Rows divided by their norms; zero where those are."""
    return w / torch.where(norms > 0, norms, torch.ones_like(norms))[:, None] * (norms > 0)[:, None]


@dataclass(frozen=True)
class Piece:
    """w on [begin, end], from one Krylov space: base + sᵖφ_p(−sA)(its start), s = t − begin."""

    begin: float
    end: float
    order: int
    base: Tensor
    space: Lanczos
    error: Tensor  # bound on the error at the end, earlier pieces included, shape (vectors,)

    def _elapsed(self, ts: Tensor) -> Tensor:
        return _outer(ts.double() - self.begin).clamp_min(0.0)

    def values(self, ts: Tensor) -> Tensor:
        """w at times in [begin, end], shape (T, vectors, n)."""
        s = self._elapsed(ts)
        return self.base + self.space.apply(lambda theta: phi(self.order, s, theta))

    def rates(self, ts: Tensor) -> Tensor:
        """dw/dt, shape (T, vectors, n)."""
        s = self._elapsed(ts)
        if self.order == 0:
            return self.space.apply(lambda theta: -theta * torch.exp(-s * theta))
        return self.space.apply(lambda theta: torch.exp(-s * theta))


def exponential(
    product: Product,
    start: Tensor,
    end: float,
    tolerance: Callable[[Tensor], Tensor],
    *,
    order: int = 0,
    max_products: int = 1_000_000,
    memory: int = MEMORY,
) -> Iterator[Piece]:
    """w(t) = tᵖφ_p(−tA)r on [0, end], in as few pieces as memory allows.

    Parameters
    ----------
    product : callable
        v ↦ A v for each row of v, shape (vectors, n); A symmetric positive semidefinite.
    start : Tensor, shape (vectors, n)
        r, one a row; each has a recurrence of its own and they share the calls of product.
    end : float
        The last time.
    tolerance : callable
        Approximate w(end), (vectors, n) ↦ the error allowed in each row, shape (vectors,).
    order : int
        p, 0 or 1.
    max_products : int
        Where they run out, the last piece ends where the bound still holds, before ``end``.
    memory : int
        Most numbers in a basis.

    Yields
    ------
    Piece

    Raises
    ------
    InputError
        If A turns out not to be positive semidefinite, or a product is not finite.

    Examples
    --------
    >>> import torch
    >>> A = torch.diag(torch.linspace(0.0, 50.0, 200, dtype=torch.float64))
    >>> r = torch.ones(1, 200, dtype=torch.float64)
    >>> (piece,) = exponential(lambda v: v @ A, r, 10.0, lambda w: 1e-9 * w.norm(dim=1))
    >>> w = piece.values(torch.tensor([0.1, 10.0]))
    >>> bool((w[1, 0] - torch.exp(-10 * A.diagonal())).norm() <= 1e-9), piece.space.size < 120
    (True, True)
    """
    n = start.shape[1]
    room = max(2, min(n, memory // max(start.numel(), 1)))
    begin, left, base = 0.0, max_products, torch.zeros_like(start)
    r, error = start, start.new_zeros(start.shape[0], dtype=torch.float64, device="cpu")
    while begin < end and left > 0:
        space = Lanczos(product, r)
        span = torch.tensor([end - begin], dtype=torch.float64)
        most, limit = min(room, left), torch.full_like(error, torch.inf)
        for size in _sizes(most):
            space.extend(size - space.size)
            truncated, blurred = (b[0] for b in space.bound(span, order))
            if size < most and not _enough(error + truncated, blurred, limit):
                continue
            piece = Piece(begin, end, order, base, space, error + truncated + blurred)
            limit = tolerance(piece.values(torch.tensor([end]))[0]).double().cpu()
            if _enough(error + truncated, blurred, limit):
                yield piece
                return
        left -= most
        # Cut the time: an equal share of the error allowed for every unit of it.
        cuts = span * 2.0 ** (-0.25 * torch.arange(400, dtype=torch.float64))
        shares = limit * ((begin + cuts) / end)[:, None]
        bounds = error + sum(space.bound(cuts, order))
        good = (bounds <= shares).all(dim=1).nonzero()
        if not len(good):
            return
        cut = int(good[0])
        piece = Piece(begin, begin + float(cuts[cut]), order, base, space, bounds[cut])
        yield piece
        begin, error = piece.end, piece.error
        r = piece.values(torch.tensor([begin], dtype=torch.float64))[0]
        if order == 1:
            base, left = r, left - 1
            r = start - product(base)


def _enough(truncated: Tensor, blurred: Tensor, limit: Tensor) -> bool:
    """Whether the bound is met, or more products would only refine what round-off blurs."""
    return bool(((truncated + blurred <= limit) | (truncated <= blurred)).all())


def _sizes(most: int) -> Iterator[int]:
    """Sizes of the space at which the bound is looked at, up to most."""
    sizes = itertools.accumulate(itertools.repeat(_FIRST), lambda m, _: m + max(2, m // 16))
    yield from itertools.takewhile(lambda m: m < most, sizes)
    yield most
