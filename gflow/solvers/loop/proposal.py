"""The next step of every member: its length, its end, and which members step together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gflow.solvers.elementwise import SINGLE_ROW, Rows, Values, max_of, minimum, where
from gflow.solvers.loop import event_location
from gflow.solvers.loop.growth_monitor import longest_steps
from gflow.solvers.loop.state import LoopState


class StepPlan(NamedTuple):
    """A step that some members take together: of one method, and within a factor 2 in h·ρ."""

    rows: Rows
    method: int  #: of `MethodSet`
    step: Values  #: its length
    t_new: Values  #: its end

    # Set by the longest step.
    reach: float  #: h·ρ; 0 for methods that do not need it
    stages: int


class StepProposer:
    """Proposes steps from the state of a solve."""

    def __init__(self, state: LoopState):
        self._state = state

    def propose(self) -> tuple[Values, Values]:
        """Return the step and its end of every member.

        Steps land on the requested times and close in on events.
        """
        state, m, rows = self._state, self._state.members, self._state.all_rows
        self._limit_to_stability()
        self._limit_to_growth()
        m.h[rows] = minimum(np.fmin(m.h[rows], m.short_h[rows]), state.problem.max_step)
        h, t, index, record = m.h[rows], m.t[rows], m.index[rows], state.record
        target = record.ends[index] if state.problem.dense else record.ts[index, m.next[rows]]
        remaining = target - t
        # Land on the requested time, and do not leave a sliver before it.
        lands = h * 1.01 >= remaining
        step = where(lands, remaining, minimum(h, 0.6 * remaining))
        t_new = where(lands, target, t + step)
        if state.problem.event is not None:
            bracketed = event_location.bracketed(m)[rows]
            proposal = event_location.proposal(m, state.problem.rtol)[rows]
            step = where(bracketed, proposal, step)
            t_new = where(bracketed, minimum(t + step, target), t_new)
        return step, t_new

    def plans(self, step: Values, t_new: Values) -> Sequence[StepPlan]:
        """Return the steps to compute, each of members that step together."""
        m, stabilised = self._state.members, self._state.methods.stabilised
        if len(m) == 1:
            rows = 0 if self._state.system.single else SINGLE_ROW
            return (self._plan(rows, int(m.method[0]), step, t_new),)
        reach = np.where(stabilised[m.method], np.fmax(step * m.radius, 1.0), 1.0)
        key = m.method * 10_000 + np.ceil(np.log2(reach)).astype(np.int64)
        groups = (np.flatnonzero(key == k) for k in np.unique(key))
        return [
            self._plan(rows, int(m.method[rows[0]]), step[rows], t_new[rows]) for rows in groups
        ]

    def _plan(self, rows: Rows, method: int, step: Values, t_new: Values) -> StepPlan:
        chosen = self._state.methods[method]
        reach = max_of(step * self._state.members.radius[rows]) if chosen.stabilised else 0.0
        return StepPlan(rows, method, step, t_new, reach, chosen.stages(reach))

    def _limit_to_growth(self) -> None:
        """Shorten steps in which a mode that leaves a saddle would not be resolved."""
        longest = longest_steps(self._state)
        if longest is not None:
            m, rows = self._state.members, self._state.all_rows
            m.h[rows] = minimum(m.h[rows], longest)

    def _limit_to_stability(self) -> None:
        """Shorten steps of stabilised methods to the limit of their largest number of stages."""
        m, methods, rows = self._state.members, self._state.methods, self._state.all_rows
        for i, method in enumerate(methods.methods):
            if method.stabilised:
                longest = methods.max_reach[i] / m.radius[rows]
                too_long = (m.method[rows] == i) & (longest < m.h[rows])  # not where it is NaN
                m.h[rows] = where(too_long, longest, m.h[rows])
