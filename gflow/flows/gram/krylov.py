r"""Predictions of a kernel flow by Krylov spaces: products with H and H_* alone.

    u(t) = y + e^{−tH}(u₀ − y),   u_*(0) − u_*(t) = H_* · t φ₁(−tH)(u₀ − y),

one Krylov space for each output column; see `gflow.linalg.exponential` for spaces and error bounds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gflow.flows.gram.operator import KernelOperator, Product
from gflow.linalg.exponential_action import exponential_action, phi1_action

_SMALL_BASIS = 2**20  # numbers in a Krylov basis that is always affordable


def krylov_outputs(
    operator: KernelOperator, times: Tensor, u0: Tensor, targets: Tensor, rtol: float
) -> Tensor:
    """Compute u(t) = y + e^{−tH}(u₀ − y) at the training points.

    Parameters
    ----------
    operator : KernelOperator
        H.
    times : Tensor, shape (T,)
        Times t ≥ 0, in any order.
    u0 : Tensor, shape (n,) or (n, k)
        Outputs at t = 0.
    targets : Tensor, shape (n,) or (n, k)
        Targets y.
    rtol : float
        Error allowed in each output column at every time, relative to the larger of ‖u(0)‖
        and ‖u(T)‖.

    Returns
    -------
    Tensor, shape (T, *u0.shape)
        Outputs at each time.

    Examples
    --------
    >>> import torch
    >>> H = KernelOperator(2 * torch.eye(3).double(), torch.zeros(3).double())
    >>> u = krylov_outputs(H, torch.tensor([50.0]), torch.zeros(3).double(), torch.ones(3), 1e-8)
    >>> u.tolist()
    [[1.0, 1.0, 1.0]]
    """
    columns, y = _columns(u0 - targets), _columns(targets)
    groups = zip(_groups(operator, columns), _groups(operator, y), strict=True)
    residuals = [exponential_action(operator.rows, r, times, rest, rtol) for r, rest in groups]
    return _by_point(residuals, u0.ndim).add_(targets)


def krylov_test_outputs(
    operator: KernelOperator, H_test: Tensor | Product, times: Tensor, residual: Tensor, rtol: float
) -> Tensor:
    """Compute H_* · t φ₁(−tH) r, by which the outputs at test points have moved.

    Parameters
    ----------
    operator : KernelOperator
        H.
    H_test : Tensor of shape (n_test, n), or callable
        H_*, or its product with v of shape (n,) or (n, k).
    times : Tensor, shape (T,)
        Times t ≥ 0, in any order.
    residual : Tensor, shape (n,) or (n, k)
        r = u₀ − y.
    rtol : float
        Error allowed in the norm over all test outputs, relative to their move at the last time.

    Returns
    -------
    Tensor, shape (T, n_test) or (T, n_test, k)
        The move at each time.

    Examples
    --------
    >>> import torch
    >>> H = KernelOperator(2 * torch.eye(3).double(), torch.zeros(3).double())
    >>> residual = torch.ones(3).double()
    >>> moved = krylov_test_outputs(H, H.entries[:1], torch.tensor([50.0]), residual, 1e-8)
    >>> moved.round(decimals=9).tolist()
    [[1.0]]
    """
    norm = float(H_test.norm()) if isinstance(H_test, Tensor) else 0.0
    product: Callable[[Tensor], Tensor]
    product = (lambda v: H_test @ v) if isinstance(H_test, Tensor) else H_test

    def test(v: Tensor) -> Tensor:
        out = product(v.reshape(-1, v.shape[-1]).mT).mT
        return out.reshape(*v.shape[:-1], out.shape[-1])

    groups = _groups(operator, _columns(residual))
    moved = [phi1_action(operator.rows, r, times, test, norm, rtol) for r in groups]
    return _by_point(moved, residual.ndim)


def _columns(u: Tensor) -> Tensor:
    """A state's outputs, one a row: (k, n)."""
    return u.reshape(len(u), -1).mT


def _groups(operator: KernelOperator, columns: Tensor) -> tuple[Tensor, ...]:
    """Split outputs into groups whose Krylov spaces are built together.

    Beside a matrix H the bases of a group, of some 250 vectors, stay below n × n numbers. A
    product that computes the kernel anew is called for all outputs at once.
    """
    if not operator.has_entries:
        return (columns,)
    n = columns.shape[1]
    return columns.split(max(1, n // 512, _SMALL_BASIS // (256 * n)))


def _by_point(groups: list[Tensor], ndim: int) -> Tensor:
    """Join groups of shape (T, outputs, points) to (T, points), or (T, points, k) for ndim 2."""
    joined = torch.cat(groups, dim=1)
    return joined[:, 0] if ndim == 1 else joined.mT
