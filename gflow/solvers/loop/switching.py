"""Which method a member uses: an explicit one, or where it is stiff one of two others.

Stiff means that stability, not accuracy, limits the explicit method's step. It notices by
itself: the last two slopes of a step measure h|λ| of the stiffest mode for free. After
several steps near the edge of stability the spectral radius is measured, and the second
method takes over where that confirms it. It hands back after some steps so short that the
explicit method would be stable too.

The second method is of high order, its rival is rkc2. For a lone start the second one is
bdf, which wins on every smooth flow, and loses where the right-hand side jumps (a narrow
ReLU network). For an ensemble it is rock4, which wins where the path is smooth and the
tolerance tight. It loses where stiff modes are dragged along by slow ones, for its stages
are of order 1 (local error ψh²g'' on the problem of Prothero & Robinson, ψ = 6 at 8 stages
and 13,000 at 30, against 0.002 for rkc2), and far out, where its stages run out.

rkc2's error estimate takes both ends of a step and nothing else, so every step of the second
method tells what rkc2 would cost from there. The other way round nothing tells: the
second method is tried again after a pause, which doubles whenever it loses.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.linalg import vector_norm

from gflow.solvers.base import Method
from gflow.solvers.elementwise import Rows, Values, select_rows, where
from gflow.solvers.loop.members import Members
from gflow.solvers.rkc2 import RKC2, rkc2_error

EXPLICIT, STABILIZED, RIVAL = range(3)
_EDGE = 0.7  # of the explicit method's stability: near it
_CALM = 0.4  # of the same: a stabilised step so short is no gain
_VOTES = 6  # near the edge
_WORTH = 20  # explicit steps still to make
_MANY = 100  # of the same: one vote is enough
_WORTH_LEAVING = 60  # the same for a member of an ensemble: small groups cost more a member
_CALM_STEPS = 10  # in a row, those that grow by more than this apart:
_GROWING = 1.25
_CHEAPER = 0.7  # of the second method's price: worth a change
_CHEAPER_STEPS = 4
_DEAR = 12  # evaluations in a step of rkc2
_PAUSE = 40  # steps of rkc2 before the second method is tried again


def vote(explicit: Method, members: Members, rows: Rows, reach: Values, end: Values) -> np.ndarray:
    """Count an explicit step, good or bad; the rows that ask for a look at the spectrum,
    those that will be there before it pays excepted."""
    m, near = members, reach > _EDGE * explicit.reach(0)
    steps = (end - m.t[rows]) / m.h[rows]
    # Near the edge good and bad steps alternate, and only some show the stiff mode. Where
    # much is at stake one will do, unless it was too long for its error anyway.
    for_it = where((steps > _MANY) & (m.retried[rows] == 0), _VOTES, 2)
    m.signs[rows] += where(near, for_it, where(m.signs[rows] > 0, -1, 0))
    worth = _WORTH if len(m) == 1 else _WORTH_LEAVING
    return select_rows(rows, (m.signs[rows] >= _VOTES) & (steps > worth))


def confirm(explicit: Method, members: Members, rows: np.ndarray) -> np.ndarray:
    """Move members whose measured radius bears out the votes; the rows that moved.

    The others need more votes the next time.
    """
    members.signs[rows] = -2 * _VOTES
    limit = 0.5 * explicit.reach(0)
    return move(members, rows[members.h[rows] * members.radius[rows] > limit], STABILIZED)


def hand_back(explicit: Method, members: Members, rows: np.ndarray) -> np.ndarray:
    """Count good stabilised steps, and move members that are stiff no longer.

    Steps that still grow, as after a jump of the right-hand side, say nothing yet.
    """
    m = members
    calm = m.h[rows] * m.radius[rows] < _CALM * explicit.reach(0)
    settled = ~(m.h[rows] > _GROWING * m.before[rows])
    m.calm[rows] = np.where(calm, m.calm[rows] + settled, 0)
    return move(m, rows[m.calm[rows] >= _CALM_STEPS], EXPLICIT)


def rival_error(y: Tensor, k0: Tensor, end: Tensor, k: Tensor, h: float = 1.0) -> Tensor:
    """‖e‖ of the states had rkc2 made this step."""
    return vector_norm(rkc2_error(y, k0, end, k, h), dim=1)


def rival_is_cheaper(
    members: Members, rows: np.ndarray, spent: np.ndarray, step: np.ndarray, error: np.ndarray
) -> np.ndarray:
    """Whether rkc2 would have made good steps for less than was spent on them.

    ``error`` is rkc2's, relative to its tolerance.
    """
    # At rest either method's steps grow as fast as the controller lets them.
    longest = step * np.minimum(error ** (-1 / RKC2.error_order), 2.0)
    price = (2 + np.sqrt(1 + 1.54 * longest * members.radius[rows])) / longest
    return price < _CHEAPER * spent / step


def doubt(members: Members, rows: np.ndarray, cheaper: np.ndarray) -> np.ndarray:
    """Count good steps of the second method; the rows that ask for a look at the spectrum."""
    m = members
    m.signs[rows] = np.where(cheaper, m.signs[rows] + 1, np.maximum(m.signs[rows] - 1, 0))
    return m.signs[rows] >= _CHEAPER_STEPS


def to_rival(members: Members, rows: np.ndarray) -> np.ndarray:
    """Move members whose measured radius bears out the doubt."""
    members.pause[rows] = np.maximum(2 * members.pause[rows], _PAUSE)
    return move(members, rows, RIVAL)


def from_rival(members: Members, rows: np.ndarray, spent: np.ndarray) -> np.ndarray:
    """Count good steps of rkc2, and give the second method another try after the pause.

    Steps of many stages count more: they are what rkc2 is bad at.
    """
    m = members
    m.signs[rows] += np.where(spent > _DEAR, 10, 1)
    moved = rows[m.signs[rows] >= m.pause[rows]]
    move(m, moved, STABILIZED)
    m.signs[moved] = _CHEAPER_STEPS // 2
    return moved


def move(members: Members, rows: np.ndarray, method: int) -> np.ndarray:
    """Another method for some members."""
    members.method[rows] = method
    members.signs[rows] = members.calm[rows] = 0
    members.before[rows] = np.nan  # the controller of another method says nothing here
    return rows
