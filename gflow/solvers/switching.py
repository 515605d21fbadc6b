"""Which method a member uses: an explicit one, or where it is stiff a stabilised one.

Stiff means that stability, not accuracy, limits the explicit method's step. It notices by
itself: the last two slopes of a step measure h|λ| of the stiffest mode for free. After
several steps near the edge of stability the spectral radius is measured, and a stabilised
method takes over where that confirms it. It hands back after some steps so short that the
explicit method would be stable too.

There may be a third, stabilised method whose number of stages is hardly limited. It takes
over from the second where that one's longest step is still no trouble for accuracy, as
close to a saddle or a minimum, and hands back after some shorter steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gflow.solvers.base import Stepper
from gflow.solvers.members import Members

EXPLICIT, STABILIZED, FAR = range(3)
_EDGE = 0.7  # of the explicit method's stability: near it
_CALM = 0.4  # of the same: a stabilised step so short is no gain
_TO_STABILIZED = 6  # votes
_TO_EXPLICIT = 10  # steps in a row
_TO_FAR = 3  # steps in a row at the limit
_FROM_FAR = 10  # steps in a row within _WITHIN of it
_WITHIN = 0.5
_PAUSE = 40  # steps before the third method is tried again


def vote(explicit: Stepper, members: Members, rows: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Count an explicit step, good or bad; the rows that ask for a look at the spectrum."""
    near = reach > _EDGE * explicit.reach(0)
    # Near the edge good and bad steps alternate, and only some show the stiff mode.
    members.signs[rows] = np.maximum(members.signs[rows] + np.where(near, 2, -1), 0)
    return rows[members.signs[rows] >= _TO_STABILIZED]


def confirm(explicit: Stepper, members: Members, rows: np.ndarray) -> np.ndarray:
    """Move members whose measured radius bears out the votes; the rows that moved."""
    members.signs[rows] = 0
    limit = 0.5 * explicit.reach(0)
    moved = rows[members.h[rows] * members.radius[rows] > limit]
    _move(members, moved, STABILIZED)
    return moved


def after_stabilized(
    steppers: Sequence[Stepper], farthest: float, members: Members, method: int, rows: np.ndarray
) -> np.ndarray:
    """Count good stabilised steps; the rows that moved.

    ``farthest`` is the largest h·ρ of the second method.
    """
    m = members
    reach = m.h[rows] * m.radius[rows]
    calm = reach < _CALM * steppers[EXPLICIT].reach(0)
    m.calm[rows] = np.where(calm, m.calm[rows] + 1, 0)
    back = rows[m.calm[rows] >= _TO_EXPLICIT]
    if len(steppers) > FAR:
        limited = reach >= 0.99 * farthest if method == STABILIZED else reach < _WITHIN * farthest
        m.signs[rows] = np.where(limited, m.signs[rows] + 1, np.minimum(m.signs[rows] + 1, 0))
        ready = rows[m.signs[rows] >= (_TO_FAR if method == STABILIZED else _FROM_FAR)]
        _move(m, ready, FAR if method == STABILIZED else STABILIZED)
        m.signs[ready] = 0 if method == STABILIZED else -_PAUSE
    else:
        ready = rows[:0]
    _move(m, back, EXPLICIT)
    return np.union1d(ready, back)


def _move(members: Members, rows: np.ndarray, method: int) -> None:
    members.method[rows] = method
    members.signs[rows] = members.calm[rows] = 0
    members.before[rows] = np.nan  # the controller of another method says nothing here
