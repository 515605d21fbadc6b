"""Members leave the loop: at the end of their time, at an event, or because they failed."""

from __future__ import annotations

import numpy as np

from gflow.solvers.elementwise import Values, any_true
from gflow.solvers.loop.control import FAULTS
from gflow.solvers.loop.snapshot import snapshot
from gflow.solvers.loop.state import LoopState
from gflow.solvers.loop.switching import EXPLICIT
from gflow.solvers.problem import STIFF


class MemberRemoval:
    """Removes members from the state of a solve and records why."""

    def __init__(self, state: LoopState):
        self._state = state

    def drop_finished(self, finished: Values) -> None:
        """Drop the members that have reached their end or their event."""
        state, m = self._state, self._state.members
        if state.problem.fail_if_stiff:
            stiff = (m.method != EXPLICIT) & ~finished
            if any_true(stiff):
                self.fail(stiff, STIFF)
                finished = finished[~stiff]
        self.drop(finished)

    def fail(self, mask: Values, reason: str | None) -> None:
        """Record why members stop early, and drop them; without a reason, their last fault."""
        state, m = self._state, self._state.members
        if not any_true(mask):
            return
        state.problem.last_checkpoint = snapshot(state)
        for row in np.flatnonzero(mask).tolist():
            why = FAULTS[m.fault[row]] if reason is None else reason
            if not state.system.single:
                why = f"stopped at t = {m.t[row]:.6g}: {why}"
            state.record.failures[int(m.index[row])] = why
        self.drop(mask)

    def drop(self, mask: Values) -> None:
        """Record where members have arrived, and remove them."""
        if any_true(mask):
            mask = np.atleast_1d(mask)
            self._state.record.save_ends(self._state.members, mask)
            self._state.members = self._state.members.only(~mask)
