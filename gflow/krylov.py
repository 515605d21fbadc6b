r"""Exponentials of a large symmetric operator acting on vectors.

    w(t) = tᵖ φ_p(−tA) r,   φ_0(−z) = e^{−z},   φ_1(−z) = (1 − e^{−z})/z,

for A symmetric positive semidefinite, known by its products alone, at all t ≤ T from one
Krylov space (Hochbruck & Lubich 1997, doi:10.1137/S0036142995280572). `gflow.lanczos` has
the space and the bound that says when it is large enough. Where its basis would pass a
memory limit the time is cut and a new space is begun: errors of the pieces add up, as
e^{−tA} is a contraction.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.lanczos import Lanczos, Product, outer, phi

MEMORY = 2**27  # numbers in a basis: 1 GiB in float64
_FIRST = 8  # size of the first space whose bound is looked at


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
        return outer(ts.double() - self.begin).clamp_min(0.0)

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


def _phi1_off_null(s: Tensor, theta: Tensor) -> Tensor:
    return phi(1, s, theta) * (theta > 0)


def outputs(
    product: Product,
    start: Tensor,
    ts: Tensor,
    test: Callable[[Tensor], Tensor],
    norm: float,
    rtol: float,
) -> Tensor:
    """C tφ₁(−tA)r for a linear map C that vanishes on A's null space.

    Parameters
    ----------
    product : callable
        v ↦ A v for each row of v.
    start : Tensor, shape (vectors, n)
        r, one a row.
    ts : Tensor, shape (T,)
        Times t ≥ 0.
    test : callable
        v ↦ C v for each row of v, (…, n) to (…, p).
    norm : float
        A bound on ‖C‖₂; 0 where unknown, which is then estimated from its products.
    rtol : float
        Error allowed, relative to the norm of all outputs at the last time.

    Returns
    -------
    Tensor, shape (T, vectors, p)
    """
    if not bool((ts >= 0).all()):
        raise InputError(f"times must be at least 0, got {float(ts.min()):g}")
    tiny, eps = torch.finfo(start.dtype).tiny, torch.finfo(start.dtype).eps
    size = norm

    def tolerance(w: Tensor) -> Tensor:
        nonlocal size
        moved = test(w).norm()
        size = max(size, float(moved / w.norm().clamp_min(tiny)))
        return (rtol * moved / (max(size, eps) * len(w) ** 0.5)).expand(len(w))

    times, order = ts.double().cpu().sort()
    base = torch.zeros_like(test(start))
    found = [base.expand(int((times == 0).sum()), *base.shape)]
    end = float(times[-1]) if len(times) else 0.0
    for piece in exponential(product, start, end, tolerance, order=1):
        now = times[(times > piece.begin) & (times <= piece.end)]
        # Where A is zero tφ₁ = t and C is zero: round-off must not grow into an output.
        null = test(piece.space.apply(lambda theta: (theta == 0).double()[None]))
        floor = 10 * start.shape[1] * eps * size * piece.space.norms[:, None]
        null = torch.where(null.abs() <= floor, torch.zeros_like(null), null)
        s = outer(torch.cat([now, times.new_tensor([piece.end])]) - piece.begin)
        moved = test(piece.space.apply(functools.partial(_phi1_off_null, s)))
        moved = base + moved + s.to(null) * null
        found, base = [*found, moved[:-1]], moved[-1]
    values = torch.cat(found)
    if len(values) < len(times):
        raise InputError(
            f"the Krylov spaces that fit into memory do not reach t = {float(times[-1]):g}; "
            "ask for fewer columns at once or a looser rtol"
        )
    return values[order.argsort().to(values.device)]
