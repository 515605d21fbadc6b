"""Step-size control: whether a step is good, and how long the next one is.

All functions take and return one entry a member (elementwise.py). An error is relative to the
tolerance: it is good where it is at most 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gflow.solvers.elementwise import Values, any_true, is_finite, is_nan, maximum, minimum, where
from gflow.solvers.loop.system import StepMeasurement
from gflow.solvers.problem import NOT_FINITE, RISES, UNDERFLOW, energy_bound

_SAFETY = 0.85
_FASTEST = 2.0  # growth from one step to the next, but for the first
_LEAST_ERROR = 1e-10  # of a step without any: its growth is capped anyway
_TINY = np.finfo(float).tiny

#: Why a step is bad: `Verdict.fault` counts along these.
FAULTS = (UNDERFLOW, NOT_FINITE, RISES)


class Verdict(NamedTuple):
    """On a step of every member."""

    error: Values
    good: Values
    fault: Values


def judge(
    measured: StepMeasurement,
    size: Values,
    loss: Values,
    first_loss: Values,
    *,
    rtol: float,
    atol: float,
    error_factor: float,
    round_off: float,
) -> Verdict:
    """Whether steps are good, from (size, loss) at their starts and what was measured.

    A good step has an error of the state (made sharper by a factor, see `Stepper.error_factor`)
    below atol + rtol‖y‖, the larger of both ends, one
    of the energy integral below a third of rtol of the loss, and no rise of the loss
    beyond a tenth of rtol of its first value, the energy of an error of the size allowed,
    and round-off.
    """
    reached = where(measured.size > size, measured.size, size)  # not where it is NaN
    bound = maximum(atol + rtol * reached, _TINY)
    largest = maximum(first_loss, abs(loss))
    of_energy = abs(measured.energy_error) / (energy_bound(rtol, largest, bound) + _TINY)
    error = maximum(error_factor * measured.error / bound, of_energy)
    small = error <= 1  # not where it is NaN
    rise = measured.loss - loss
    good = small & (rise <= (0.1 * rtol + round_off) * first_loss + bound * bound)
    # The next step starts from the slope at the end, so that must be finite, too.
    sound = is_finite(error + rise + measured.rate)
    return Verdict(
        error, good & sound & is_finite(measured.size), where(sound, where(small, 2, 0), 1)
    )


def grown(step: Values, error: Values, before: Values, error_before: Values, order: int) -> Values:
    """The next step after a good one: the digital filter H211b with b = 4.

    Söderlind (2003), ACM Trans. Math. Softw. 29, 1-26, table V. Near the edge of stability
    the error is noisy, and a controller that follows it (the predictive one of the RKC
    literature) makes the step oscillate by factors of 5: on a tanh network rock4 rejected
    every eighth step with it and none with this one, for two thirds of the evaluations.

    ``before`` and ``error_before`` are the last good step and its error, NaN at first.
    """
    fresh = is_nan(before)
    error = maximum(error, _LEAST_ERROR)
    product = error * maximum(error_before, _LEAST_ERROR)
    slower = product ** (-0.25 / order) * (before / step) ** 0.25
    factor = minimum(maximum(_SAFETY**0.5 * slower, 0.1), _FASTEST)
    if any_true(fresh):
        factor = where(fresh, minimum(_SAFETY * error ** (-1 / order), 5 * _FASTEST), factor)
    return step * factor


def shrunk(step: Values, error: Values, order: int) -> Values:
    """The next step after a bad one; without a usable error, a third."""
    usable = is_finite(error) & (error > 1)
    factor = where(usable, _SAFETY / where(usable, error, 1.0) ** (1 / order), 0.3)
    return step * minimum(maximum(factor, 0.1), 0.7)


def first(
    bound: np.ndarray,
    speed: np.ndarray,
    rate: np.ndarray,
    rtol: float,
    span: np.ndarray,
    order: int,
) -> np.ndarray:
    """A first step, from the rate λ = ‖f(y + δf) − f(y)‖/(δ‖f‖) at which the velocity turns.

    A method of order q errs by about (hλ)^q ‖f‖/λ, to be below the tolerance: the bound,
    or rtol of the distance ‖f‖/λ for a start at zero.
    """
    allowed = np.maximum(bound * rate / speed, rtol)
    h = 0.5 / rate * np.minimum(allowed, 1.0) ** (1 / order)
    return np.where(np.isfinite(h), np.minimum(h, span), np.where(rate > 0, 1e-3 * span, span))
