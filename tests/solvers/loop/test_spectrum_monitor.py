"""When the spectral radius is estimated, and the estimates that the sharpness replaces."""

import pytest

import gflow
from gflow.flows.sharpness import sharpness_along
from gflow.solvers.loop.growth_monitor import GrowthMonitor
from tests.helpers import relative, slow_except
from tests.solvers.potentials import mild, solve
from tests.solvers.test_sharpness import TIMES, network


@pytest.fixture(autouse=True)
def no_growth_rates(monkeypatch):
    """Leave out the other estimates of the loop, which cost evaluations and limit steps, too."""
    monkeypatch.setattr(GrowthMonitor, "estimate_due", lambda self: None)


def test_estimates_are_rare_where_they_could_add_no_stage():
    flow, y0 = mild()
    stats = solve(flow, y0, [0.0, 2.0], "rkc2", 1e-6).stats
    steps = stats.accepted + stats.rejected
    assert steps > 300
    assert 0 < stats.rhs_evals - 2 * steps < 0.05 * steps  # at every tenth step it would be 0.1


@pytest.mark.parametrize("method", slow_except(["rkc2", "rock4", "auto"], "rkc2"))
def test_one_measurement_serves_sharpness_and_solver(method):
    """The sharpness replaces some of the solver's estimates of the spectral radius."""
    flow, y0 = network(width=12)
    options = {"rtol": 1e-4, "atol": 1e-7}
    plain = gflow.integrate(flow, y0, TIMES, method, **options)
    _, products = sharpness_along(flow, plain.ys)
    measured = gflow.integrate(flow, y0, TIMES, method, **options, sharpness=1)
    assert measured.stats.rhs_evals < plain.stats.rhs_evals
    assert measured.stats.rhs_evals + measured.stats.jvp_evals < plain.stats.rhs_evals + products
    assert relative(measured.ys, plain.ys) <= 1e-3
    assert measured.certificate.holds


@pytest.mark.slow
def test_the_solver_estimates_the_radius_itself_where_times_are_far_apart():
    """The radius follows a sharpness that grows between the times."""
    flow, y0 = network()
    sparse = gflow.integrate(flow, y0, [0.0, 20.0], "rkc2", 1e-5, 1e-8, sharpness=1)
    plain = gflow.integrate(flow, y0, [0.0, 20.0], "rkc2", 1e-5, 1e-8)
    assert sparse.certificate.holds
    assert sparse.stats.rejected <= plain.stats.rejected + 1
    assert sparse.stats.rhs_evals <= 1.05 * plain.stats.rhs_evals
    assert relative(sparse.ys, plain.ys) <= 1e-4
