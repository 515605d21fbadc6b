"""Step-size control: whether a step is good, and how long the next one is.

All functions take and return one entry per member (elementwise.py). An error is relative to the
tolerance: a step is good if its error is at most 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gflow.solvers.elementwise import Values, any_true, is_finite, is_nan, maximum, minimum, where
from gflow.solvers.loop.system import StepMeasurement
from gflow.solvers.problem import NOT_FINITE, RISES, UNDERFLOW, energy_bound

_SAFETY = 0.85
_MAX_GROWTH = 2.0  # from one step to the next, except after the first
_MIN_ERROR = 1e-10  # stands in for an error of 0: growth is bounded anyway
_TINY = np.finfo(float).tiny

#: Why a step is rejected; `StepVerdict.fault` is an index into this tuple.
FAULTS = (UNDERFLOW, NOT_FINITE, RISES)


class StepVerdict(NamedTuple):
    """The decision on a step, for every member."""

    error: Values  #: relative to the tolerance
    good: Values
    fault: Values  #: index into `FAULTS`; undefined where the step is good


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
) -> StepVerdict:
    """Decide which steps are good.

    In a good step the error of the state, times ``error_factor``, is at most atol + rtol‖y‖ with
    the larger ‖y‖ of both ends; the error of the energy integral is at most a third of rtol of the
    loss; and the loss does not rise by more than a tenth of rtol of its first value, the energy of
    an error of the allowed size, and round-off.

    Parameters
    ----------
    measured : StepMeasurement
        At the end of the step.
    size, loss : ndarray or scalar
        ‖y‖ and the loss at its start.
    first_loss : ndarray or scalar
        |loss| at the start of the solve.
    rtol, atol : float
    error_factor : float
        See `Method.error_factor`.
    round_off : float
        Rise of the loss that is round-off, relative to ``first_loss``.

    Returns
    -------
    StepVerdict

    Examples
    --------
    >>> one = np.float64(1.0)
    >>> step = StepMeasurement(2e-3 * one, 0 * one, 0 * one, one, one, one, one, one, one)
    >>> options = {"rtol": 1e-3, "atol": 0.0, "error_factor": 1.0, "round_off": 0.0}
    >>> verdict = judge(step, one, one, one, **options)
    >>> float(verdict.error), bool(verdict.good), FAULTS[verdict.fault] == UNDERFLOW
    (2.0, False, True)
    """
    reached = where(measured.size > size, measured.size, size)  # not where it is NaN
    bound = maximum(atol + rtol * reached, _TINY)
    scale = maximum(first_loss, abs(loss))
    energy_error = abs(measured.energy_error) / (energy_bound(rtol, scale, bound) + _TINY)
    error = maximum(error_factor * measured.error / bound, energy_error)
    small = error <= 1  # not where it is NaN
    rise = measured.loss - loss
    good = small & (rise <= (0.1 * rtol + round_off) * first_loss + bound * bound)
    # The next step starts from the slope at the end, so that must be finite, too.
    sound = is_finite(error + rise + measured.rate)
    return StepVerdict(
        error, good & sound & is_finite(measured.size), where(sound, where(small, 2, 0), 1)
    )


def grown(step: Values, error: Values, before: Values, error_before: Values, order: int) -> Values:
    """Return the next step after a good one: the digital filter H211b with b = 4.

    Söderlind (2003), ACM Trans. Math. Softw. 29, 1-26, table V. Near the edge of stability
    the error is noisy, and a controller that follows it (the predictive one of the RKC
    literature) makes the step oscillate by factors of 5: on a tanh network rock4 rejected
    every eighth step with it and none with this one, at two thirds of the evaluations.

    Parameters
    ----------
    step, error : ndarray or scalar
        Length and relative error of the good step.
    before, error_before : ndarray or scalar
        The same of the good step before; NaN if there is none.
    order : int
        The error is O(step^order).

    Returns
    -------
    ndarray or scalar

    Examples
    --------
    >>> round(float(grown(1.0, 0.5, 1.0, 0.5, 2)), 3), grown(1.0, 0.0, 1.0, 0.0, 2)
    (1.096, 2.0)
    """
    fresh = is_nan(before)
    error = maximum(error, _MIN_ERROR)
    product = error * maximum(error_before, _MIN_ERROR)
    slower = product ** (-0.25 / order) * (before / step) ** 0.25
    factor = minimum(maximum(_SAFETY**0.5 * slower, 0.1), _MAX_GROWTH)
    if any_true(fresh):
        factor = where(fresh, minimum(_SAFETY * error ** (-1 / order), 5 * _MAX_GROWTH), factor)
    return step * factor


def shrunk(step: Values, error: Values, order: int) -> Values:
    """Return the next step after a rejected one.

    Parameters
    ----------
    step, error : ndarray or scalar
        Length and relative error of the rejected step.
    order : int
        The error is O(step^order).

    Returns
    -------
    ndarray or scalar
        0.1 to 0.7 times the step; 0.3 times where the error is not finite or at most 1.

    Examples
    --------
    >>> shrunk(1.0, np.inf, 2), round(shrunk(1.0, 4.0, 2), 3)
    (0.3, 0.425)
    """
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
    """Return a first step, from the rate λ = ‖f(y + δf) − f(y)‖/(δ‖f‖) at which the velocity turns.

    A method of order q errs by about (hλ)^q ‖f‖/λ, which must be below the tolerance: the bound,
    or rtol of the distance ‖f‖/λ for a start at zero.

    Parameters
    ----------
    bound : ndarray
        atol + rtol‖y‖.
    speed : ndarray
        ‖f‖.
    rate : ndarray
        λ.
    rtol : float
    span : ndarray
        Time to the end; no step is longer.
    order : int
        q.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> first(np.array([1e-4]), np.ones(1), np.ones(1), 1e-6, np.array([10.0]), 2).tolist()
    [0.005]
    """
    allowed = np.maximum(bound * rate / speed, rtol)
    h = 0.5 / rate * np.minimum(allowed, 1.0) ** (1 / order)
    return np.where(np.isfinite(h), np.minimum(h, span), np.where(rate > 0, 1e-3 * span, span))
