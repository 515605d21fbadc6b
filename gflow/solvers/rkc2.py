r"""``rkc2``: the stabilised explicit Runge–Kutta–Chebyshev method of order 2.

The Jacobian of a gradient flow is minus a Hessian: its spectrum is real and mostly
negative. With s stages RKC2 is stable for h·ρ ≤ 0.653(s² − 1), ρ the spectral radius, so
a step of length h costs about √(1.54hρ) evaluations where a standard explicit method
pays for hρ/3.3 steps. Sommeijer, Shampine & Verwer (1998), J. Comput. Appl. Math. 88,
315-326: coefficients eqs. 2.2-2.5, error estimate section 3.1.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from gflow.linalg.arrays import Array, add_multiple
from gflow.solvers.base import Increment, Step, Stepper

_DAMPING = 2 / 13
_MAX_STAGES = 4000
_LOOSEST = 1e-3  # rtol below which the estimated error is multiplied by a factor


class RKC2(Stepper):
    """Second-order Runge–Kutta–Chebyshev with any number of stages."""

    name = "rkc2"
    error_order = 3
    stabilised = True

    def stages(self, reach: float) -> int:
        return max(2, 1 + math.isqrt(int(1 + 1.54 * reach)))

    def reach(self, stages: int) -> float:
        return 0.999 * (stages**2 - 1) / 1.54

    def max_stages(self, rtol: float, eps: float) -> int:
        # Round-off is amplified about s² times.
        return max(4, min(_MAX_STAGES, int(math.sqrt(rtol / (10 * eps)))))

    def error_factor(self, rtol: float) -> float:
        # The estimate is O(h³) and the global error O(h²): without the factor the global error
        # would fall as rtol^(2/3).
        return max(1.0, math.sqrt(_LOOSEST / rtol))

    def step(self, increment: Increment, y: Array, k0: Array, stages: int, h: float = 1.0) -> Step:
        c = _coefficients(stages)
        older, newer = y, y + (h * c.first) * k0
        for j in range(2, stages + 1):
            k = increment(c.c[j - 1], newer)
            stage = (1 - c.mu[j] - c.nu[j]) * y
            add_multiple(add_multiple(stage, newer, c.mu[j]), older, c.nu[j])
            add_multiple(add_multiple(stage, k, h * c.mu_rate[j]), k0, h * c.gamma_rate[j])
            older, newer = newer, stage
        k = increment(1.0, newer)
        return Step(newer, k, rkc2_error(y, k0, newer, k, h))


def rkc2_error(y: Array, k0: Array, end: Array, k: Array, h: float = 1.0) -> Array:
    """Return RKC2's local error, from both ends of a step of any method.

    Parameters
    ----------
    y, k0 : Tensor or ndarray, shape (members, entries)
        The state at the start, and the increment there over h.
    end, k : Tensor or ndarray, shape (members, entries)
        The same at the end.
    h : float

    Returns
    -------
    Tensor or ndarray, shape (members, entries)

    Examples
    --------
    >>> import torch
    >>> y, k0 = torch.zeros(1, 2), torch.ones(1, 2)
    >>> rkc2_error(y, k0, y + 1, k0)  # a straight line
    tensor([[0., 0.]])
    """
    error = y - end
    error *= 0.8
    return add_multiple(add_multiple(error, k0, 0.4 * h), k, 0.4 * h)


class _Chebyshev(NamedTuple):
    """Coefficients of the s-stage method; lists are indexed by the stage."""

    first: float
    mu: list[float]
    nu: list[float]
    mu_rate: list[float]
    gamma_rate: list[float]
    c: list[float]


@functools.lru_cache(maxsize=256)
def _coefficients(s: int) -> _Chebyshev:
    excess = _DAMPING / s**2  # w₀ − 1
    w0 = 1 + excess
    T, dT, ddT = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for j in range(2, s + 1):
        T.append(2 * w0 * T[j - 1] - T[j - 2])
        dT.append(2 * T[j - 1] + 2 * w0 * dT[j - 1] - dT[j - 2])
        ddT.append(4 * dT[j - 1] + 2 * w0 * ddT[j - 1] - ddT[j - 2])
    w1 = dT[s] / ddT[s]
    b = [0.0, 0.0, *(ddT[j] / dT[j] ** 2 for j in range(2, s + 1))]
    b[0] = b[1] = b[2]
    a = [1 - b[j] * T[j] for j in range(s + 1)]
    mu, nu, mu_rate, gamma_rate = ([0.0] * (s + 1) for _ in range(4))
    c = [0.0, 0.0, *(w1 * ddT[j] / dT[j] for j in range(2, s + 1))]
    c[1] = c[2] / dT[2]
    for j in range(2, s + 1):
        mu[j] = 2 * w0 * b[j] / b[j - 1]
        nu[j] = -b[j] / b[j - 2]
        mu_rate[j] = 2 * b[j] * w1 / b[j - 1]
        gamma_rate[j] = -a[j - 1] * mu_rate[j]
    return _Chebyshev(b[1] * w1, mu, nu, mu_rate, gamma_rate, c)
