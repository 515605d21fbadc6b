"""When to estimate how fast a mode may grow, and what the path has amplified since.

The estimates take a fourteenth to a tenth of the evaluations: one before the steps become twice as
long as at the last one, so that no mode leaves a saddle within steps that are too long for it, and
one from time to time. The gain of a member is the log of the growth of a perturbation along the
fastest mode: the integral of the rate, less what is lost where the mode turns. The total gain is
the same of the mode that was the fastest one, which loses nothing where another one becomes that.
The path has amplified no less than its velocity grew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gflow.solvers.base import Stepper
from gflow.solvers.elementwise import Values, any_true, known_or_zero, where
from gflow.solvers.loop.gain import next_gain, next_total
from gflow.solvers.loop.growth_limit import bdf_growth_limit, growth_limit
from gflow.solvers.loop.growth_rate import (
    FIRST_PRODUCTS,
    PRODUCTS,
    Growth,
    by_products,
    growth_rate,
    needs_exact,
)
from gflow.solvers.loop.state import LoopState

_INTERVAL = 50  # evaluations between two estimates
_LONGER = 2.0  # times the step at the last one: a new one first
_SHARE = 0.07  # of all evaluations
_SHARE_GROWING = 0.1  # the same where a perturbation has grown by e^_GROWN
_GROWN = 3.0
_THOROUGH = 3.0  # times that share in a solve that checks another one
_FELL = 0.5  # times the last rate: the mode is lost
_NO_PRODUCTS = -1.0  # in place of the rate below which differences find none
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
        if not any_true(late):
            return
        share = where(m.gain[rows] > _GROWN, _SHARE_GROWING, _SHARE)
        if state.problem.thorough:
            share = share * _THOROUGH
        affordable = m.growth_spent[rows] + PRODUCTS <= _FREE + share * evals
        affordable &= evals + FIRST_PRODUCTS < state.problem.max_evals
        due = late & affordable
        if any_true(due):  # not those that are nearly due: a member takes the steps it takes alone
            self.estimate(np.flatnonzero(due))

    def follow_speed(self) -> None:
        """Measure the growth of the velocity since it was least.

        The velocity of an autonomous flow is itself a perturbation of the path, known at every
        step: between two estimates a mode whose rate rises, as near a degenerate saddle, grows by
        more than the rates of both say. Below the errors of a step it is noise.
        """
        m, problem, rows = self._state.members, self._state.problem, self._state.all_rows
        growing = m.growth[rows] > 0
        if not any_true(growing):
            return
        speed, size = m.speed[rows], m.size[rows]
        noise = (problem.atol + problem.rtol * size) * np.fmax(1 / m.last_step, m.radius)[rows]
        m.slowest[rows] = where(growing, np.fmin(m.slowest[rows], np.fmax(speed, noise)), np.inf)
        growth = where(growing & (speed > 0), np.log(speed / m.slowest[rows]), 0.0)
        m.speed_gain[rows] = np.fmax(m.speed_gain[rows], growth)

    def estimate(self, rows: np.ndarray) -> None:
        """Estimate the rates of some members, due or not."""
        if not self._state.problem.flow.affine:
            for part in self._alike(rows):
                self._update(rows[part])

    def finish(self, finished: Values) -> None:
        """Add what is amplified from the last estimates to the ends of the members that finish."""
        m, budget = self._state.members, self._state.problem.max_evals
        growing = finished & (m.growth > 0) & (m.t > m.growth_t)
        rows = np.flatnonzero(growing & (m.evals + PRODUCTS + FIRST_PRODUCTS < budget))
        for part in self._alike(rows):
            self._update(rows[part], search=False)

    def _alike(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return masks of rows whose estimates take exact products, and of those that do not."""
        exact = self._needs_exact(rows)
        return [mask for mask in (exact, ~exact) if mask.any()]

    def _update(self, rows: np.ndarray, *, search: bool = True) -> None:
        """Estimate the rates of some members, and add up what their paths amplify.

        With ``search``, another growing mode is looked for where the one that was followed falls.
        """
        m = self._state.members
        before, elapsed = m.growth[rows], known_or_zero(m.t[rows] - m.growth_t[rows])
        first = np.isnan(m.growth_h[rows])
        growth = self._estimate(rows, PRODUCTS)
        # Where the first estimate says that differences hide too much, products do not.
        again = first & self._needs_exact(rows)
        if search:
            again |= m.growth[rows] < _FELL * before
        kept = growth.kept.copy()
        lost = np.flatnonzero(again)
        for part in self._alike(rows[lost]):
            kept[lost[part]] *= self._estimate(rows[lost[part]], FIRST_PRODUCTS).kept
        m.gain[rows] = next_gain(m.gain[rows], kept, before, m.growth[rows], elapsed)
        m.total_gain[rows] = next_total(
            m.total_gain[rows], m.gain[rows], before, growth.followed, elapsed
        )

    def _needs_exact(self, rows: np.ndarray) -> np.ndarray:
        problem, m = self._state.problem, self._state.members
        return needs_exact(problem.flow, m.growth_blind[rows], problem.ts[-1] - m.t[rows])

    def _estimate(self, rows: np.ndarray, products: int) -> Growth:
        """Estimate the rates of members that take exact products all, or none."""
        state, m, system = self._state, self._state.members, self._state.system
        exact = bool(self._needs_exact(rows[:1])[0])
        first = bool(np.isnan(m.growth_h[rows]).any())
        system.select(m.index[rows])
        before, t = system.calls, system.scalars(m.t[rows])
        y, f, modes = (system.native(state.part(x, rows)) for x in (m.y, m.f, m.modes))
        if not isinstance(state.methods[int(m.method[rows[0]])], Stepper):
            f = system.velocity(t, y)  # that of a multistep step is right to the tolerance only

        chart = system.perturbations(y)

        def estimate(product: Callable[[Any], Any] | None) -> Growth:
            return growth_rate(
                lambda moved: system.velocity(t, moved),
                y,
                f,
                modes,
                FIRST_PRODUCTS if first else products,
                seed=m.growth_spent[rows],
                product=product,
                chart=chart,
            )

        usable = False
        if exact:
            growth, usable = by_products(estimate, lambda v: system.product(y, v))
        else:
            growth = estimate(None)
        spent = system.calls - before
        rate = _steady(known_or_zero(growth.rate))
        m.growth[rows], m.growth_t[rows], m.growth_h[rows] = rate, m.t[rows], m.h[rows]
        known = m.growth_blind[rows]
        m.growth_blind[rows] = np.where(known == _NO_PRODUCTS, known, growth.blind)
        if exact and not usable:
            m.growth_blind[rows] = _NO_PRODUCTS
        m.modes = state.replaced(m.modes, rows, torch.as_tensor(growth.vectors))
        m.growth_spent[rows] += spent
        state.count_evals(rows, spent)
        m.growth_evals[rows] = m.evals[rows]
        return growth


def _steady(rate: np.ndarray) -> np.ndarray:
    """Round rates to sixteenths of an octave.

    The steps follow from them, and must not from the round-off of differences: it depends on how
    sums are split.
    """
    return np.where(rate > 0, np.exp2(np.round(16 * np.log2(rate)) / 16), 0.0)


def longest_steps(state: LoopState) -> Values | None:
    """Return the longest step of every member that resolves its growing modes.

    Parameters
    ----------
    state : LoopState

    Returns
    -------
    ndarray, shape (members,), or scalar, or None
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
    >>> bool(4 < longest_steps(state) < 5)
    True
    """
    m, rtol, rows = state.members, state.problem.rtol, state.all_rows
    growth = m.growth[rows]
    if not any_true(growth > 0):
        return None
    limits = np.zeros(len(state.methods))
    for i in set(m.method.tolist()):
        method = state.methods[i]
        if isinstance(method, Stepper):
            limits[i] = growth_limit(type(method), rtol)
        elif state.past is not None:
            limits[i] = bdf_growth_limit(state.past.order, rtol)
    return where(growth > 0, limits[m.method[rows]] / growth, np.inf)
