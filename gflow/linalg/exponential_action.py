"""Exponentials of a symmetric operator acting on vectors, at times in any order.

Built on the segments of `gflow.linalg.exponential`, whose Krylov spaces cover the times.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.linalg.arrays import to_numpy
from gflow.linalg.exponential import exponential
from gflow.linalg.lanczos import Product, broadcast_times, phi


def warn_of_round_off(error: float, size: float, dtype: torch.dtype, stacklevel: int = 2) -> None:
    """Warn where round-off of the eigenvalues changes a result by more than √eps of its size.

    Parameters
    ----------
    error, size : float
        The change by round-off, and the size of the result.
    dtype : torch.dtype
    stacklevel : int
        As in `warnings.warn`, seen from the caller.

    Examples
    --------
    >>> warn_of_round_off(1e-12, 1.0, torch.float64)
    """
    relative = error / max(size, torch.finfo(dtype).tiny)
    if relative > torch.finfo(dtype).eps ** 0.5:
        warnings.warn(
            f"round-off of the smallest eigenvalues may change the outputs by {relative:.1g} of "
            "their size at the last times; use earlier times, or gflow.integrate with method='bdf'",
            RuntimeWarning,
            stacklevel=stacklevel + 1,
        )


def exponential_action(
    product: Product, start: Tensor, ts: Tensor, rest: Tensor, rtol: float
) -> Tensor:
    """Compute e^{−tA}r at any times t ≥ 0.

    Parameters
    ----------
    product : callable
        v ↦ A v for each row of v.
    start : Tensor, shape (vectors, n)
        r, one a row.
    ts : Tensor, shape (T,)
        Times, in any order.
    rest : Tensor, shape (vectors, n)
        The state that e^{−tA}r is the distance from.
    rtol : float
        Error allowed in each row, relative to the larger norm of r + rest at the first and at
        the last time.

    Returns
    -------
    Tensor, shape (T, vectors, n)

    Raises
    ------
    InputError
        If a time is negative, A is not positive semidefinite, or memory does not suffice.

    Examples
    --------
    >>> import torch
    >>> r, rate = torch.ones(1, 3).double(), torch.tensor([0.0, 1.0, 2.0]).double()
    >>> w = exponential_action(lambda v: rate * v, r, torch.ones(1).double(), 0 * r, 1e-9)
    >>> bool((w[0, 0] - torch.exp(-rate)).norm() < 1e-8)
    True
    """
    eps = torch.finfo(start.dtype).eps

    def tolerance(w: Tensor) -> Tensor:
        size = torch.maximum((start + rest).norm(dim=1), (w + rest).norm(dim=1))
        return max(rtol, 10 * eps) * size

    times, order = _sorted(ts)
    values, lost = [start.expand(int((times == 0).sum()), *start.shape)], np.zeros(len(start))
    for segment in exponential(product, start, float(times.max(initial=0.0)), tolerance):
        covered = times[(times > segment.begin) & (times <= segment.end)]
        values.append(segment.values(covered))
        lost = np.maximum(lost, segment.round_off(np.append(covered, segment.end)).max(axis=0))
    size = torch.maximum((start + rest).norm(dim=1), rest.norm(dim=1))
    warn_of_round_off(float(lost.max()), float(size.max()), start.dtype, stacklevel=4)
    return _in_order(values, times, order)


def _sorted(ts: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return times on the host, ascending, and the order that puts them back."""
    if not bool((ts >= 0).all()):
        raise InputError(f"times must be at least 0, got {float(ts.min()):g}")
    times = to_numpy(ts)
    order = np.argsort(times, kind="stable")
    return times[order], np.argsort(order)


def _in_order(values: list[Tensor], times: np.ndarray, order: np.ndarray) -> Tensor:
    """Return the values at all times; InputError where the last times were not reached."""
    joined = torch.cat(values)
    if len(joined) < len(times):
        raise InputError(
            f"the Krylov spaces that fit into memory do not reach t = {times[-1]:g}; "
            "compute fewer columns at once, or use a looser rtol"
        )
    return joined[torch.from_numpy(order).to(joined.device)]


def _phi1_off_null(s: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return phi(1, s, theta) * (theta > 0)


def phi1_action(
    product: Product,
    start: Tensor,
    ts: Tensor,
    test: Callable[[Tensor], Tensor],
    norm: float,
    rtol: float,
) -> Tensor:
    """Compute C tφ₁(−tA)r for a linear map C that vanishes on A's null space.

    Parameters
    ----------
    product : callable
        v ↦ A v for each row of v.
    start : Tensor, shape (vectors, n)
        r, one a row.
    ts : Tensor, shape (T,)
        Times t ≥ 0, in any order.
    test : callable
        v ↦ C v for each row of v, (…, n) to (…, p).
    norm : float
        A bound on ‖C‖₂; 0 where unknown, which is then estimated from C A r.
    rtol : float
        Error allowed, relative to the norm of all outputs at the last time.

    Returns
    -------
    Tensor, shape (T, vectors, p)

    Raises
    ------
    InputError
        If a time is negative, A is not positive semidefinite, or memory does not suffice.

    Examples
    --------
    >>> import torch
    >>> r, rate = torch.ones(1, 2).double(), torch.tensor([1.0, 2.0]).double()
    >>> t = torch.tensor([0.5]).double()
    >>> u = phi1_action(lambda v: rate * v, r, t, lambda v: rate * v, 2.0, 1e-9)
    >>> bool((u[0, 0] - (1 - torch.exp(-rate / 2))).norm() < 1e-8)
    True
    """
    times, order = _sorted(ts)
    tiny, eps = torch.finfo(start.dtype).tiny, torch.finfo(start.dtype).eps
    size = norm
    if size == 0:
        # A product with A brings the direction near the one of C's largest singular value.
        leading = product(start)
        size = float(test(leading).norm() / leading.norm().clamp_min(tiny))

    def tolerance(w: Tensor) -> Tensor:
        return (rtol * test(w).norm() / (max(size, eps) * len(w) ** 0.5)).expand(len(w))

    base = torch.zeros_like(test(start))
    values = [base.expand(int((times == 0).sum()), *base.shape)]
    last = float(times.max(initial=0.0))
    for segment in exponential(product, start, last, tolerance, order=1):
        covered = times[(times > segment.begin) & (times <= segment.end)]
        s = broadcast_times(np.append(covered, segment.end)) - segment.begin
        # Where A is zero tφ₁ = t and C is zero: round-off must not grow into an output.
        null = test(segment.space.apply(lambda theta: (theta == 0)[None].astype(float)))
        floor = 10 * start.shape[1] * eps * size * torch.from_numpy(segment.space.norms).to(null)
        null = torch.where(null.abs() <= floor[:, None], torch.zeros_like(null), null)
        moving = segment.space.apply(functools.partial(_phi1_off_null, s))
        moved = base + test(moving) + torch.from_numpy(s).to(null) * null
        values, base = [*values, moved[:-1]], moved[-1]
    return _in_order(values, times, order)
