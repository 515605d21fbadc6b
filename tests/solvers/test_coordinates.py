import pytest
import torch

import gflow
from gflow.errors import GflowError
from gflow.flows import FactorFlow, ProductFlow
from gflow.solvers import methods
from gflow.solvers.coordinates import solve_in_coordinates
from gflow.solvers.problem import Problem
from tests.helpers import relative


def test_results_are_states_of_the_flow():
    flow, W0 = ProductFlow.example()
    problem = Problem(flow, W0, [1.0, 2.0, 4.0], rtol=1e-8, atol=1e-11)
    solve_in_coordinates(methods()["dop853"], problem, "dop853", steps=True)
    assert [y.shape for y in problem.saved] == [W0.shape] * 3
    assert problem.saved[0] is W0
    assert torch.equal(problem.y, problem.saved[-1])
    assert problem.t == 3.0  # since the start
    assert float(problem.y_norm) == pytest.approx(float(problem.y.norm()), 1e-14)
    U = gflow.integrate(FactorFlow(flow._loss), flow.lift(W0), [0.0, 3.0], "dop853", 1e-10, 1e-13)
    assert relative(problem.y, U.ys[-1] @ U.ys[-1].mT) <= 1e-7
    drop = flow.loss(W0) - flow.loss(problem.y)
    assert float(problem.dissipated) == pytest.approx(float(drop), 1e-6)


def test_a_solve_that_stops_early_has_states_of_the_flow():
    flow, W0 = ProductFlow.example()
    with pytest.raises(gflow.IntegrationError, match="budget of 60") as stop:
        gflow.integrate(flow, W0, [0.0, 0.1, 1e4], "tsit5", max_evals=60)
    error = stop.value
    assert isinstance(error, GflowError)
    assert error.y.shape == W0.shape
    assert error.trajectory.certificate.holds
    longer = gflow.integrate(flow, W0, [0.0, 0.1, 1.0], "tsit5")
    assert relative(error.trajectory.ys[1], longer.ys[1]) <= 1e-9


def test_factors_of_the_velocity_are_left_out_where_the_rank_is_guarded():
    flow, y0 = FactorFlow.example()
    problem = Problem(flow, y0, [0.0, 1.0], rtol=1e-6, atol=1e-9)
    solve_in_coordinates(methods()["tsit5"], problem, "tsit5", steps=True)
    halved = Problem(
        flow, y0, [0.0, 1.0], rtol=1e-6, atol=1e-9, velocity_factors=0.5 * torch.ones_like(y0)
    )
    solve_in_coordinates(methods()["tsit5"], halved, "tsit5", steps=True)
    assert torch.equal(halved.y, problem.y)
