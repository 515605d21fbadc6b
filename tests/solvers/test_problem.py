"""A problem counts evaluations, records states, and measures errors member by member."""

import pytest
import torch

from gflow.flows import EndToEndFlow
from gflow.losses import SquaredDistance
from gflow.solvers.problem import EXPLODED, NOT_FINITE, UNDERFLOW, Problem, Stop, velocity_of
from tests.helpers import altered, randn

FLOW = EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), 3)
START = 0.3 * randn(2, 2, seed=1)
STARTS = torch.stack([START, 2 * START, 3 * START])


def make_problem(y0=START, ts=(0.0, 1.0, 2.0), **options):
    return Problem(FLOW, y0, list(ts), **({"rtol": 1e-3, "atol": 1e-6} | options))


def test_right_hand_side_includes_the_dissipated_energy():
    problem = make_problem(STARTS)
    rate = problem.rhs(0.0, problem.z0)
    velocity = FLOW(0.0, STARTS)
    assert torch.equal(rate[:12], velocity.reshape(-1))
    assert torch.equal(rate[12:], FLOW.dissipation(STARTS, velocity))
    assert problem.rhs_evals == 1


def test_the_budget_of_evaluations_is_enforced():
    problem = make_problem(max_evals=2)
    for _ in range(2):
        problem.rhs(0.0, problem.z0)
    with pytest.raises(Stop, match="the budget of 2 evaluations ran out; loosen rtol"):
        problem.rhs(0.0, problem.z0)
    assert problem.rhs_evals == 2


def test_accepted_states_are_saved_at_requested_times():
    seen = []
    problem = make_problem(progress=lambda t, loss: seen.append(t))
    assert problem.next_time == 1.0
    for t, factor in ((0.5, 1.1), (1.0, 1.2), (2.0, 1.1)):
        problem.accept(t, torch.cat([factor * START.reshape(-1), torch.ones(1).double()]))
    assert torch.equal(torch.stack(problem.saved), torch.stack([START, 1.2 * START, 1.1 * START]))
    assert (problem.accepted, problem.t, problem.next_time) == (3, 2.0, float("inf"))
    assert torch.equal(problem.y, 1.1 * START)
    assert float(problem.dissipated) == 1.0
    assert seen == [0.5, 1.0, 2.0]
    losses = FLOW.loss(torch.stack([START, 1.1 * START, 1.2 * START, 1.1 * START]))
    assert float(problem.largest_rise) == float(losses.diff().clamp_min(0.0).max())


def test_a_loss_that_is_not_finite_stops_the_solve():
    problem = make_problem()
    with pytest.raises(Stop, match="the loss became NaN or infinite") as caught:
        problem.accept_state(1.0, START * torch.inf, None)
    assert str(caught.value) == EXPLODED
    assert problem.accepted == 0


def test_error_norm_is_the_largest_over_members():
    """Of the states in the Euclidean norm, and of the energy against its own tolerance."""
    problem = make_problem(STARTS)
    sizes = STARTS.flatten(1).norm(dim=1)
    bound = 1e-6 + 1e-3 * sizes
    for member in range(3):
        e = torch.zeros(15, dtype=torch.float64)
        e[4 * member] = 2.0 * bound[member]
        assert float(problem.error_norm(e)) == pytest.approx(2.0)
        e = torch.zeros(15, dtype=torch.float64)
        e[12 + member] = -3.0 * problem.energy_tolerance[member]
        assert float(problem.error_norm(e)) == pytest.approx(3.0)
    assert torch.allclose(problem.resolution, bound**2)
    assert torch.allclose(problem.energy_tolerance, 1e-3 / 3 * FLOW.loss(STARTS) + bound**2)


@pytest.mark.parametrize(("bad", "reason"), [(False, UNDERFLOW), (True, NOT_FINITE)])
def test_reason_of_a_step_size_underflow(bad, reason):
    problem = make_problem()
    problem.flow = altered(FLOW, lambda flow, t, y: flow(t, y) * (torch.nan if bad else 1.0))
    problem.rhs(0.0, problem.z0)
    assert problem.why_stuck() == reason


def test_the_closed_form_is_looked_up_once(monkeypatch):
    calls = []
    problem = make_problem()
    monkeypatch.setattr(type(FLOW), "closed_form", lambda self, y0: calls.append(1))
    assert problem.closed_form is problem.closed_form is None
    assert calls == [1]


def test_a_failed_decomposition_of_one_member_does_not_affect_the_others():
    class Failing(EndToEndFlow):
        def __call__(self, t, y):
            if bool(torch.isinf(y).any()):
                raise torch.linalg.LinAlgError
            return super().__call__(t, y)

    flow = Failing(SquaredDistance(torch.eye(2, dtype=torch.float64)), 3)
    states = STARTS.clone()
    states[1] = torch.inf
    velocity = velocity_of(flow, 0.0, states)
    assert torch.isnan(velocity[1]).all()
    assert torch.equal(velocity[[0, 2]], torch.stack([FLOW(0.0, STARTS[i]) for i in (0, 2)]))


def test_rejected_steps_are_counted():
    problem = make_problem()
    problem.reject()
    assert problem.rejected == 1
