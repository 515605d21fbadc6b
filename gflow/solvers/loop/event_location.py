"""Finding the step that ends on an event, for many members at once.

An event is a function of the state that starts positive; the solve stops where it falls
to zero. The first good step over it gives a bracket (low, high) of step lengths from the
same state; shorter steps, proposed by the Illinois form of regula falsi, close in until
the bracket is narrower than `late`, and the step to its upper end is taken. So the last
state is one that the method computed, not one interpolated.
"""

from __future__ import annotations

import numpy as np

from gflow.solvers.loop.members import Members

_LATE = 1e-3  # of rtol: how late an event may be found, relative to its step


def closing(members: Members) -> np.ndarray:
    """Which members have a bracket."""
    return ~np.isnan(members.high)


def late(members: Members, rtol: float) -> np.ndarray:
    """How far behind an event a step may end."""
    resolved = 4 * np.spacing(np.abs(members.t) + members.high)
    return np.maximum(_LATE * rtol * members.high, resolved)


def proposal(members: Members, rtol: float) -> np.ndarray:
    """The next step length to try; NaN for members without a bracket."""
    m, width = members, late(members, rtol)
    guess = m.low + (m.high - m.low) * m.event_low / (m.event_low - m.event_high)
    inside = np.clip(guess, m.low + 0.5 * width, m.high - 0.5 * width)
    return np.where(m.high - m.low <= width, m.high, inside)


def watch(
    members: Members,
    rows: np.ndarray,
    good: np.ndarray,
    step: np.ndarray,
    event: np.ndarray,
    rtol: float,
) -> np.ndarray:
    """Narrow the brackets with a step of some rows; which steps may be accepted.

    Those are the good ones before any event, and those that end on one.
    """
    m = members
    bracketed = closing(m)[rows]
    crossed = good & (event <= 0)
    fresh = rows[crossed & ~bracketed]
    m.low[fresh], m.event_low[fresh], m.side[fresh] = 0.0, m.event[fresh], 0
    short = good & ~crossed & bracketed
    high, low = (m.high, m.event_high), (m.low, m.event_low)
    _move(high, m.event_low, m.side, 1, rows[crossed], step[crossed], event[crossed])
    _move(low, m.event_high, m.side, -1, rows[short], step[short], event[short])
    m.high[rows[~good]] = np.nan  # a bad step: look for the event anew
    found = crossed & (m.high - m.low <= late(m, rtol))[rows]
    return found | (good & ~crossed & ~bracketed)


def _move(
    end: tuple[np.ndarray, np.ndarray],
    retained: np.ndarray,
    side: np.ndarray,
    which: int,
    at: np.ndarray,
    step: np.ndarray,
    event: np.ndarray,
) -> None:
    """One end of the brackets to a new step; the other one, kept twice, counts half."""
    retained[at] = np.where(side[at] == which, 0.5 * retained[at], retained[at])
    end[0][at], end[1][at], side[at] = step, event, which
