"""Fits of powers: the order of a gap in the step size, and powers of the width.

Both are straight lines on logarithmic axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from gflow.linalg.arrays import to_numpy

_MARGIN = 30.0  # the smallest gap must exceed the solver's error by this factor
_MIN_SIZES = 3
_SLOPE_SPREAD = 0.1  # local orders within this of the finest one count as asymptotic
_SATURATED = 0.5  # of the path's extent: larger gaps say where descent is, not how it errs
_DRIFT = 0.02  # change of the local orders that is not noise
_FEW = 6  # step sizes
_CHANGE = 1.5  # of the last change of the local orders: how far their limit may be at least
_MAX_EXTRAPOLATION = 10.0  # of the last change of the local orders
_RESAMPLES = 2000
_COVERAGE = (2.5, 97.5)  # percentiles
_CURVED = 1e-3  # probability of a larger misfit if the power is right


@dataclass(frozen=True)
class OrderFit:
    """The order of gaps in the step size.

    Attributes
    ----------
    gaps : tuple of float
        One for each step size: infinite where descent diverged, NaN where not measured.
    order : float or None
        The slope of log gap against log step size over the asymptotic range; None where the fit
        is refused, and then ``refusal`` says why.
    order_interval : (float, float) or None
        95 % confidence interval of the slope (Student's t), extended by what the solver's error
        may do to it and, where the local orders still drift, to where they may lead.
    fitted : tuple of bool
        Whether each step size is in the fit.
    refusal : str or None
    solver_error : float
        The error of the flow that descent is compared with, measured as the gaps are.
    """

    gaps: tuple[float, ...]
    order: float | None
    order_interval: tuple[float, float] | None
    fitted: tuple[bool, ...]
    refusal: str | None
    solver_error: float


def fit_order(
    step_sizes: Sequence[float],
    gaps: Sequence[float],
    stable: Sequence[bool],
    solver_error: float,
    extent: float = math.inf,
) -> OrderFit:
    """Fit the slope of log gap against log step size over the asymptotic range.

    The range starts at the smallest step size and extends while the local orders stay
    within 0.1 of the finest one; unstable step sizes are never in it, nor those whose gap is half
    the path's extent. Local orders that drift in one direction, as they do behind a plateau, have a
    limit beyond the finest one, which the interval includes. There is no fit where they drift
    faster for smaller steps, or where the interval reaches 0.

    Parameters
    ----------
    step_sizes, gaps : sequence of float
    stable : sequence of bool
        Whether each step size is below the stability limit.
    solver_error : float
        The error of the flow that descent is compared with, measured as the gaps are.
    extent : float
        How far the path moves, measured as the gaps are.

    Returns
    -------
    OrderFit

    Examples
    --------
    >>> fit = fit_order([0.4, 0.2, 0.1], [0.16, 0.04, 0.01], [True] * 3, 1e-9)
    >>> round(fit.order, 12)
    2.0
    """

    def refused(why: str) -> OrderFit:
        return OrderFit(tuple(gaps), None, None, (False,) * len(step_sizes), why, solver_error)

    usable = [i for i, ok in enumerate(stable) if ok and 0 < gaps[i] < math.inf]
    usable.sort(key=lambda i: step_sizes[i])
    if len(usable) < _MIN_SIZES:
        return refused(f"{len(usable)} stable step sizes with a gap, a fit needs {_MIN_SIZES}")
    usable = [i for i in usable if gaps[i] <= _SATURATED * extent]
    if len(usable) < _MIN_SIZES:
        return refused(
            f"{len(usable)} gaps are less than half of how far the path moves, {extent:.2g}; a fit "
            f"needs {_MIN_SIZES}: use smaller steps"
        )
    smallest = min(gaps[i] for i in usable)
    if smallest < _MARGIN * solver_error:
        return refused(
            f"the smallest gap {smallest:.2g} is not {_MARGIN:g} times the solver's error "
            f"{solver_error:.2g}; tighten rtol or use larger steps"
        )
    x = np.log([step_sizes[i] for i in usable])
    y = np.log([gaps[i] for i in usable])
    local = np.diff(y) / np.diff(x)
    outside = np.flatnonzero(np.abs(local - local[0]) > _SLOPE_SPREAD)
    count = int(outside[0]) + 1 if len(outside) else len(usable)
    if count < _MIN_SIZES:
        orders = np.round(local, 2).tolist()
        return refused(f"the local orders {orders} show no asymptotic range; use smaller steps")
    x, y = x[:count], y[:count]
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - slope * x - intercept
    freedom = count - 2
    spread = math.sqrt(float(residual @ residual) / freedom / float(((x - x.mean()) ** 2).sum()))
    from scipy.special import stdtrit  # it takes long to import, and most runs fit nothing

    # To three decimals, the precision of printed tables: an interval needs no more, and stays equal
    # to the bit where another version of SciPy differs in the last digits.
    half = round(float(stdtrit(freedom, 0.975)), 3) * spread
    leverage = np.abs(x - x.mean()) / ((x - x.mean()) ** 2).sum()
    half += float(leverage @ (solver_error / np.exp(y)))
    local = local[: count - 1]
    drift = -np.diff(local)  # towards smaller steps
    low, high = float(slope - half), float(slope + half)
    if count <= _FEW:
        # Too few to tell noise from a bias. Where the finest local order errs by a power of the
        # step, its last change reaches the limit.
        change = _CHANGE * abs(float(drift[0]))
        low, high = min(low, float(local[0]) - change), max(high, float(local[0]) + change)
    if len(drift) > 1 and (np.all(drift > 0) or np.all(drift < 0)):
        if abs(drift[0]) > max(abs(drift[1]), _DRIFT):
            orders = np.round(local, 3).tolist()
            return refused(
                f"the local orders {orders} still drift, and faster for smaller steps: the "
                "asymptotic range is not reached; use smaller steps"
            )
        # An error of the order that falls as step^(1/4) or faster ends before this limit.
        ratio = math.exp(0.25 * (x[1] - x[0]))
        limit = float(local[0] + drift[0] * min(1 / (ratio - 1), _MAX_EXTRAPOLATION))
        low, high = min(low, limit), max(high, limit)
    if low <= 0:
        return refused(
            f"the gap does not fall with the step size: its order is between {low:.2g} and "
            f"{high:.2g}; use smaller steps"
        )
    fitted = tuple(i in usable[:count] for i in range(len(step_sizes)))
    interval = (low, high)
    return OrderFit(tuple(gaps), float(slope), interval, fitted, None, solver_error)


@dataclass(frozen=True)
class PowerLaw:
    """value ≈ constant·x^slope, x such as a width or a scale.

    Attributes
    ----------
    slope, constant : float
    interval : (float, float) or None
        95 % of the slopes of resampled seeds (bootstrap); None with one seed. Where the medians
        are no straight line, it is extended to the slopes between successive x.
    """

    slope: float
    constant: float
    interval: tuple[float, float] | None


def fit_power(x: Sequence[float], values: Tensor) -> PowerLaw | None:
    """Fit a power of x to medians over seeds, by least squares of their logarithms.

    Parameters
    ----------
    x : sequence of float
        Positive.
    values : Tensor, shape (x, seed)
        NaN where there is none, as of a descent that diverged.

    Returns
    -------
    PowerLaw or None
        None with fewer than two different x, or if a median is not positive.

    Examples
    --------
    >>> import torch
    >>> law = fit_power([1, 4, 16], torch.tensor([[2.0, 2.0], [1.0, 1.0], [0.5, 0.5]]))
    >>> round(law.slope, 12), round(law.constant, 12)
    (-0.5, 2.0)
    """
    rows = [row[np.isfinite(row)] for row in to_numpy(values)]
    if len(set(x)) < 2 or not all(len(row) and np.median(row) > 0 for row in rows):
        return None
    logs_x = np.log(np.asarray(x, float))
    slope, level = np.polyfit(logs_x, np.log([np.median(row) for row in rows]), 1)
    interval = None
    if min(len(row) for row in rows) > 1:
        from scipy.special import chdtri  # as above

        generator = np.random.default_rng(0)
        medians = [
            np.median(row[generator.integers(0, len(row), (_RESAMPLES, len(row)))], axis=1)
            for row in rows
        ]
        with np.errstate(divide="ignore"):  # a median of zero is possible in a resample
            logs = np.log(medians)
        slopes = np.polyfit(logs_x, logs[:, np.isfinite(logs).all(axis=0)], 1)[0]
        low, high = np.percentile(slopes, _COVERAGE)
        finite = np.where(np.isfinite(logs), logs, np.nan)
        scatter = np.nanstd(finite, axis=1) + np.finfo(float).eps
        misfit = (np.log([np.median(row) for row in rows]) - slope * logs_x - level) / scatter
        if len(logs_x) > 2 and float(misfit @ misfit) > chdtri(len(logs_x) - 2, _CURVED):
            # No straight line: the slope depends on x, too.
            ordered = np.argsort(logs_x)
            ends = np.log([np.median(rows[i]) for i in ordered])
            steps = np.diff(logs_x[ordered]) > 0
            local = np.diff(ends)[steps] / np.diff(logs_x[ordered])[steps]
            low, high = min(low, local.min()), max(high, local.max())
        interval = (float(low), float(high))
    return PowerLaw(float(slope), float(np.exp(level)), interval)
