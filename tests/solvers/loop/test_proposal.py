"""Proposed steps: landing, slivers, the limit of stability, and which members step together."""

import numpy as np
import pytest
import torch

from gflow.flows import EndToEndFlow
from gflow.losses import SquaredDistance
from gflow.solvers.explicit import Tsit5
from gflow.solvers.loop.proposal import StepProposer
from gflow.solvers.loop.state import LoopState
from gflow.solvers.problem import Problem
from gflow.solvers.rkc2 import RKC2
from gflow.solvers.rock4 import ROCK4
from tests.helpers import randn

FLOW = EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), 3)
STARTS = randn(4, 2, 2)


def make_state_and_proposer(*methods, y0=STARTS, ts=(0.0, 1.0, 10.0), **options):
    """Return the state of a solve at its start, and a proposer of its steps."""
    problem = Problem(FLOW, y0, list(ts), rtol=1e-4, atol=1e-9, **options)
    state = LoopState.initial(problem, methods or (Tsit5(),), starter=False)
    state.members.radius[:] = 1.0
    return state, StepProposer(state)


@pytest.mark.parametrize(
    ("h", "step", "t_new"),
    [
        (0.1, 0.1, 0.1),
        (0.99, 0.6, 0.6),  # would leave a sliver
        (0.995, 1.0, 1.0),
        (5.0, 1.0, 1.0),
    ],
)
def test_steps_land_on_the_next_time_without_a_sliver_before_it(h, step, t_new):
    state, proposer = make_state_and_proposer()
    state.members.h[:] = h
    steps, ends = proposer.propose()
    assert steps == pytest.approx(np.full(4, step))
    assert ends == pytest.approx(np.full(4, t_new))


def test_dense_output_lands_on_the_last_time_only():
    state, proposer = make_state_and_proposer(dense=True)
    state.members.h[:] = 5.0
    assert proposer.propose()[1].tolist() == [5.0] * 4


def test_proposals_for_a_single_start_are_scalars():
    state, proposer = make_state_and_proposer(y0=STARTS[0])
    state.members.h[:] = 0.25
    assert proposer.propose() == (0.25, 0.25)
    (plan,) = proposer.plans(*proposer.propose())
    assert (plan.rows, plan.method, plan.reach) == (0, 0, 0.0)


def test_steps_of_stabilised_methods_do_not_exceed_their_largest_reach():
    state, proposer = make_state_and_proposer(ROCK4(), ts=(0.0, 1e9))
    state.members.h[:] = 1e8
    step, _ = proposer.propose()
    assert step == pytest.approx(np.full(4, state.methods.max_reach[0]))


def test_members_of_one_method_and_similar_stiffness_step_together():
    state, proposer = make_state_and_proposer(Tsit5(), ROCK4(), RKC2())
    m = state.members
    m.method[:], m.radius[:] = [1, 2, 1, 1], [60.0, 60.0, 50.0, 6000.0]
    plans = proposer.plans(np.ones(4), np.ones(4))
    groups = {tuple(plan.rows.tolist()): plan for plan in plans}
    assert set(groups) == {(0, 2), (3,), (1,)}
    assert groups[0, 2].reach == 60.0  # of the stiffest
    assert groups[0, 2].stages == ROCK4().stages(60.0)
    assert groups[1,].method == 2


def test_explicit_members_step_together_whatever_their_stiffness():
    state, proposer = make_state_and_proposer()
    state.members.radius[:] = [1.0, 100.0, np.nan, 1e6]
    (plan,) = proposer.plans(np.ones(4), np.ones(4))
    assert plan.rows.tolist() == [0, 1, 2, 3]
    assert plan.reach == 0.0
