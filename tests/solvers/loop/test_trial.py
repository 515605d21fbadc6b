"""A trial step of several members equals the step of each one, whatever their step lengths."""

import numpy as np
import pytest
import torch

from gflow.flows import EndToEndFlow
from gflow.losses import SquaredDistance
from gflow.solvers.explicit import Dop853, Tsit5
from gflow.solvers.loop.initialization import Initializer
from gflow.solvers.loop.member_removal import MemberRemoval
from gflow.solvers.loop.proposal import StepPlan
from gflow.solvers.loop.spectrum_monitor import SpectrumMonitor
from gflow.solvers.loop.state import LoopState
from gflow.solvers.loop.trial import StepComputer
from gflow.solvers.problem import Problem
from gflow.solvers.rkc2 import RKC2
from gflow.solvers.rock4 import ROCK4
from tests.helpers import randn
from tests.solvers.steps import step as plain_step

FLOW = EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), 3)
STARTS = 0.5 * randn(3, 2, 2)
METHODS = [Tsit5(), Dop853(), RKC2(), ROCK4()]
STEPS = np.array([0.1, 0.02, 0.05])
each = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)


def compute_trial(method, y0, rows, steps):
    """Return the state of a solve, and a trial step of the given members from its start."""
    problem = Problem(FLOW, y0, [0.0, 10.0], rtol=1e-6, atol=1e-9)
    state = LoopState.initial(problem, (method,), starter=False)
    with np.errstate(all="ignore"):
        Initializer(state, SpectrumMonitor(state), MemberRemoval(state)).evaluate()
    stages = method.stages(3.0)
    plan = StepPlan(rows, 0, steps, steps, 3.0, stages)
    return state, StepComputer(state).compute(plan)


def rhs(t, Y):
    return FLOW(t, Y.reshape(-1, 2, 2)).reshape(len(Y), 4)


@each
def test_members_with_different_steps(method):
    _, trial = compute_trial(method, STARTS, np.arange(3), STEPS)
    for i, h in enumerate(STEPS):
        single = plain_step(method, rhs, 0.0, STARTS[i].reshape(1, 4), h, method.stages(3.0))
        assert torch.allclose(trial.y[i], single.y[0], rtol=1e-13)
        assert trial.measured.error[i] == pytest.approx(float(single.error.norm()), rel=1e-6)
        assert torch.allclose(trial.f[i], rhs(0.0, single.y)[0], rtol=1e-12)


@each
def test_selected_members_only(method):
    _, every = compute_trial(method, STARTS, np.arange(3), STEPS)
    _, selected = compute_trial(method, STARTS, np.array([2, 0]), STEPS[[2, 0]])
    assert torch.allclose(selected.y, every.y[[2, 0]], rtol=1e-13)


@each
def test_a_single_start(method):
    _, every = compute_trial(method, STARTS, np.arange(3), STEPS)
    _, single = compute_trial(method, STARTS[1], 0, np.float64(STEPS[1]))
    assert torch.allclose(single.y[0], every.y[1], rtol=1e-13)
    for name in ("energy", "rate", "size", "loss"):
        value, values = getattr(single.measured, name), getattr(every.measured, name)
        assert value == pytest.approx(values[1], rel=1e-10), name


@each
def test_energy_and_loss_at_the_end(method):
    """A short step dissipates as much energy as the loss falls."""
    state, trial = compute_trial(method, STARTS, np.arange(3), np.full(3, 1e-3))
    loss = FLOW.loss(trial.y.reshape(3, 2, 2)).numpy()
    assert trial.measured.loss == pytest.approx(loss)
    decrease = state.members.loss - loss
    assert trial.measured.energy == pytest.approx(decrease, rel=1e-5)


@each
def test_a_trial_step_changes_nothing_but_the_counters(method):
    state, _ = compute_trial(method, STARTS, np.arange(3), STEPS)
    assert torch.equal(state.members.y, STARTS.reshape(3, 4))
    assert state.members.t.tolist() == [0.0] * 3
    assert state.problem.rhs_evals == state.members.evals.sum()
