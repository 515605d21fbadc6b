r"""Where a diagonal linear network of depth 2 ends: the minimiser of a potential.

From u = v = α·1 the flow of w = u∘u − v∘v on ‖Xw − y‖² ends at the w with Xw = y of least

    Q_α(w) = α² Σ_j q(w_j/α²),    q(s) = 2 − √(4 + s²) + s·asinh(s/2)

(Woodworth et al. 2020, arXiv:2002.09277, theorem 1): ‖w‖₂ for large α, ‖w‖₁ for small. There
w = 2α² sinh(Xᵀν).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gflow.baselines.arguments import as_given, require_samples, round_off
from gflow.baselines.constraints import independent_rows
from gflow.baselines.entropy import entropy_minimiser, hyperbolic_sine
from gflow.checks import require_float, require_number, require_positive
from gflow.errors import InputError

_FARTHEST = 1e5  # log α: its round-off is that of w


def diagonal_limit(
    inputs: Tensor,
    targets: Tensor,
    scale: float | None = None,
    *,
    log_scale: float | None = None,
) -> Tensor:
    """Compute the w to which `DiagonalFlow` of depth 2 tends from u = v = α·1.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        X. Rows that follow from others are left out where their targets do, too.
    targets : Tensor, shape (n,)
        y.
    scale : float, optional
        α > 0.
    log_scale : float, optional
        log α, in its place; to −1e5.

    Returns
    -------
    Tensor, shape (d,)
        w.

    Raises
    ------
    InputError
        If shapes do not fit, or no w has Xw = y.

    Examples
    --------
    >>> import torch
    >>> X, y = torch.tensor([[1.0, 2.0]]).double(), torch.ones(1).double()
    >>> [round(x, 4) for x in diagonal_limit(X, y, 1e3).tolist()]   # least ‖w‖₂
    [0.2, 0.4]
    >>> [round(x, 4) for x in diagonal_limit(X, y, log_scale=-2302.6).tolist()]   # least ‖w‖₁
    [0.0, 0.5]
    """
    X, y = require_samples(inputs, targets)
    if (scale is None) == (log_scale is None):
        raise InputError("diagonal_limit needs one of scale and log_scale; write scale=0.01")
    if log_scale is None:
        log_alpha = math.log(require_positive("scale", scale))
    else:
        log_alpha = require_number("log_scale", log_scale)
        if not abs(log_alpha) <= _FARTHEST:
            raise InputError(
                f"log_scale must be from -{_FARTHEST:g} to {_FARTHEST:g}, beyond which round-off "
                f"decides, got {log_alpha:g}; give log α, not α"
            )
    A, b = independent_rows("targets", X, y, round_off(X, y))
    return as_given(entropy_minimiser(A, b, 2 * log_alpha, hyperbolic_sine), X)


def diagonal_potential(w: Tensor, scale: float) -> Tensor:
    """Compute Q_α(w).

    Parameters
    ----------
    w : Tensor, shape (..., d)
        Weights.
    scale : float
        α > 0.

    Returns
    -------
    Tensor, shape (...)

    Examples
    --------
    >>> import torch
    >>> diagonal_potential(torch.zeros(3), 1.0).item()
    0.0
    """
    w, scale = require_float("w", w), require_positive("scale", scale)
    s = w / scale / scale
    # Without scale², which may underflow, and without the difference of 2 and √(4 + s²).
    root = torch.hypot(s, torch.full_like(s, 2.0))
    return (w * (s / 2).asinh() - w * s / (2 + root)).sum(-1)
