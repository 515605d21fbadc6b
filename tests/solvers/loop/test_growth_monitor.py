"""Steps near a saddle, and what a path amplified, on potentials whose rates are known."""

import math

import numpy as np
import pytest
import torch

import gflow
from gflow.flows import KernelFlow
from gflow.solvers.explicit import Tsit5
from gflow.solvers.loop.growth_limit import growth_limit
from gflow.solvers.loop.stepping import SteppedSolver
from gflow.solvers.problem import Problem
from gflow.solvers.rock4 import ROCK4
from tests.helpers import times
from tests.solvers.potentials import Potential


def hill(rates):
    """A quadratic with growing and decaying coordinates."""
    rates = times(*rates)
    return Potential(
        len(rates), lambda y: -0.5 * (rates * y.square()).sum(-1), lambda y: -rates * y
    )


def solved(flow, y0, end, rtol=1e-6):
    problem = Problem(flow, y0, [0.0, end], rtol=rtol, atol=0.0)
    SteppedSolver(Tsit5()).solve(problem, "tsit5")
    return problem


def test_no_step_is_too_long_for_a_mode_that_is_far_below_the_tolerance():
    rate, end = 2.0, 10.0
    problem = solved(hill([-0.01, rate]), times(1.0, 1e-12), end)
    assert problem.accepted >= end * rate / growth_limit(Tsit5, 1e-6)
    assert float(problem.y[1]) == pytest.approx(1e-12 * math.exp(rate * end), rel=1e-4)


def test_the_gain_is_the_growth_of_a_perturbation():
    problem = solved(hill([-1.0, 2.0, 0.5]), times(1.0, 1e-12, 1e-3), 10.0)
    assert problem.gain == pytest.approx([20.0], rel=0.02)


def test_the_gain_of_every_member_of_an_ensemble():
    wells = Potential(1, lambda y: 0.25 * (y.square() - 1).square().sum(-1), lambda y: y**3 - y)
    starts = times(1e-8, 1e-2, 0.9)[:, None]
    problem = solved(wells, starts, 40.0)
    # From b to about 1/√3, where the curvature changes sign.
    assert problem.gain == pytest.approx(np.log([0.6 / 1e-8, 0.6 / 1e-2, 1.0]), abs=0.8)


def test_where_nothing_grows_the_estimates_cost_little_and_limit_nothing():
    problem = solved(hill([-1.0, -2.0]), times(1.0, 1.0), 20.0)
    assert problem.gain == 0
    linear = KernelFlow(torch.diag(times(1.0, 2.0)), times(0.0, 0.0))
    same = gflow.integrate(linear, times(1.0, 1.0), [0.0, 20.0], "tsit5", 1e-6, 0.0)
    assert problem.rhs_evals - same.stats.rhs_evals <= 12 + 0.08 * problem.rhs_evals


def stiff_saddle(product=None):
    """A valley of rate 2000 beside a mode that grows at the rate 3, in float32."""
    rates = times(2000.0, -3.0).float()
    flow = Potential(2, lambda y: 0.5 * (rates * y.square()).sum(-1), lambda y: rates * y)
    if product is not None:
        flow.jvp = product
    problem = Problem(flow, times(1.0, 1e-5).float(), [0.0, 3.0], rtol=1e-3, atol=1e-8)
    SteppedSolver(ROCK4()).solve(problem, "rock4")
    return problem


def test_a_slow_mode_of_a_stiff_flow_is_found_in_float32():
    problem = stiff_saddle()
    assert problem.gain == pytest.approx([9.0], rel=0.05)
    assert float(problem.y[1]) == pytest.approx(1e-5 * math.exp(9.0), rel=1e-2)


def test_a_flow_without_products_is_solved_by_differences():
    calls = []

    def fails(y, v):
        calls.append(y)
        raise NotImplementedError

    problem = stiff_saddle(fails)
    assert problem.t == 3.0
    assert len(calls) == 1


@pytest.mark.slow
def test_a_mode_is_followed_after_all_others_have_come_to_rest():
    rates = times(2.42, 2.75, 0.396)
    wells = Potential(
        3,
        lambda y: 0.25 * (rates * (y.square() - 1).square()).sum(-1),
        lambda y: rates * (y**3 - y),
    )
    b = times(4.66e-6, 1.69e-7, 2.51e-13)
    ts = [0.0, 40.0, 75.0]
    path = gflow.integrate(wells, b, ts, "rock4", 1e-5, 1e-18)
    grown = b[2] * torch.exp(rates[2] * times(*ts))
    truth = grown / torch.sqrt(1 + grown**2)
    assert ((path.ys[:, 2] - truth) / truth).abs().max() < 1e-3
