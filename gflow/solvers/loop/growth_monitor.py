"""When to estimate how fast a mode may grow, and what the path has amplified since.

The estimates take a fourteenth of the evaluations: one before the steps become twice as long as
at the last one, so that no mode leaves a saddle within steps that are too long for it, and one from
time to time. The gain of a member is the log of the growth of a perturbation along the fastest
mode: the integral of the rate, less what is lost where the mode turns.
"""

from __future__ import annotations

import numpy as np

from gflow.solvers.base import Stepper
from gflow.solvers.elementwise import any_true
from gflow.solvers.loop.growth_limit import bdf_growth_limit, growth_limit
from gflow.solvers.loop.growth_rate import FIRST_PRODUCTS, PRODUCTS, growth_rate, next_gain
from gflow.solvers.loop.state import LoopState

_INTERVAL = 50  # evaluations between two estimates
_LONGER = 2.0  # times the step at the last one: a new one first
_SHARE = 0.07  # of all evaluations
_SHARE_GROWING = 0.15  # the same where a perturbation has grown by e^_GROWN
_GROWN = 3.0
_THOROUGH = 3.0  # times that share in a solve that checks another one
_FELL = 0.5  # times the last rate: the mode is lost
_FREE = 10  # evaluations beyond that share


class GrowthMonitor:
    """Keeps the growth rate of every member up to date."""

    def __init__(self, state: LoopState):
        self._state = state

    def estimate_due(self) -> None:
        """Estimate the rates that may be out of date for the next step."""
        state, m = self._state, self._state.members
        if state.problem.flow.affine:
            return
        rows = state.all_rows
        evals, h = m.evals[rows], m.h[rows]
        late = (evals - m.growth_evals[rows] >= _INTERVAL) | ~(h <= _LONGER * m.growth_h[rows])
        if not (late if state.system.single else late.any()):
            return
        share = np.where(m.gain > _GROWN, _SHARE_GROWING, _SHARE)
        if state.problem.thorough:
            share *= _THOROUGH
        affordable = m.growth_spent + PRODUCTS <= _FREE + share * m.evals
        affordable &= m.evals + FIRST_PRODUCTS < state.problem.max_evals
        due = np.flatnonzero(late & affordable)
        before = m.growth[due]
        self._estimate(due, PRODUCTS)
        # Where the mode that was followed no longer grows, another one may, which is found at once.
        self._estimate(due[m.growth[due] < _FELL * before], FIRST_PRODUCTS)

    def _estimate(self, rows: np.ndarray, products: int) -> None:
        state, m, system = self._state, self._state.members, self._state.system
        if not len(rows):
            return
        first = bool(np.isnan(m.growth_h[rows]).any())
        at = system.indices(rows)
        system.select(m.index[rows])
        before, t = system.calls, system.scalars(m.t[rows])
        y, f = m.y[at], m.f[at]
        if not isinstance(state.methods[int(m.method[rows[0]])], Stepper):
            f = system.velocity(t, y)  # that of a multistep step is right to the tolerance only
        growth = growth_rate(
            lambda moved: system.velocity(t, moved),
            y,
            f,
            m.modes[at],
            FIRST_PRODUCTS if first else products,
            seed=int(m.growth_spent[rows].max()),
        )
        spent = system.calls - before
        rate = np.nan_to_num(growth.rate)
        if not first:
            elapsed = m.t[rows] - m.growth_t[rows]
            m.gain[rows] = next_gain(m.gain[rows], growth.kept, m.growth[rows], rate, elapsed)
        m.peak_gain[rows] = np.maximum(m.peak_gain[rows], m.gain[rows])
        m.growth[rows], m.growth_t[rows], m.growth_h[rows] = _steady(rate), m.t[rows], m.h[rows]
        m.modes = m.modes.index_copy(0, at, growth.vectors)
        m.growth_spent[rows] += spent
        state.count_evals(rows, spent)
        m.growth_evals[rows] = m.evals[rows]


def _steady(rate: np.ndarray) -> np.ndarray:
    """Round rates up to the next sixteenth of an octave.

    The steps follow from them, and must not from the round-off of differences: it depends on how
    sums are split.
    """
    return np.where(rate > 0, np.exp2(np.ceil(16 * np.log2(rate)) / 16), 0.0)


def longest_steps(state: LoopState) -> np.ndarray | None:
    """Return the longest step of every member that resolves its growing modes.

    Parameters
    ----------
    state : LoopState

    Returns
    -------
    ndarray, shape (members,), or None
        Infinite where nothing grows; None if nothing grows at all.

    Examples
    --------
    >>> import gflow
    >>> from gflow.solvers.explicit import Tsit5
    >>> from gflow.solvers.problem import Problem
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> problem = Problem(flow, y0, [0.0, 1.0], rtol=1e-6, atol=1e-9)
    >>> state = LoopState.initial(problem, (Tsit5(),), starter=False)
    >>> state.members.growth[:] = 0.1
    >>> bool(4 < longest_steps(state)[0] < 5)
    True
    """
    m, rtol = state.members, state.problem.rtol
    if not any_true(m.growth > 0):
        return None
    limits = np.zeros(len(state.methods))
    for i in set(m.method.tolist()):
        method = state.methods[i]
        if isinstance(method, Stepper):
            limits[i] = growth_limit(type(method), rtol)
        elif state.past is not None:
            limits[i] = bdf_growth_limit(state.past.order, rtol)
    return np.where(m.growth > 0, limits[m.method] / m.growth, np.inf)
