"""Which method a member uses: an explicit one, or where it is stiff one of two others.

Stiff means that stability, not accuracy, limits the explicit method's step. It detects this
itself: the last two slopes of a step measure h|λ| of the stiffest mode for free. After
several steps near the edge of stability the spectral radius is measured, and a method
of high order takes over where that confirms it. It hands back after some steps so short that the
explicit method would be stable too.

The high-order method competes with rkc2. For a single start the high-order one is
bdf, which wins on every smooth flow, and loses where the right-hand side jumps (a narrow
ReLU network). For an ensemble it is rock4, which wins where the path is smooth and the
tolerance tight. It loses where slow modes drive stiff ones, for its stages
are of order 1 (local error ψh²g'' on the problem of Prothero & Robinson, ψ = 6 at 8 stages
and 13,000 at 30, against 0.002 for rkc2), and at very large h·ρ, beyond its number of stages.

rkc2's error estimate takes both ends of a step and nothing else, so every step of the
high-order method yields the cost of rkc2 from there. A step of rkc2 does not yield the cost of the
high-order method, which is tried again after a pause that doubles whenever it loses.
"""

from __future__ import annotations

import numpy as np

from gflow.solvers.base import Method
from gflow.solvers.elementwise import Rows, Values, select_rows, where
from gflow.solvers.loop.members import Members

EXPLICIT, HIGH_ORDER, RKC2_METHOD = range(3)
_EDGE = 0.7  # of the explicit method's stability: near it
_NONSTIFF = 2.4  # of the same by stage: shorter steps of the high-order method are no gain
_VOTES = 6  # votes that trigger an estimate of the spectral radius
_MIN_STEPS = 20  # explicit steps still to make: fewer do not justify a change
_MIN_STEPS_ENSEMBLE = 60  # the same for a member of an ensemble: small groups cost more per member
_MANY_STEPS = 100  # explicit steps still to make: one vote is enough
_NONSTIFF_STEPS = 10  # in a row; those that grow by more than this do not count:
GROWING = 1.25


def vote(explicit: Method, members: Members, rows: Rows, reach: Values, end: Values) -> np.ndarray:
    """Count votes for the high-order method after an explicit step, good or bad.

    Parameters
    ----------
    explicit : Method
    members : Members
    rows : ndarray of int or 0
        Those that took the step.
    reach : ndarray or scalar
        h|λ| of the stiffest mode, as the step measured it.
    end : ndarray or scalar
        Last requested time.

    Returns
    -------
    ndarray of int
        The rows with enough votes, except those that finish before a change would pay off.

    Examples
    --------
    >>> import torch
    >>> from gflow.solvers.explicit import Tsit5
    >>> y = torch.zeros(1, 2)
    >>> m = Members.start(y, y, 0.0)
    >>> m.h[:] = 0.1
    >>> vote(Tsit5(), m, np.array([0]), np.array([3.4]), 100.0)  # near the edge, 1000 steps to go
    array([0])
    """
    m, near = members, reach > _EDGE * explicit.reach(0)
    steps = (end - m.t[rows]) / m.h[rows]
    # Near the edge good and bad steps alternate, and only some show the stiff mode. Where many
    # steps remain one vote is enough, unless it was too long for its error anyway.
    votes = where((steps > _MANY_STEPS) & (m.retried[rows] == 0), _VOTES, 2)
    m.votes[rows] += where(near, votes, where(m.votes[rows] > 0, -1, 0))
    min_steps = _MIN_STEPS if len(m) == 1 else _MIN_STEPS_ENSEMBLE
    return select_rows(rows, (m.votes[rows] >= _VOTES) & (steps > min_steps))


def confirm(explicit: Method, members: Members, rows: np.ndarray) -> np.ndarray:
    """Move members to the high-order method whose spectral radius confirms the votes.

    The others need more votes the next time.

    Parameters
    ----------
    explicit : Method
    members : Members
    rows : ndarray of int
        Those with enough votes.

    Returns
    -------
    ndarray of int
        The rows that moved.

    Examples
    --------
    >>> import torch
    >>> from gflow.solvers.explicit import Tsit5
    >>> y = torch.zeros(2, 2)
    >>> m = Members.start(y, y, 0.0)
    >>> m.h[:], m.radius[:] = 1.0, [3.0, 0.1]
    >>> confirm(Tsit5(), m, np.arange(2)).tolist(), m.method.tolist()
    ([0], [1, 0])
    """
    members.votes[rows] = -2 * _VOTES
    limit = 0.5 * explicit.reach(0)
    return move(members, rows[members.h[rows] * members.radius[rows] > limit], HIGH_ORDER)


def hand_back(explicit: Method, members: Members, rows: Rows) -> np.ndarray:
    """Count steps of the other methods, and move members that are stiff no longer.

    Steps that still grow, as after a jump of the right-hand side, do not count.

    Parameters
    ----------
    explicit : Method
    members : Members
    rows : ndarray of int or 0
        Those that took a good step.

    Returns
    -------
    ndarray of int
        The rows that moved to the explicit method.

    Examples
    --------
    >>> import torch
    >>> from gflow.solvers.explicit import Tsit5
    >>> y = torch.zeros(1, 2)
    >>> m = Members.start(y, y, 0.0)
    >>> m.h[:], m.radius[:], m.method[:] = 1.0, 0.1, HIGH_ORDER
    >>> [len(hand_back(Tsit5(), m, np.array([0]))) for _ in range(10)]
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    """
    m = members
    limit = _NONSTIFF * explicit.reach(0) / explicit.stages(0)
    nonstiff = m.h[rows] * m.radius[rows] < limit
    settled = ~(m.h[rows] > GROWING * m.last_step[rows])
    m.nonstiff_steps[rows] = where(nonstiff, m.nonstiff_steps[rows] + settled, 0)
    moved = select_rows(rows, m.nonstiff_steps[rows] >= _NONSTIFF_STEPS)
    if not len(moved):
        return moved
    m.pause[moved] = 0  # the next stiff stretch is another one
    return move(m, moved, EXPLICIT)


def move(members: Members, rows: np.ndarray, method: int) -> np.ndarray:
    """Switch members to another method.

    Parameters
    ----------
    members : Members
    rows : ndarray of int
    method : int
        `EXPLICIT`, `HIGH_ORDER` or `RKC2_METHOD`.

    Returns
    -------
    ndarray of int
        The same rows.

    Examples
    --------
    >>> import torch
    >>> y = torch.zeros(2, 2)
    >>> m = Members.start(y, y, 0.0)
    >>> move(m, np.array([1]), RKC2_METHOD).tolist(), m.method.tolist()
    ([1], [0, 2])
    """
    members.method[rows] = method
    members.votes[rows] = members.nonstiff_steps[rows] = 0
    members.last_step[rows] = np.nan  # that of another method predicts nothing
    return rows
