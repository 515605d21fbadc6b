r"""Exponentials of a large symmetric operator acting on vectors.

    w(t) = tᵖ φ_p(−tA) r,   φ_0(−z) = e^{−z},   φ_1(−z) = (1 − e^{−z})/z,

for A symmetric positive semidefinite, known by its products alone, at all t ≤ T from one
Krylov space (Hochbruck & Lubich 1997, doi:10.1137/S0036142995280572). `gflow.linalg.lanczos` has
the space and the bound that says when it is large enough. Where its basis would pass a
memory limit the time is cut and a new space is begun: errors of the pieces add up, as
e^{−tA} is a contraction.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.linalg.arrays import to_numpy
from gflow.linalg.lanczos import Lanczos, Product, outer, phi

MEMORY = 2**27  # numbers in a basis: 1 GiB in float64
_FIRST = 8  # size of the first space whose bound is looked at


@dataclass(frozen=True)
class KrylovSegment:
    """w on [begin, end], from one Krylov space: base + sᵖφ_p(−sA)(its start), s = t − begin."""

    begin: float
    end: float
    order: int
    base: Tensor
    space: Lanczos
    error: np.ndarray  # bound on the error at the end, earlier pieces included, (vectors,)

    def values(self, ts: np.ndarray) -> Tensor:
        """w at times in [begin, end], shape (T, vectors, n)."""
        s = outer(ts) - self.begin
        return self.base + self.space.apply(lambda theta: phi(self.order, s, theta))

    def rates(self, ts: np.ndarray) -> Tensor:
        """dw/dt, shape (T, vectors, n)."""
        s = outer(ts) - self.begin
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
    >>> import numpy as np, torch
    >>> A = torch.diag(torch.linspace(0.0, 50.0, 200, dtype=torch.float64))
    >>> r = torch.ones(1, 200, dtype=torch.float64)
    >>> (piece,) = exponential(lambda v: v @ A, r, 10.0, lambda w: 1e-9 * w.norm(dim=1))
    >>> w = piece.values(np.array([0.1, 10.0]))
    >>> bool((w[1, 0] - torch.exp(-10 * A.diagonal())).norm() <= 1e-9), piece.space.size < 120
    (True, True)
    """
    room = min(start.shape[1], max(2, memory // max(start.numel(), 1)))
    begin, left, base, r = 0.0, max_products, torch.zeros_like(start), start
    error = np.zeros(len(start))
    while begin < end and left > 0:
        piece, limit = _grow(product, r, base, begin, end, error, tolerance, order, min(room, left))
        if not _enough(piece.error, limit):
            # Cut the time: an equal share of the error allowed for every unit of it.
            cuts = (end - begin) * 2.0 ** (-0.25 * np.arange(400))
            bounds = error + np.sum(piece.space.bound(cuts, order), axis=0)
            good = (bounds <= limit * ((begin + cuts) / end)[:, None]).all(axis=1)
            if not good.any():
                return
            cut = int(good.argmax())
            piece = replace(piece, end=begin + cuts[cut], error=bounds[cut])
        yield piece
        left -= piece.space.size
        begin, error = piece.end, piece.error
        if begin < end:
            r = piece.values(np.array([begin]))[0]
            if order == 1:
                base, left, r = r, left - 1, start - product(r)


def _grow(
    product: Product,
    r: Tensor,
    base: Tensor,
    begin: float,
    end: float,
    error: np.ndarray,
    tolerance: Callable[[Tensor], Tensor],
    order: int,
    most: int,
) -> tuple[KrylovSegment, np.ndarray]:
    """One space for [begin, end], and the error allowed; grown until it is met or most is
    reached."""
    space, size, last = Lanczos(product, r), min(_FIRST, most), (0, 0.0)
    limit: np.ndarray | None = None
    while True:
        space.extend(size - space.size)
        truncated, blurred = (b[0] for b in space.bound(np.array([end - begin]), order))
        # More products would only refine what round-off blurs.
        settled = truncated <= blurred
        total = np.where(settled, 0.0, error + truncated + blurred)
        if limit is None or _enough(total, limit) or size == most:
            piece = KrylovSegment(begin, end, order, base, space, error + truncated + blurred)
            limit = to_numpy(tolerance(piece.values(np.array([end]))[0]))
            if _enough(total, limit) or size == most:
                limit = np.where(settled, np.inf, limit)
                return piece, limit
        # The bound falls ever faster, so a line through its last two logarithms reaches
        # the limit late: go most of the way.
        with np.errstate(divide="ignore", invalid="ignore"):
            log = float(np.log(total / limit).max())
        slope = (last[1] - log) / (size - last[0])
        far = 0.7 * log / slope if slope > 0 and np.isfinite(log) else np.inf
        last = size, log
        size = min(size + int(np.clip(far, 2, size // 2)), most)


def _enough(error: np.ndarray, limit: np.ndarray) -> bool:
    return bool((error <= limit).all())


def decayed(product: Product, start: Tensor, ts: Tensor, rest: Tensor, rtol: float) -> Tensor:
    """e^{−tA}r at any times t ≥ 0, shape (T, vectors, n).

    Parameters
    ----------
    product : callable
        v ↦ A v for each row of v.
    start : Tensor, shape (vectors, n)
        r, one a row.
    ts : Tensor, shape (T,)
    rest : Tensor, shape (vectors, n)
        What e^{−tA}r is the distance from.
    rtol : float
        Error allowed in each row, relative to the larger norm of r + rest at the first and at
        the last time.
    """
    eps = torch.finfo(start.dtype).eps

    def tolerance(w: Tensor) -> Tensor:
        size = torch.maximum((start + rest).norm(dim=1), (w + rest).norm(dim=1))
        return max(rtol, 10 * eps) * size

    times, back = _sorted(ts)
    found = [start.expand(int((times == 0).sum()), *start.shape)]
    for piece in exponential(product, start, float(times.max(initial=0.0)), tolerance):
        now = times[(times > piece.begin) & (times <= piece.end)]
        found.append(piece.values(now))
    return _all_reached(found, times, back)


def _sorted(ts: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Times on the host, ascending, and the order that puts them back."""
    if not bool((ts >= 0).all()):
        raise InputError(f"times must be at least 0, got {float(ts.min()):g}")
    host = to_numpy(ts)
    order = np.argsort(host, kind="stable")
    return host[order], np.argsort(order)


def _all_reached(found: list[Tensor], times: np.ndarray, back: np.ndarray) -> Tensor:
    values = torch.cat(found)
    if len(values) < len(times):
        raise InputError(
            f"the Krylov spaces that fit into memory do not reach t = {times[-1]:g}; "
            "ask for fewer columns at once or a looser rtol"
        )
    return values[torch.from_numpy(back).to(values.device)]


def _phi1_off_null(s: np.ndarray, theta: np.ndarray) -> np.ndarray:
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
        A bound on ‖C‖₂; 0 where unknown, which is then estimated from C A r.
    rtol : float
        Error allowed, relative to the norm of all outputs at the last time.

    Returns
    -------
    Tensor, shape (T, vectors, p)
    """
    times, back = _sorted(ts)
    tiny, eps = torch.finfo(start.dtype).tiny, torch.finfo(start.dtype).eps
    size = norm
    if size == 0:
        # A product with A brings the direction near the one that C sees best.
        leading = product(start)
        size = float(test(leading).norm() / leading.norm().clamp_min(tiny))

    def tolerance(w: Tensor) -> Tensor:
        return (rtol * test(w).norm() / (max(size, eps) * len(w) ** 0.5)).expand(len(w))

    base = torch.zeros_like(test(start))
    found = [base.expand(int((times == 0).sum()), *base.shape)]
    for piece in exponential(product, start, float(times.max(initial=0.0)), tolerance, order=1):
        now = times[(times > piece.begin) & (times <= piece.end)]
        s = outer(np.append(now, piece.end)) - piece.begin
        # Where A is zero tφ₁ = t and C is zero: round-off must not grow into an output.
        null = test(piece.space.apply(lambda theta: (theta == 0)[None].astype(float)))
        floor = 10 * start.shape[1] * eps * size * torch.from_numpy(piece.space.norms).to(null)
        null = torch.where(null.abs() <= floor[:, None], torch.zeros_like(null), null)
        moving = piece.space.apply(functools.partial(_phi1_off_null, s))
        moved = base + test(moving) + torch.from_numpy(s).to(null) * null
        found, base = [*found, moved[:-1]], moved[-1]
    return _all_reached(found, times, back)
