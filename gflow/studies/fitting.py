"""The order of a gap: its slope against the step size on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_MARGIN = 30.0  # the smallest gap must exceed the solver's error by this much
_FEWEST = 3
_SLOPE_SPREAD = 0.1  # local orders within this of the finest one count as asymptotic
_STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def fit_order(
    step_sizes: Sequence[float],
    gaps: Sequence[float],
    stable: Sequence[bool],
    solver_error: float,
) -> tuple[float | None, tuple[float, float] | None, tuple[bool, ...], str | None]:
    """Slope of log gap against log step size over the asymptotic range.

    The range starts at the smallest step size and goes on while the local orders stay
    within 0.1 of the finest one; unstable step sizes are never in it.

    Returns
    -------
    (order, interval, fitted, refusal)
        ``order`` and ``interval`` are None where ``refusal`` gives a reason.
    """
    nothing = (False,) * len(step_sizes)
    usable = [i for i, ok in enumerate(stable) if ok and 0 < gaps[i] < math.inf]
    usable.sort(key=lambda i: step_sizes[i])
    if len(usable) < _FEWEST:
        why = f"{len(usable)} stable step sizes with a gap, a fit needs {_FEWEST}"
        return None, None, nothing, why
    smallest = min(gaps[i] for i in usable)
    if smallest < _MARGIN * solver_error:
        why = (
            f"the smallest gap {smallest:.2g} is not {_MARGIN:g} times the solver's error "
            f"{solver_error:.2g}; tighten rtol or use larger steps"
        )
        return None, None, nothing, why
    x = np.log([step_sizes[i] for i in usable])
    y = np.log([gaps[i] for i in usable])
    local = np.diff(y) / np.diff(x)
    off = np.flatnonzero(np.abs(local - local[0]) > _SLOPE_SPREAD)
    count = int(off[0]) + 1 if len(off) else len(usable)
    if count < _FEWEST:
        why = f"local orders {np.round(local, 2).tolist()} show no asymptotic range; smaller steps"
        return None, None, nothing, why
    x, y = x[:count], y[:count]
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - slope * x - intercept
    freedom = count - 2
    spread = math.sqrt(float(residual @ residual) / freedom / float(((x - x.mean()) ** 2).sum()))
    half = _STUDENT_95[min(freedom, len(_STUDENT_95)) - 1] * spread
    chosen = set(usable[:count])
    fitted = tuple(i in chosen for i in range(len(step_sizes)))
    return float(slope), (float(slope - half), float(slope + half)), fitted, None
