"""After a trial step: whether it is accepted, the new state, and the next step length."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from gflow.solvers.bdf import BDF
from gflow.solvers.elementwise import (
    Values,
    all_true,
    any_true,
    maximum,
    minimum,
    select,
    select_rows,
    where,
)
from gflow.solvers.loop import control, event_location
from gflow.solvers.loop.proposal import StepPlan
from gflow.solvers.loop.state import LoopState
from gflow.solvers.loop.system import StepMeasurement, TrialStep


class Outcome(NamedTuple):
    """The outcome of a trial step, for every member that took it."""

    error: Values  #: relative to the tolerance
    accepted: Values
    #: Whether the error, the loss or a number that is not finite rules the step out. One that is
    #: good but passes an event is neither accepted nor rejected.
    rejected: Values


class StepJudge:
    """Decides on trial steps, and moves the members whose step is accepted."""

    def __init__(self, state: LoopState):
        self._state = state
        self._round_off = 20 * torch.finfo(state.problem.y0.dtype).eps

    def judge(self, plan: StepPlan, measured: StepMeasurement) -> Outcome:
        """Decide on a step, narrow the brackets of events, and note the faults."""
        state, m, rows, problem = self._state, self._state.members, plan.rows, self._state.problem
        error, good, fault = control.judge(
            measured,
            m.size[rows],
            m.loss[rows],
            state.first_loss[m.index[rows]],
            rtol=problem.rtol,
            atol=problem.atol,
            error_factor=state.methods.error_factor[plan.method],
            round_off=self._round_off,
        )
        m.fault[rows] = where(good, m.fault[rows], fault)
        accepted = good
        if problem.event is not None:
            at, small, step = np.atleast_1d(rows), np.atleast_1d(good), np.atleast_1d(plan.step)
            event = np.atleast_1d(measured.event)
            accepted = event_location.narrow(m, at, small, step, event, problem.rtol)
            accepted = accepted[state.all_rows]
        return Outcome(error, accepted, ~good)

    def set_next_steps(self, plan: StepPlan, outcome: Outcome) -> None:
        """Set the next step length of every member; one that passes an event keeps its length."""
        m, rows, method = self._state.members, plan.rows, self._state.methods[plan.method]
        past = self._state.past if isinstance(method, BDF) else None
        if any_true(outcome.accepted):
            at, h, error = select(outcome.accepted, rows, plan.step, outcome.error)
            if past:
                growth = float(m.growth[0])
                longer = past.next_step(float(h), growth, self._state.problem.rtol)
            else:
                before, error_before = m.last_step[at], m.error_before[at]
                longer = control.grown(h, error, before, error_before, method.error_order)
            longer = where(m.retried[at] > 0, minimum(longer, h), longer)
            # A step shortened to land is no evidence against the longer step it was cut from.
            planned = m.h[at]
            m.h[at] = maximum(longer, where(h < planned, planned, 0.0))
            m.last_step[at], m.error_before[at] = h, error
        if any_true(outcome.rejected):
            at, h, error = select(outcome.rejected, rows, plan.step, outcome.error)
            if past:
                m.h[at] = past.shorter_step(float(h), float(error), bool(m.retried[at]))
            else:
                m.h[at] = control.shrunk(h, error, method.error_order)
            m.bad[at] += 1
        m.retried[rows] = outcome.rejected

    def accept(self, plan: StepPlan, trial: TrialStep, accepted: Values) -> None:
        """Move the members whose step is accepted, and record the times they reached."""
        state, m, record = self._state, self._state.members, self._state.record
        y, f, measured, t_new, rows = trial.y, trial.f, trial.measured, plan.t_new, plan.rows
        if not all_true(accepted):
            at = state.system.indices(np.flatnonzero(accepted))
            y, f, t_new, rows = y[at], f[at], t_new[accepted], rows[accepted]
            measured = StepMeasurement(*(values[accepted] for values in measured))
        if state.problem.dense:
            m.oldest_y = state.replaced(m.oldest_y, rows, state.part(m.older_y, rows))
            m.oldest_f = state.replaced(m.oldest_f, rows, state.part(m.older_f, rows))
            m.oldest_t[rows] = m.older_t[rows]
            m.older_y = state.replaced(m.older_y, rows, state.part(m.y, rows))
            m.older_f = state.replaced(m.older_f, rows, state.part(m.f, rows))
        elif state.system.single:
            m.older_y = m.y
        m.y, m.f = state.replaced(m.y, rows, y), state.replaced(m.f, rows, f)
        index = m.index[rows]
        record.steps[plan.method, index] += 1
        record.rise[index] = maximum(record.rise[index], measured.loss - m.loss[rows])
        m.older_t[rows], m.t[rows] = m.t[rows], t_new
        m.loss[rows], m.size[rows] = measured.loss, measured.size
        m.rate[rows], m.speed[rows] = measured.rate, measured.speed
        m.energy[rows] += measured.energy
        m.age[rows] += 1
        m.good[rows] += 1
        m.evals_at_last_accept[rows] = m.evals[rows]
        # Steps of round-off's length up to where the right-hand side is not defined cure nothing.
        advanced = t_new - m.older_t[rows] > self._round_off * abs(t_new)
        m.fault[rows] = where(advanced, 0, m.fault[rows])
        record.save_landed(m, rows)
        if state.past is not None:
            state.past.add(float(t_new), state.system.native(m.y)[0], float(m.energy[0]))
        if state.problem.event is not None:
            m.event[rows], m.high[rows] = measured.event, np.nan
            ended = select_rows(rows, measured.event <= 0)
            times = zip(m.index[ended].tolist(), m.t[ended].tolist(), strict=True)
            record.event_times.update(times)
