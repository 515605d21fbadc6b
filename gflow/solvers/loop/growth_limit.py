"""The longest step in which a method resolves a growing mode relative to itself.

A mode that leaves a saddle as e^{μt} starts far below rtol·‖y‖, where the error control does not
see it, and every error in it is amplified by all the growth still to come. A method multiplies the
mode by R(hμ) in a step instead of e^{hμ}; the step is so short that the relative error of the
mode is at most rtol in the time in which it grows by e:

    |log R(z) − z| ≤ rtol·z,     z = hμ.

R is the method's stability function for ẏ = y, taken from one of its own steps. For a multistep
method it is the dominant root for equal steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gflow.solvers import bdf
from gflow.solvers.base import Stepper

_SHORTEST, _LONGEST = 1e-6, 2.0  # values of z
_ROUND_OFF = 1e-14  # of log R(z)
_STAGES = (5, 30)  # of methods that may take more: R hardly depends on them
_RAMP = 0.25  # z below which the low orders of a multistep start may err by rtol·_RAMP a step


@functools.lru_cache(maxsize=1024)
def growth_limit(method: type[Stepper], rtol: float) -> float:
    """Return the longest z = hμ of a one-step method.

    Parameters
    ----------
    method : type
        A `Stepper`.
    rtol : float
        Relative tolerance of the solve.

    Returns
    -------
    float

    Examples
    --------
    >>> from gflow.solvers.explicit import Tsit5
    >>> 0.3 < growth_limit(Tsit5, 1e-6) < 0.5 < growth_limit(Tsit5, 1e-4) < 1.1
    True
    """
    stepper = method()
    fewest = stepper.stages(0.0)
    stages = [max(fewest, s) for s in _STAGES] if method.stabilised else [fewest]

    def error(z: float) -> float:
        return max(abs(_log_growth(stepper, count, z) - z) for count in stages)

    return _largest(error, lambda z: rtol * z)


@functools.lru_cache(maxsize=1024)
def bdf_growth_limit(order: int, rtol: float) -> float:
    """Return the longest z = hμ of BDF of an order.

    Parameters
    ----------
    order : int
    rtol : float
        Relative tolerance of the solve.

    Returns
    -------
    float

    Examples
    --------
    >>> limits = [bdf_growth_limit(order, 1e-6) for order in range(1, 7)]
    >>> limits == sorted(limits) and limits[0] < 1e-3 and 0.1 < limits[5] < 0.3
    True
    """
    return _largest(lambda z: abs(_bdf_log_growth(order, z) - z), lambda z: rtol * max(z, _RAMP))


def _largest(error: Callable[[float], float], allowed: Callable[[float], float]) -> float:
    """Return the largest z up to which the error is allowed, by bisection of log z."""
    low, high = _SHORTEST, _LONGEST
    while high > 1.01 * low:
        z = math.sqrt(low * high)
        if error(z) <= allowed(z) + _ROUND_OFF:
            low = z
        else:
            high = z
    return low


def _log_growth(stepper: Stepper, stages: int, z: float) -> float:
    def increment(c: float, Y: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mul(Y, z, out=out)

    one = torch.ones(1, 1, dtype=torch.float64)
    end = stepper.step(increment, one, z * one, stages).y
    return math.log(float(end)) if float(end) > 0 else math.inf


def _bdf_log_growth(order: int, z: float) -> float:
    weights = bdf.formulas([-float(j) for j in range(order + 2)], 1.0, order)
    # alpha·y_new + Σ slope_j y_{n−j} = z·y_new
    polynomial = [weights.alpha - z, *weights.slope[:order]]
    roots = np.roots(polynomial)
    growth = roots[np.abs(roots - math.exp(z)).argmin()].real
    return math.log(growth) if growth > 0 else math.inf
