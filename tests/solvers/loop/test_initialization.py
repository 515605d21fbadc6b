"""The start of a solve: measurements of every member, and members that end at once."""

import numpy as np
import pytest
import torch

from gflow.flows import EndToEndFlow
from gflow.losses import SquaredDistance
from gflow.solvers.explicit import Tsit5
from gflow.solvers.loop.initialization import Initializer
from gflow.solvers.loop.member_removal import MemberRemoval
from gflow.solvers.loop.spectrum_monitor import SpectrumMonitor
from gflow.solvers.loop.state import LoopState
from gflow.solvers.problem import NOT_FINITE, Problem
from gflow.solvers.rkc2 import RKC2
from tests.helpers import altered, randn

FLOW = EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), 3)
STARTS = randn(3, 2, 2)


def make_started_state(method=None, flow=FLOW, y0=STARTS, **options):
    problem = Problem(flow, y0, [0.0, 10.0], rtol=1e-6, atol=1e-9, **options)
    state = LoopState.initial(problem, (method or Tsit5(),), starter=False)
    with np.errstate(all="ignore"):
        Initializer(state, SpectrumMonitor(state), MemberRemoval(state)).evaluate()
    return state


def test_every_member_is_measured():
    state = make_started_state()
    m, velocity = state.members, FLOW(0.0, STARTS)
    assert torch.equal(m.f, velocity.reshape(3, 4))
    assert m.loss == pytest.approx(FLOW.loss(STARTS).numpy())
    assert m.size == pytest.approx(STARTS.flatten(1).norm(dim=1).numpy())
    assert m.rate == pytest.approx(FLOW.dissipation(STARTS, velocity).numpy())
    assert ((m.h > 0) & (m.h < 10.0)).all()
    assert state.problem.rhs_evals == 2 * 3  # the velocity, and its change along itself
    assert np.isnan(m.radius).all()


def test_a_stabilised_method_estimates_the_spectral_radius():
    state = make_started_state(RKC2())
    assert (state.members.radius > 0).all()
    assert state.problem.rhs_evals == state.members.evals.sum() > 2 * 3


def test_members_on_an_event_end_at_once():
    state = make_started_state(event=lambda y: torch.tensor([1.0, -1.0, 0.0]))
    assert state.members.index.tolist() == [0]
    assert state.record.event_times == {1: 0.0, 2: 0.0}
    assert not state.record.failures


def test_members_that_are_not_finite_fail():
    def rhs(flow, t, y):
        return torch.where(y[..., :1, :1] == STARTS[1, 0, 0], torch.nan, flow(t, y))

    state = make_started_state(flow=altered(FLOW, rhs))
    assert state.members.index.tolist() == [0, 2]
    assert state.record.failures == {1: f"stopped at t = 0: {NOT_FINITE}"}
