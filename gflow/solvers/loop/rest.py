"""Ends the solve of a member whose state no longer changes: it is at rest to the last bit.

A path that has converged still takes steps, as many as stability demands, however long the time
that is left. Now and then the velocity there is compared with what it becomes where every number
of the state changes by a few units of round-off. Where no entry of the velocity is larger than
that, the right-hand side cannot say where the state would go, and it stays where it is.

An explicit method keeps a state that has converged at a distance of about the tolerance, because
its steps are as long as stability allows, and the many stages of a stabilised one amplify
round-off. Some shorter steps damp that before the comparison.

A saddle is left, so a member at which a mode grows is not at rest, unless its velocity is zero.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.solvers.base import Stepper
from gflow.solvers.elementwise import any_true, maximum
from gflow.solvers.loop.growth_monitor import GrowthMonitor
from gflow.solvers.loop.rank_watch import RankWatch
from gflow.solvers.loop.state import LoopState

_FIRST = 500  # evaluations before the first look
_LATER = 1.25  # times as many before the next one
_SHORT_STEPS = 24  # of a one-step method before the comparison, at least
_SHORTER = 0.5  # times the step before them
_MANY = 1000  # steps of the present length until the end, from which on it pays to look
_TOLERANCES = 10.0  # that a state which has converged may move by in a step
_KNOWN = 4.0  # times its change along itself: a velocity that is no round-off
_FAR = 1e-2  # of ‖y‖: a difference that shows the slowest rates
_ROUND_OFF = 64.0  # units by which the state is changed for the comparison


class RestMonitor:
    """Finds the members that are at rest, and moves them to the end of their time."""

    def __init__(self, state: LoopState, growth: GrowthMonitor, watch: RankWatch):
        self._state, self._growth, self._watch = state, growth, watch

    def look(self) -> None:
        """Look at the members that are due; those at rest are at their end then."""
        m = self._state.members
        rows = self._state.all_rows
        due = m.evals[rows] >= maximum(m.rest_check[rows], _FIRST)
        if not any_true(due) or np.isfinite(self._state.problem.max_step):
            return  # max_step says that the right-hand side may change unseen
        shortened = m.short_h > 0
        for row in np.flatnonzero(due).tolist():
            m.rest_check[row] = int(_LATER * m.evals[row])
            converged = shortened[row] or self._has_converged(row)
            method = self._state.methods[int(m.method[row])]
            if converged and not shortened[row] and isinstance(method, Stepper):
                self._shorten(row, method)
                continue
            m.short_h[row] = np.nan
            if converged and self._is_at_rest(row):
                self._end(row)

    def _shorten(self, row: int, method: Stepper) -> None:
        """Shorten the steps until the next look."""
        m, stages = self._state.members, method.stages(0.0)
        stable = method.reach(stages) / m.radius[row] if method.stabilised else np.inf
        m.short_h[row] = _SHORTER * np.fmin(m.h[row], stable)
        m.rest_check[row] = max(m.rest_check[row], m.evals[row] + _SHORT_STEPS * stages)

    def _has_converged(self, row: int) -> bool:
        """Whether the loss fell by no more since the last look than in a step or two."""
        m, problem = self._state.members, self._state.problem
        before, m.rest_loss[row] = m.rest_loss[row], m.loss[row]
        tolerance = problem.atol + problem.rtol * m.size[row]
        round_off = _ROUND_OFF * torch.finfo(m.y.dtype).eps * abs(m.loss[row])
        step = 2 * m.h[row] * m.rate[row]
        if not abs(before - m.loss[row]) <= step + tolerance**2 + round_off:
            return False
        if self._state.record.ends[m.index[row]] - m.t[row] < _MANY * m.h[row]:
            return False
        return bool(float(m.h[row] * vector_norm(m.f[row])) <= _TOLERANCES * tolerance)

    def _is_at_rest(self, row: int) -> bool:
        state, m, system = self._state, self._state.members, self._state.system
        system.select(m.index[row : row + 1])
        y = m.y[row : row + 1]
        times = [m.t[row : row + 1], state.record.ends[m.index[row : row + 1]]]
        before, one = system.calls, slice(None) if not system.single else 0

        def velocity(t: np.ndarray, y: Tensor) -> Tensor:
            return torch.as_tensor(system.velocity(system.scalars(t[one]), system.native(y)))

        now, later = (velocity(t, y) for t in times)
        changed = [velocity(times[0], moved) for moved in _neighbours(y)]
        state.count_evals(row if system.single else np.array([row]), system.calls - before)
        speed = torch.maximum(now.abs(), later.abs())
        if not bool(speed.any()):
            return self._watch.may_rest(float(times[1][0]))
        bound = torch.stack([(f - now).abs() for f in changed]).amax(0)
        # What is below the round-off of the largest number, and falls, does not matter either. The
        # decompositions of a reduced flow leave round-off of the largest number in every one.
        tiny = y.abs() <= torch.finfo(y.dtype).eps * y.abs().max()
        falls = (y * now < 0) & (y * later < 0)
        if not state.problem.flow.is_of_parameters:
            falls |= speed <= bound.max()
        if not bool(((speed <= bound) | tiny & falls).all()):
            return False
        self._growth.estimate(np.array([row]))
        # The Jacobian's own round-off, from which no mode is known to grow.
        least = float(vector_norm(bound)) / m.size[row]
        if not (m.growth[row] <= least and self._watch.may_rest(float(times[1][0]))):
            return False
        self._note_motion(row, now, changed)
        return True

    def _note_motion(self, row: int, velocity: Tensor, beside: list[Tensor]) -> None:
        """Note how far a member would move that rests at a velocity which is no round-off.

        Changes of fast modes do not change the velocity along a slow one, which may be known far
        better than its entries are: where it is the same beside the state.
        """
        state, m = self._state, self._state.members
        index = int(m.index[row])
        y, remaining = m.y[row : row + 1], float(state.record.ends[index] - m.t[row])
        slowest = m.modes[row, :1]  # of those that the estimate of growth follows
        for way in (velocity, slowest):
            along = way / vector_norm(way).clamp_min(torch.finfo(way.dtype).tiny)
            speed = abs(float((along * velocity).sum()))
            change = max(abs(float((along * (f - velocity)).sum())) for f in beside)
            if not speed > _KNOWN * change:
                continue
            step = _FAR * m.size[row]
            further = self._velocity_at(row, y + step * along)
            rate = abs(float((along * (further - velocity)).sum())) / step
            lasts = min(remaining, 1 / max(rate, 1e-300))
            error = speed * lasts / m.size[row]
            state.record.round_off[index] = max(state.record.round_off[index], error)

    def _velocity_at(self, row: int, y: Tensor) -> Tensor:
        """Return the velocity at a state of a member."""
        system, t = self._state.system, self._state.members.t[row : row + 1]
        one = slice(None) if not system.single else 0
        return torch.as_tensor(system.velocity(system.scalars(t[one]), system.native(y)))

    def _end(self, row: int) -> None:
        """Move a member to the end of its time; its state is that at all times until then."""
        state, m, record = self._state, self._state.members, self._state.record
        index = int(m.index[row])
        if state.system.single:
            t = state.problem.flow_time(float(m.t[row]))
            state.switches.append(f"at rest from t = {t:.3g}")
        record.rest[index] = m.t[row]
        times = int(np.isfinite(record.ts[index]).sum())
        record.saved[int(m.next[row]) : times, index] = m.y[row]
        m.next[row], m.t[row] = times, record.ends[index]


def _neighbours(y: Tensor) -> list[Tensor]:
    """Return states whose numbers all differ by some units of round-off."""
    signs = torch.ones_like(y)
    signs[..., 1::2] = -1.0
    change = _ROUND_OFF * torch.finfo(y.dtype).eps
    return [y * (1 + change * signs), y * (1 + change)]
