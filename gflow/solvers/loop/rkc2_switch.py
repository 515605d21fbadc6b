"""When rkc2 replaces the high-order method, and when that is tried again.

The reasons are in the head of switching.py.
"""

from __future__ import annotations

import numpy as np

from gflow.linalg.arrays import Array, row_norms
from gflow.solvers.elementwise import (
    Rows,
    Values,
    any_true,
    maximum,
    minimum,
    select_rows,
    where,
)
from gflow.solvers.loop.growth_limit import growth_limit
from gflow.solvers.loop.members import Members
from gflow.solvers.loop.switching import HIGH_ORDER, RKC2_METHOD, move
from gflow.solvers.rkc2 import RKC2, rkc2_error

_CHEAPER = 0.7  # fraction of the high-order method's cost below which rkc2 takes over
_CHEAPER_STEPS = 4
_EXPENSIVE = 12  # evaluations in a step of rkc2
_PAUSE = 40  # votes of rkc2's steps before the high-order method is tried again


def rkc2_error_of_step(y: Array, k0: Array, end: Array, k: Array, h: float = 1.0) -> Array:
    """Return the error ‖e‖ that rkc2 would have made in a step of another method.

    Parameters
    ----------
    y, k0 : Tensor or ndarray, shape (members, entries)
        The state at the start, and the increment there over h.
    end, k : Tensor or ndarray, shape (members, entries)
        The same at the end.
    h : float

    Returns
    -------
    Tensor or ndarray, shape (members,)

    Examples
    --------
    >>> import torch
    >>> y, k0 = torch.zeros(1, 2), torch.ones(1, 2)
    >>> rkc2_error_of_step(y, k0, y + 1, k0)  # a straight line
    tensor([0.])
    """
    return row_norms(rkc2_error(y, k0, end, k, h))


def rkc2_is_cheaper(
    members: Members, rows: Rows, spent: Values, step: Values, error: Values, rtol: float
) -> Values:
    """Return whether rkc2 would have been cheaper than the steps just taken.

    Parameters
    ----------
    members : Members
    rows : ndarray of int, shape (k,), or 0
        Those that took a good step.
    spent, step : ndarray, shape (k,), or scalar
        Its evaluations and its length.
    error : ndarray, shape (k,), or scalar
        The error of rkc2 in that step, relative to its tolerance.
    rtol : float
        Relative tolerance of the solve, to which a growing mode is resolved.

    Returns
    -------
    ndarray of bool, shape (k,), or scalar

    Examples
    --------
    >>> import torch
    >>> y = torch.zeros(1, 2)
    >>> m = Members.start(y, y, 0.0)
    >>> m.radius[:] = 100.0  # 2 + √155 = 14.4 evaluations
    >>> [rkc2_is_cheaper(m, np.arange(1), n, np.ones(1), np.ones(1), 1e-3).item()
    ...  for n in (20, 22)]
    [False, True]
    """
    # At rest the steps of both methods grow as fast as the controller allows.
    longest = step * minimum(error ** (-1 / RKC2.error_order), 2.0)
    growth = members.growth[rows]
    if any_true(growth > 0):
        longest = where(growth > 0, minimum(longest, growth_limit(RKC2, rtol) / growth), longest)
    price = (2 + (1 + 1.54 * longest * members.radius[rows]) ** 0.5) / longest
    return price < _CHEAPER * spent / step


def count_votes(members: Members, rows: Rows, cheaper: Values) -> Values:
    """Count votes for rkc2 after a good step of the high-order method.

    Parameters
    ----------
    members : Members
    rows : ndarray of int, shape (k,), or 0
    cheaper : ndarray of bool, shape (k,), or scalar
        From `rkc2_is_cheaper`.

    Returns
    -------
    ndarray of bool, shape (k,), or scalar
        Which have enough votes to estimate the spectral radius.

    Examples
    --------
    >>> import torch
    >>> y = torch.zeros(1, 2)
    >>> m = Members.start(y, y, 0.0)
    >>> [count_votes(m, np.arange(1), np.array([True])).item() for _ in range(4)]
    [False, False, False, True]
    """
    m = members
    m.votes[rows] = where(cheaper, m.votes[rows] + 1, maximum(m.votes[rows] - 1, 0))
    return m.votes[rows] >= _CHEAPER_STEPS


def switch_to_rkc2(members: Members, rows: np.ndarray) -> np.ndarray:
    """Move members to rkc2, and double the pause before the high-order method is tried again.

    Parameters
    ----------
    members : Members
    rows : ndarray of int

    Returns
    -------
    ndarray of int
        The same rows.

    Examples
    --------
    >>> import torch
    >>> y = torch.zeros(1, 2)
    >>> m = Members.start(y, y, 0.0)
    >>> m.pause[:] = 0
    >>> switch_to_rkc2(m, np.arange(1)).tolist(), m.pause.tolist()
    ([0], [40])
    """
    members.pause[rows] = np.maximum(2 * members.pause[rows], _PAUSE)
    return move(members, rows, RKC2_METHOD)


def switch_from_rkc2(members: Members, rows: Rows, spent: Values) -> np.ndarray:
    """Count good steps of rkc2, and move members to the high-order method after the pause.

    Steps of many stages count more: there rkc2 is at its worst, and a trial costs no more.

    Parameters
    ----------
    members : Members
    rows : ndarray of int, shape (k,), or 0
    spent : ndarray, shape (k,), or scalar
        Evaluations of the step.

    Returns
    -------
    ndarray of int
        The rows that moved.

    Examples
    --------
    >>> import torch
    >>> y = torch.zeros(1, 2)
    >>> m = Members.start(y, y, 0.0)
    >>> m.pause[:] = 20
    >>> [len(switch_from_rkc2(m, np.arange(1), np.array([30]))) for _ in range(2)]
    [0, 1]
    """
    m = members
    m.votes[rows] += where(spent > _EXPENSIVE, maximum(10, spent // 4), 1)
    moved = select_rows(rows, m.votes[rows] >= m.pause[rows])
    move(m, moved, HIGH_ORDER)
    m.votes[moved] = _CHEAPER_STEPS // 2
    return moved
