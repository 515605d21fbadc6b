r"""How each eigenmode of a kernel H moves, in flow and in descent.

With the eigenvalues λ_i of H and step size η, the residual along the eigenvector v_i is multiplied
by

    e^{−λ_i t}   and   (1 − ηλ_i)^k,

so mode i is learned at t = 1/λ_i, k = 1/(ηλ_i) (for η < 1/λ_max), and descent is stable iff
η < 2/λ_max. The integral of the residual is its start times t φ_1(−tλ_i), or
(1 − (1 − ηλ_i)^k)/λ_i, which in the null space are t and kη.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gflow.checks import require_numbers, require_positive
from gflow.errors import InputError


def flow_factors(lam: Tensor, ts: Tensor) -> tuple[Tensor, Tensor]:
    """Compute e^{−λt} and t φ_1(−tλ) = (1 − e^{−λt})/λ.

    Parameters
    ----------
    lam : Tensor, shape (n,)
        Eigenvalues λ ≥ 0.
    ts : Tensor, shape (T,)
        Times t ≥ 0.

    Returns
    -------
    decay, integral : Tensor, shape (T, n)
        Factor on the residual, and its integral from 0 to t.

    Examples
    --------
    >>> import torch
    >>> decay, integral = flow_factors(torch.tensor([0.0, 1.0]), torch.tensor([100.0]))
    >>> decay[0, 0].item(), integral.tolist()
    (1.0, [[100.0, 1.0]])
    """
    t = ts[:, None]
    safe = torch.where(lam > 0, lam, torch.ones_like(lam))
    integral = torch.where(lam > 0, -torch.expm1(-t * lam) / safe, t)
    return torch.exp(-t * lam), integral


def spread(factors: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Compute how far factors differ, where eigenvalues are only known to lie between two values.

    Parameters
    ----------
    factors, others : (Tensor, Tensor)
        `flow_factors` or `descent_factors` of the smallest and of the largest eigenvalues.

    Returns
    -------
    (Tensor, Tensor)

    Examples
    --------
    >>> t = torch.tensor([1.0])
    >>> bounds = (flow_factors(torch.tensor([lam]), t) for lam in (1.0, 2.0))
    >>> [round(float(change), 3) for change in spread(*bounds)]
    [0.233, 0.2]
    """
    a, b = ((one - other).abs() for one, other in zip(factors, others, strict=True))
    return a, b


def descent_factors(lam: Tensor, step_size: float, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Compute (1 − ηλ)^k and (1 − (1 − ηλ)^k)/λ.

    Powers are exponentials of k·log|1 − ηλ|, and that is log1p(−ηλ) or log1p(ηλ − 2), so
    that neither a small ηλ nor one near 2 loses digits k times over.

    Parameters
    ----------
    lam : Tensor, shape (n,)
        Eigenvalues λ ≥ 0.
    step_size : float
        Step size η > 0.
    steps : Tensor, shape (S,)
        Whole step counts k ≥ 0.

    Returns
    -------
    power, integral : Tensor, shape (S, n)
        Factor on the residual, and η times its sum over the steps before k.

    Examples
    --------
    >>> import torch
    >>> lam, k = torch.tensor([1e-12], dtype=torch.float64), torch.tensor([10**12])
    >>> float(descent_factors(lam, 1.0, k)[0])   # 1/e, where 1 - 1e-12 alone has lost 5 digits
    0.36787944117125...
    """
    k = steps.to(lam)[:, None]
    z = step_size * lam
    alternating = z > 1  # the residual along this mode changes its sign at every step
    log = torch.log1p(torch.where(alternating, z - 2, -z))
    # At 1 − ηλ = 0 the power is 0, but for k = 0.
    exponent = torch.where(k == 0, torch.zeros_like(k), k * log)
    odd = (steps % 2 == 1)[:, None] & alternating
    power = torch.where(odd, -exponent.exp(), exponent.exp())
    moved = torch.where(odd, 1 + exponent.exp(), -torch.expm1(exponent))
    safe = torch.where(lam > 0, lam, torch.ones_like(lam))
    return power, torch.where(lam > 0, moved / safe, step_size * k)


def effective_dimension(lam: Tensor, ts: Tensor) -> Tensor:
    """Compute Σ_i λ_i/(λ_i + 1/t), the number of modes learned by the time t.

    The effective dimension of kernel ridge regression (Zhang 2005, doi:10.1162/0899766054323008;
    Caponnetto & De Vito 2007, doi:10.1007/s10208-006-0196-8) at the penalty 1/t, to which
    stopping the flow at t compares (Ali, Kolter & Tibshirani 2019, arXiv:1810.10082).

    Parameters
    ----------
    lam : Tensor, shape (n,)
        Eigenvalues λ ≥ 0.
    ts : Tensor, shape (T,)
        Times t ≥ 0.

    Returns
    -------
    Tensor, shape (T,)
        Effective dimension at each time, between 0 and n.

    Examples
    --------
    >>> import torch
    >>> effective_dimension(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 1e9])).tolist()
    [0.0, 1.0, 2.0]
    """
    z = ts[:, None] * lam
    return (z / (1 + z)).sum(-1)


def require_steps(steps: Tensor | Sequence[int], step_size: float) -> Tensor:
    """Return step counts as int64.

    Parameters
    ----------
    steps : Tensor or sequence of int, shape (S,)
        Step counts k ≥ 0.
    step_size : float
        Step size η > 0.

    Returns
    -------
    Tensor, shape (S,)
        The step counts.

    Raises
    ------
    InputError
        If a count is negative or not whole, or the step size is not positive and finite.

    Examples
    --------
    >>> require_steps([0, 10], 0.1)
    tensor([ 0, 10])
    """
    require_positive("step_size", step_size)
    counts = require_numbers("steps", steps)
    if any(k < 0 or k != int(k) for k in counts):
        raise InputError(f"steps must be one row of whole numbers ≥ 0, got {counts[:5]}")
    return torch.tensor([int(k) for k in counts])
