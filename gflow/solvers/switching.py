"""Which of two methods a member uses: an explicit one, or a stabilised one where it is stiff.

Stiff means that stability, not accuracy, limits the explicit method's step. It notices by
itself: the last two slopes of a step measure h|λ| of the stiffest mode for free. After
several steps near the edge of stability the spectral radius is measured, and the
stabilised method takes over where that confirms it. It hands back after some steps so
short that the explicit method would be stable too.
"""

from __future__ import annotations

import numpy as np

from gflow.solvers.base import Stepper
from gflow.solvers.members import Members

EXPLICIT, STABILIZED = 0, 1
_EDGE = 0.7  # of the explicit method's stability: near it
_CALM = 0.4  # of the same: a stabilised step so short is no gain
_TO_STABILIZED = 6  # votes
_TO_EXPLICIT = 10  # steps in a row


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
    members.method[moved] = STABILIZED
    members.before[moved] = np.nan
    return moved


def hand_back(explicit: Stepper, members: Members, rows: np.ndarray) -> np.ndarray:
    """Count good stabilised steps, and move members that have become calm."""
    calm = members.h[rows] * members.radius[rows] < _CALM * explicit.reach(0)
    members.signs[rows] = np.where(calm, members.signs[rows] + 1, 0)
    moved = rows[members.signs[rows] >= _TO_EXPLICIT]
    members.method[moved] = EXPLICIT
    members.signs[moved] = 0
    members.before[moved] = np.nan
    return moved
