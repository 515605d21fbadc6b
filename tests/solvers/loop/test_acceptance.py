"""After a trial step: accepted members move, and every member gets its next step length."""

import numpy as np
import pytest
import torch

from gflow.flows import EndToEndFlow
from gflow.losses import SquaredDistance
from gflow.solvers.explicit import Tsit5
from gflow.solvers.loop.acceptance import Outcome, StepJudge
from gflow.solvers.loop.proposal import StepPlan
from gflow.solvers.loop.state import LoopState
from gflow.solvers.loop.system import StepMeasurement, TrialStep
from gflow.solvers.problem import Problem
from tests.helpers import randn

FLOW = EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), 3)
ROWS = np.arange(2)
ACCEPTED = np.array([True, False])


def make_state_and_judge(**options):
    problem = Problem(FLOW, randn(2, 2, 2), [0.0, 1.0, 10.0], rtol=1e-3, atol=0.0, **options)
    state = LoopState.initial(problem, (Tsit5(),), starter=False)
    m = state.members
    m.h[:], m.loss[:], m.size[:], m.rate[:], m.event[:] = 0.5, 1.0, 1.0, 2.0, 1.0
    return state, StepJudge(state)


def plan(step=0.5, rows=ROWS):
    lengths = np.full(len(rows), step)
    return StepPlan(rows, 0, lengths, lengths, 0.0, 6)


def make_measurement(error=(0.0, 0.0), loss=(0.9, 0.9), event=(1.0, 1.0)):
    zeros, ones = np.zeros(2), np.ones(2)
    return StepMeasurement(
        np.array(error), zeros, 0.1 * ones, ones, ones, ones, np.array(loss), zeros, np.array(event)
    )


def test_small_errors_are_accepted_and_large_ones_rejected():
    _, judge = make_state_and_judge()
    outcome = judge.judge(plan(), make_measurement(error=(5e-4, 2e-3)))
    assert outcome.accepted.tolist() == [True, False]
    assert outcome.rejected.tolist() == [False, True]
    assert outcome.error == pytest.approx([0.5, 2.0])


def test_a_good_step_over_an_event_is_neither_accepted_nor_rejected():
    state, judge = make_state_and_judge(event=lambda y: y.flatten(1).sum(dim=1))
    outcome = judge.judge(plan(), make_measurement(event=(-1.0, 0.5)))
    assert outcome.accepted.tolist() == [False, True]
    assert outcome.rejected.tolist() == [False, False]
    assert state.members.high[0] == 0.5
    state.members.h[:] = 0.7
    judge.set_next_steps(plan(), outcome)
    assert state.members.h[0] == 0.7  # unchanged


def test_rejected_steps_shrink_and_do_not_grow_at_once():
    state, judge = make_state_and_judge()
    m = state.members
    judge.set_next_steps(plan(), Outcome(np.array([1e-3, 32.0]), ACCEPTED, ~ACCEPTED))
    assert m.h[0] > 0.5
    assert m.h[1] < 0.5
    assert m.bad.tolist() == [0, 1]
    assert m.retried.tolist() == [0, 1]
    shorter = m.h[1]
    good = np.array([True, True])
    judge.set_next_steps(plan(shorter), Outcome(np.array([1e-3, 1e-3]), good, ~good))
    assert m.h[1] == shorter


def test_a_step_cut_short_to_land_does_not_shorten_the_next_one():
    state, judge = make_state_and_judge()
    good = np.array([True, True])
    state.members.last_step[:], state.members.error_before[:] = 1e-3, 0.9
    judge.set_next_steps(plan(1e-3), Outcome(np.array([0.9, 0.9]), good, ~good))
    assert state.members.h.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("dense", [False, True])
def test_only_accepted_members_move(dense):
    state, judge = make_state_and_judge(dense=dense)
    m, old = state.members, state.members.y
    y, f = randn(2, 4, seed=3), randn(2, 4, seed=4)
    judge.accept(plan(), TrialStep(y, f, make_measurement(loss=(1.25, 9.0))), ACCEPTED)
    assert torch.equal(m.y, torch.stack([y[0], old[1]]))
    assert torch.equal(m.f[0], f[0])
    assert m.t.tolist() == [0.5, 0.0]
    assert m.loss.tolist() == [1.25, 1.0]
    assert m.energy.tolist() == [0.1, 0.0]
    assert m.good.tolist() == [1, 0]
    assert state.record.rise.tolist() == [0.25, 0.0]
    assert torch.equal(m.older_y, old)


def test_a_state_on_a_requested_time_is_saved_and_an_event_noted():
    state, judge = make_state_and_judge(event=lambda y: y.flatten(1).sum(dim=1))
    y = randn(2, 4, seed=3)
    step = TrialStep(y, y, make_measurement(event=(0.0, 0.5)))
    judge.accept(plan(1.0), step, np.array([True, True]))
    assert torch.equal(state.record.saved[1], y)
    assert state.record.event_times == {0: 1.0}
