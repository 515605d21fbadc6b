"""States at requested times within accepted steps."""

import numpy as np
import pytest
import torch

import gflow
from gflow.flows import EndToEndFlow
from gflow.losses import SquaredDistance
from gflow.solvers.explicit import Dop853, Tsit5
from gflow.solvers.loop.dense_output import DenseOutput
from gflow.solvers.loop.proposal import StepPlan
from gflow.solvers.loop.state import LoopState
from gflow.solvers.loop.system import TrialStep
from gflow.solvers.loop.trial import StepComputer
from gflow.solvers.problem import Problem
from tests.helpers import randn, relative

FLOW = EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), 3)


@pytest.mark.parametrize("accepted", [[True, True, True], [True, False, True]])
def test_states_within_a_step_are_interpolated(accepted):
    """A cubic path over a step that does not end on the requested times."""
    problem = Problem(FLOW, randn(3, 2, 2), [0.0, 0.25, 0.5, 2.0], rtol=1e-6, atol=1e-9, dense=True)
    state = LoopState.initial(problem, (Tsit5(),), starter=False)
    m, record = state.members, state.record
    cubic = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    m.y = m.f = torch.zeros(3, 4, dtype=torch.float64)
    end, slope = cubic.expand(3, 4), 3 * cubic.expand(3, 4)  # y = c t³
    plan = StepPlan(np.arange(3), 0, np.ones(3), np.ones(3), 0.0, 6)
    trial = TrialStep(end, slope, None)
    DenseOutput(state, StepComputer(state)).save(plan, trial, np.array(accepted))
    for i, t in enumerate((0.25, 0.5)):
        assert torch.allclose(record.saved[1 + i, accepted], t**3 * end[accepted])
        assert torch.isnan(record.saved[1 + i, ~np.array(accepted)]).all()
    assert torch.isnan(record.saved[3]).all()
    assert m.next.tolist() == [3 if moved else 1 for moved in accepted]


@pytest.mark.parametrize("rtol", [1e-6, 1e-8, 1e-10])
def test_dense_output_of_long_steps_is_as_accurate_as_landing(rtol):
    """One mode of a factorization leaves its saddle: dop853 takes a dozen steps to its end."""
    M = torch.tensor([[2.0, 0.5], [0.5, -1.0]], dtype=torch.float64)
    flow = gflow.ProductFlow(SquaredDistance(M))
    v = torch.tensor([0.3, -0.2], dtype=torch.float64)
    ts = np.linspace(0.0, 3.0, 61).tolist()
    truth = gflow.integrate(flow, v.outer(v), ts, "dop853", 1e-13, 1e-16)
    dense = gflow.integrate(flow, v.outer(v), ts, "dop853", rtol, 1e-3 * rtol, dense=True)
    worst = max(relative(a, b) for a, b in zip(dense.ys, truth.ys, strict=True))
    assert worst <= 20 * rtol
    assert dense.stats.rhs_evals < 0.5 * truth.stats.rhs_evals


def test_the_middle_of_a_step_is_no_step_of_its_own():
    flow, y0 = gflow.FactorFlow.example()
    ts = np.linspace(0.0, 1.0, 30).tolist()
    sparse = gflow.integrate(flow, y0, [0.0, 1.0], "dop853", 1e-9, 1e-12, dense=True)
    fine = gflow.integrate(flow, y0, ts, "dop853", 1e-9, 1e-12, dense=True)
    assert fine.stats.accepted == sparse.stats.accepted
    assert torch.equal(fine.ys[-1], sparse.ys[-1])
    extra, stages = fine.stats.rhs_evals - sparse.stats.rhs_evals, Dop853().stages(0.0)
    assert extra > 0
    assert extra % stages == 0
    assert fine.certificate.holds
