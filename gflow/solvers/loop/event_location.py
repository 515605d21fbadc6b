"""Find the step that ends on an event, for all members at once.

An event is a function of the state that starts positive; the solve stops where it falls
to zero. The first good step over it gives a bracket (low, high) of step lengths from the
same state; shorter steps, proposed by the Illinois form of regula falsi, close in until
the bracket is narrower than the allowed delay, and the step to its upper end is taken. So the last
state is one that the method computed, not one interpolated.
"""

from __future__ import annotations

import numpy as np

from gflow.solvers.loop.members import Members

_DELAY = 1e-3  # of rtol: how late an event may be found, relative to its step


def bracketed(members: Members) -> np.ndarray:
    """Return which members have a bracket."""
    return ~np.isnan(members.high)


def proposal(members: Members, rtol: float) -> np.ndarray:
    """Return the next step length to try.

    Parameters
    ----------
    members : Members
    rtol : float

    Returns
    -------
    ndarray, shape (members,)
        NaN for members without a bracket.

    Examples
    --------
    >>> import torch
    >>> y = torch.zeros(1, 1)
    >>> m = Members.start(y, y, 0.0)
    >>> m.low[:], m.high[:], m.event_low[:], m.event_high[:] = 0.0, 1.0, 3.0, -1.0
    >>> proposal(m, 1e-3).tolist()
    [0.75]
    """
    m, width = members, _allowed_delay(members, rtol)
    guess = m.low + (m.high - m.low) * m.event_low / (m.event_low - m.event_high)
    inside = np.clip(guess, m.low + 0.5 * width, m.high - 0.5 * width)
    return np.where(m.high - m.low <= width, m.high, inside)


def narrow(
    members: Members,
    rows: np.ndarray,
    good: np.ndarray,
    step: np.ndarray,
    event: np.ndarray,
    rtol: float,
) -> np.ndarray:
    """Narrow the brackets by a step of some members.

    Parameters
    ----------
    members : Members
    rows : ndarray of int, shape (k,)
        Those that took the step.
    good : ndarray of bool, shape (k,)
        Whether its error is small enough.
    step, event : ndarray, shape (k,)
        Its length, and the event's value at its end.
    rtol : float

    Returns
    -------
    ndarray of bool, shape (k,)
        Which steps may be accepted: the good ones before any event, and those that end on one.

    Examples
    --------
    >>> import torch
    >>> y = torch.zeros(2, 1)
    >>> m = Members.start(y, y, 0.0)
    >>> m.event[:] = 3.0
    >>> narrow(m, np.arange(2), np.array([True, True]), np.ones(2), np.array([-1.0, 1.0]), 1e-3)
    array([False,  True])
    >>> bracketed(m).tolist()
    [True, False]
    """
    m = members
    was_bracketed = bracketed(m)[rows]
    crossed = good & (event <= 0)
    fresh = rows[crossed & ~was_bracketed]
    m.low[fresh], m.event_low[fresh], m.side[fresh] = 0.0, m.event[fresh], 0
    # With another round-off, as that of another ensemble, a step may not reach the event any more.
    stale = good & ~crossed & was_bracketed & (step >= m.high[rows])
    m.high[rows[stale]] = np.nan
    short = good & ~crossed & was_bracketed & ~stale
    high, low = (m.high, m.event_high), (m.low, m.event_low)
    _move_end(high, m.event_low, m.side, 1, rows[crossed], step[crossed], event[crossed])
    _move_end(low, m.event_high, m.side, -1, rows[short], step[short], event[short])
    m.high[rows[~good]] = np.nan  # a bad step: discard the bracket
    on_event = crossed & (m.high - m.low <= _allowed_delay(m, rtol))[rows]
    return on_event | (good & ~crossed & ~was_bracketed) | stale


def _allowed_delay(members: Members, rtol: float) -> np.ndarray:
    """Return how far past an event a step may end."""
    resolved = 4 * np.spacing(np.abs(members.t) + members.high)
    return np.maximum(_DELAY * rtol * members.high, resolved)


def _move_end(
    end: tuple[np.ndarray, np.ndarray],
    other_event: np.ndarray,
    side: np.ndarray,
    which: int,
    at: np.ndarray,
    step: np.ndarray,
    event: np.ndarray,
) -> None:
    """Move one end of brackets to a new step; halve the other's event if it stays twice."""
    other_event[at] = np.where(side[at] == which, 0.5 * other_event[at], other_event[at])
    end[0][at], end[1][at], side[at] = step, event, which
