"""Show accepted states of a single start to the guard of their rank, no more often than needed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gflow.flows.base import Correction
from gflow.solvers.loop.carried import carry
from gflow.solvers.loop.member_removal import MemberRemoval
from gflow.solvers.loop.state import LoopState

_CHANGE = 0.5  # of the margin in a step, assumed before it was measured
_LEAST_CHANGE = 0.2  # of the margin in a step: steps may grow
_CAUTION = 3.0  # the margin may change this many times as fast as between the last two checks
_LONGER = 2.0  # times the last wait: the next one, at most, in steps and in time
_FEW_STEPS = 8  # a wait that needs no margin for _LEAST_CHANGE a step
_FOLDINGS = 3.0  # by which modes that round-off blurs may grow unseen
_MAX_STEPS = 50  # between two looks
_STEPS_OUTSIDE = 2  # between two times at which modes left out are followed
_MAX_STEPS_OUTSIDE = 16  # the same where their growth hardly changes


class RankWatch:
    """Ends a solve where its guard has coordinates to go on in."""

    def __init__(self, state: LoopState, removal: MemberRemoval):
        self._state = state
        self._removal = removal
        self._rate = self._foldings = 0.0  # of modes that round-off blurs
        self._next_outside = self._wait_outside = 0  # accepted steps

    def look(self) -> None:
        """Check the state of the only member, if it is time to."""
        state, m, problem = self._state, self._state.members, self._state.problem
        guard, steps = problem.guard, int(m.good[0])
        if guard is None:
            return
        t = float(m.t[0])
        follow = bool(problem.outside) and steps >= self._next_outside
        due = steps >= m.next_check[0] or t >= m.next_check_t[0]
        check = due and steps != m.last_check[0]
        if not (follow or check):
            return
        y = state.system.states(m.y)
        # A large SVD takes longer than a step.
        costly = 1 + y.numel() // 2000
        if follow:
            self._follow_outside(y, steps, costly)
        if not check:
            return
        before, since = m.margin[0], max(steps - int(m.last_check[0]), 1)
        elapsed = t - self._checked_at()
        found = guard.check(y)
        rate = guard.blurred_growth
        self._add_foldings(elapsed, rate)
        m.margin[0], m.last_check[0], m.check_t[0] = guard.margin, steps, t
        if np.isnan(before):
            wait, time = guard.margin / _CHANGE, np.inf
        else:
            change = abs(before - guard.margin) / elapsed
            wait = min(_LONGER * since, max(_FEW_STEPS, guard.margin / _LEAST_CHANGE))
            time = min(_LONGER * elapsed, guard.margin / max(_CAUTION * change, 1e-300))
        m.next_check[0] = steps + int(np.clip(wait, 1, _MAX_STEPS * costly))
        m.next_check_t[0] = t + min(time, 1 / rate if rate > 0 else np.inf)
        if isinstance(found, Correction):
            self._correct(found)
        elif found is not None:
            problem.renewed = found
            if found.from_states is not None:
                problem.carried = carry(state, found.from_states)
            self._removal.drop(np.ones(1, bool))

    def _add_foldings(self, elapsed: float, rate: float) -> None:
        """Add the growth of modes that round-off blurs since the last check."""
        self._foldings += 0.5 * elapsed * (rate + self._rate)
        self._rate = rate
        self._state.problem.lost |= self._foldings > _FOLDINGS

    def _checked_at(self) -> float:
        """Return the time of the last check, or of the start."""
        at = float(self._state.members.check_t[0])
        return self._state.problem.ts[0] if np.isnan(at) else at

    def _follow_outside(self, y: Tensor, steps: int, costly: int) -> None:
        """Follow the modes that were left out, seldom where their growth hardly changes."""
        problem = self._state.problem
        t, W = problem.flow_time(float(self._state.members.t[0])), problem.flow.end_to_end(y)
        for mode in problem.outside:
            mode.add(t, W)
        problem.lost |= any(mode.returned for mode in problem.outside)
        steady = all(mode.steady for mode in problem.outside)
        longest = min(2 * self._wait_outside, _MAX_STEPS_OUTSIDE)
        self._wait_outside = max(longest, _STEPS_OUTSIDE) if steady else _STEPS_OUTSIDE
        self._next_outside = steps + self._wait_outside * costly

    def finish(self) -> None:
        """Follow the modes that are not resolved to the end of the path, where they may have grown.

        Long steps may lead there from the last look.
        """
        state, m, problem = self._state, self._state.members, self._state.problem
        if problem.guard is None and not problem.outside:
            return
        y, steps = state.system.states(m.y), int(m.good[0])
        if problem.outside:
            self._follow_outside(y, steps, 1)
        if problem.guard is not None and steps != m.last_check[0]:
            problem.guard.check(y)
            self._add_foldings(float(m.t[0]) - self._checked_at(), problem.guard.blurred_growth)

    def may_rest(self, end: float) -> bool:
        """Return whether a state that rests until a time needs no other coordinates there.

        Modes that round-off blurs would grow on meanwhile; the solve says so.
        """
        problem = self._state.problem
        if problem.guard is None:
            return True
        if problem.outside or problem.guard.check(self._state.system.states(self._state.members.y)):
            return False
        self._rate = problem.guard.blurred_growth  # it stays the same
        self._add_foldings(end - self._checked_at(), self._rate)
        return True

    def _correct(self, correction: Correction) -> None:
        """Apply a correction to the state and to the past states of a multistep method."""
        state, m, system = self._state, self._state.members, self._state.system
        # Each past state anew: a trend of the errors in them would go on.
        past = m.y, m.older_y, m.oldest_y
        m.y, m.older_y, m.oldest_y = (self._corrected(correction, y) for y in past)
        system.select(m.index)
        m.f = system.velocity(system.scalars(m.t), m.y.view(-1))[None]
        state.count_evals(0, 1)
        if state.past is not None:
            states = self._corrected(correction, state.past.stacked())
            state.past.replace(system.native(states))
        if not any(correction.note in switch for switch in state.switches):
            t = state.problem.flow_time(float(m.t[0]))
            state.switches.append(f"{correction.note} from t = {t:.3g}")

    def _corrected(self, correction: Correction, rows: Tensor) -> Tensor:
        states = (correction.state(self._state.system.states(row)) for row in rows)
        return torch.stack([state.reshape(-1) for state in states])
