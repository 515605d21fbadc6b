"""Step-size control: from an error to the next step, for many members at once.

All functions take and return arrays with one entry a member. An error is relative to the
tolerance: a step is good where it is at most 1.
"""

from __future__ import annotations

import numpy as np

_SAFETY = 0.85
_FASTEST = 2.0  # growth from one step to the next, but for the first
_LEAST_ERROR = 1e-10  # of a step without any: its growth is capped anyway


def grown(
    step: np.ndarray, error: np.ndarray, before: np.ndarray, error_before: np.ndarray, order: int
) -> np.ndarray:
    """The next step after a good one: the digital filter H211b with b = 4.

    Söderlind (2003), ACM Trans. Math. Softw. 29, 1-26, table V. Near the edge of stability
    the error is noisy, and a controller that follows it (the predictive one of the RKC
    literature) makes the step oscillate by factors of 5: on a tanh network rock4 rejected
    every eighth step with it and none with this one, for two thirds of the evaluations.

    ``before`` and ``error_before`` are the last good step and its error, NaN at first.
    """
    error, error_before = np.maximum(error, _LEAST_ERROR), np.maximum(error_before, _LEAST_ERROR)
    target = _SAFETY**order
    filtered = (target / error * target / error_before) ** (1 / (4 * order)) * (
        step / before
    ) ** -0.25
    first = np.minimum((target / error) ** (1 / order), 5 * _FASTEST)
    return step * np.where(np.isnan(before), first, np.clip(filtered, 0.1, _FASTEST))


def shrunk(step: np.ndarray, error: np.ndarray, order: int) -> np.ndarray:
    """The next step after a bad one; without a usable error, a third."""
    usable = np.isfinite(error) & (error > 1)
    factor = np.where(usable, _SAFETY / np.where(usable, error, 1.0) ** (1 / order), 0.3)
    return step * np.clip(factor, 0.1, 0.7)


def first(
    bound: np.ndarray, speed: np.ndarray, rate: np.ndarray, rtol: float, span: float, order: int
) -> np.ndarray:
    """A first step, from the rate λ = ‖f(y + δf) − f(y)‖/(δ‖f‖) at which the velocity turns.

    A method of order q errs by about (hλ)^q ‖f‖/λ, to be below the tolerance: the bound,
    or rtol of the distance ‖f‖/λ for a start at zero.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = np.maximum(bound * rate / speed, rtol)
        h = 0.5 / rate * np.minimum(allowed, 1.0) ** (1 / order)
    return np.where(np.isfinite(h), np.minimum(h, span), np.where(rate > 0, 1e-3 * span, span))
