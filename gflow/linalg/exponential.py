r"""Exponentials of a large symmetric operator acting on vectors.

    w(t) = tᵖ φ_p(−tA) r,   φ_0(−z) = e^{−z},   φ_1(−z) = (1 − e^{−z})/z,

for A symmetric positive semidefinite, known by its products alone, at all t ≤ T from one
Krylov space (Hochbruck & Lubich 1997, doi:10.1137/S0036142995280572). `gflow.linalg.lanczos` has
the space and the bound that says when it is large enough. Where its basis would pass a
memory limit the time is cut and a new space is begun: errors of the segments add up, as
e^{−tA} is a contraction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gflow.linalg.arrays import to_numpy
from gflow.linalg.lanczos import Lanczos, Product, broadcast_times, phi

MEMORY = 2**27  # numbers in a basis: 1 GiB in float64
_FIRST_SIZE = 8  # of the first space whose bound is computed


@dataclass(frozen=True)
class KrylovSegment:
    """w on [begin, end], from one Krylov space: base + sᵖφ_p(−sA)(its start), s = t − begin.

    Attributes
    ----------
    begin, end : float
        The times it covers.
    order : int
        p, 0 or 1.
    base : Tensor, shape (vectors, n)
        Added to what the space gives.
    space : Lanczos
        The Krylov space.
    error : ndarray, shape (vectors,)
        Bound on the error at the end, that of earlier segments included.
    """

    begin: float
    end: float
    order: int
    base: Tensor
    space: Lanczos
    error: np.ndarray

    def values(self, ts: np.ndarray) -> Tensor:
        """Return w at times in [begin, end], shape (T, vectors, n)."""
        s = broadcast_times(ts) - self.begin
        return self.base + self.space.apply(lambda theta: phi(self.order, s, theta))

    def round_off(self, ts: np.ndarray) -> np.ndarray:
        """Return what round-off of the Ritz values may do to the values, shape (T, vectors)."""
        return self.space.round_off(np.asarray(ts, float) - self.begin, self.order)

    def rates(self, ts: np.ndarray) -> Tensor:
        """Return dw/dt at times in [begin, end], shape (T, vectors, n)."""
        s = broadcast_times(ts) - self.begin
        if self.order == 0:
            return self.space.apply(lambda theta: -theta * np.exp(-s * theta))
        return self.space.apply(lambda theta: np.exp(-s * theta))


def exponential(
    product: Product,
    start: Tensor,
    end: float,
    tolerance: Callable[[Tensor], Tensor],
    *,
    order: int = 0,
    max_products: int = 1_000_000,
    memory: int = MEMORY,
) -> Iterator[KrylovSegment]:
    """Yield w(t) = tᵖφ_p(−tA)r on [0, end], in as few segments as memory allows.

    Parameters
    ----------
    product : callable
        v ↦ A v for each row of v, shape (vectors, n); A symmetric positive semidefinite.
    start : Tensor, shape (vectors, n)
        r, one a row; each has its own recurrence, and they share the calls of product.
    end : float
        The last time.
    tolerance : callable
        Approximate w(end), (vectors, n) ↦ the error allowed in each row, shape (vectors,).
    order : int
        p, 0 or 1.
    max_products : int
        Products allowed; with no more left, the last segment ends where the bound still holds,
        before ``end``.
    memory : int
        Numbers allowed in a basis.

    Yields
    ------
    KrylovSegment

    Raises
    ------
    InputError
        If A turns out not to be positive semidefinite, or a product is not finite.

    Examples
    --------
    >>> import numpy as np, torch
    >>> A = torch.diag(torch.linspace(0.0, 50.0, 200, dtype=torch.float64))
    >>> r = torch.ones(1, 200, dtype=torch.float64)
    >>> (segment,) = exponential(lambda v: v @ A, r, 10.0, lambda w: 1e-9 * w.norm(dim=1))
    >>> w = segment.values(np.array([0.1, 10.0]))
    >>> bool((w[1, 0] - torch.exp(-10 * A.diagonal())).norm() <= 1e-9), segment.space.size < 120
    (True, True)
    """
    max_size = min(start.shape[1], max(2, memory // max(start.numel(), 1)))
    begin, products, base, r = 0.0, max_products, torch.zeros_like(start), start
    error = np.zeros(len(start))
    while begin < end and products > 0:
        segment = KrylovSegment(begin, end, order, base, Lanczos(product, r), error)
        segment, limit = _grow(segment, tolerance, min(max_size, products))
        if not _within(segment.error, limit):
            # Cut the time: an equal share of the error allowed for every unit of it.
            lengths = (end - begin) * 2.0 ** (-0.25 * np.arange(400))
            bounds = error + np.sum(segment.space.bound(lengths, order), axis=0)
            good = (bounds <= limit * ((begin + lengths) / end)[:, None]).all(axis=1)
            if not good.any():
                return
            longest = int(good.argmax())
            segment = replace(segment, end=begin + lengths[longest], error=bounds[longest])
        yield segment
        products -= segment.space.size
        begin, error = segment.end, segment.error
        if begin < end:
            r = segment.values(np.array([begin]))[0]
            if order == 1:
                base, products, r = r, products - 1, start - product(r)


def _grow(
    segment: KrylovSegment, tolerance: Callable[[Tensor], Tensor], max_size: int
) -> tuple[KrylovSegment, np.ndarray]:
    """Enlarge the space of a segment until its error is allowed, or to its largest size.

    Return the segment with the bound on its error, and the error allowed.
    """
    begin, end, space, order = segment.begin, segment.end, segment.space, segment.order
    size, last = min(_FIRST_SIZE, max_size), (0, 0.0)
    limit: np.ndarray | None = None
    while True:
        space.extend(size - space.size)
        truncated, round_off = (b[0] for b in space.bound(np.array([end - begin]), order))
        # More products would only refine what round-off hides.
        settled = truncated <= round_off
        total = np.where(settled, 0.0, segment.error + truncated + round_off)
        if limit is None or _within(total, limit) or size == max_size:
            grown = replace(segment, error=segment.error + truncated + round_off)
            limit = to_numpy(tolerance(grown.values(np.array([end]))[0]))
            if _within(total, limit) or size == max_size:
                return grown, np.where(settled, np.inf, limit)
        # The bound falls ever faster, so a line through its last two logarithms reaches
        # the limit late: go most of the way.
        with np.errstate(divide="ignore", invalid="ignore"):
            log = float(np.log(total / limit).max())
        slope = (last[1] - log) / (size - last[0])
        step = 0.7 * log / slope if slope > 0 and np.isfinite(log) else np.inf
        last = size, log
        size = min(size + int(np.clip(step, 2, size // 2)), max_size)


def _within(error: np.ndarray, limit: np.ndarray) -> bool:
    return bool((error <= limit).all())
