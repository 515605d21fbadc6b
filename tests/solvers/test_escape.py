"""Paths that leave a saddle: at the right time, or the certificate does not hold.

φ = λ/2 (w₀ − 1)² + (w₁² − 1)²/4 from (2, b) has a closed form: w₀ = 1 + e^{−λt}, and
w₁ = b eᵗ/√(1 + b²(e^{2t} − 1)). W = UUᵀ against diag(3, 2, 1) from U = e₀I has one for every
eigenvalue.
"""

import math

import pytest
import torch

import gflow
from gflow.flows import FactorFlow
from gflow.losses import SquaredDistance
from gflow.solvers import methods
from gflow.solvers.escape import amplification
from gflow.solvers.problem import Problem
from tests.helpers import slow_except, times
from tests.solvers.potentials import Potential

ANGLE = 0.7


def saddle(rate, b, turned):
    """The flow, its start, times, and the path there."""
    c, s = math.cos(ANGLE) if turned else 1.0, math.sin(ANGLE) if turned else 0.0
    Q = times(c, -s, s, c).reshape(2, 2)
    flow = Potential(
        2,
        lambda y: rate / 2 * ((y @ Q)[..., 0] - 1) ** 2 + ((y @ Q)[..., 1] ** 2 - 1) ** 2 / 4,
        lambda y: (
            torch.stack(
                [rate * ((y @ Q)[..., 0] - 1), (y @ Q)[..., 1] ** 3 - (y @ Q)[..., 1]], dim=-1
            )
            @ Q.mT
        ),
    )
    leaves = -math.log(b)
    ts = times(0.0, leaves / 2, leaves - 1, leaves, leaves + 2, leaves + 10)
    escaping = b * torch.exp(ts) / torch.sqrt(1 + b**2 * torch.expm1(2 * ts))
    truth = torch.stack([1 + torch.exp(-rate * ts), escaping], dim=-1)
    return flow, truth[0] @ Q.mT, ts.tolist(), truth @ Q.mT


def error_of(ys, truth):
    return float((ys - truth).norm(dim=-1).max() / truth.norm(dim=-1).max())


@pytest.mark.parametrize("turned", slow_except([False, True], True))
@pytest.mark.parametrize("b", slow_except([1e-4, 1e-10], 1e-10))
@pytest.mark.parametrize("rate", slow_except([0.1, 300.0], 0.1))
def test_auto_leaves_at_the_right_time(rate, b, turned):
    flow, y0, ts, truth = saddle(rate, b, turned)
    path = gflow.integrate(flow, y0, ts, rtol=1e-5, atol=1e-8)
    assert error_of(path.ys, truth) <= 1e-3
    assert path.certificate.holds, path.certificate
    assert math.log(path.certificate.amplification) > 0.6 * math.log(1 / b)


@pytest.mark.parametrize("rate", slow_except([1.0, 300.0], 1.0))
def test_a_saddle_along_the_coordinates_is_left_from_below_round_off(rate):
    flow, y0, ts, truth = saddle(rate, 1e-18, turned=False)
    path = gflow.integrate(flow, y0, ts, rtol=1e-6)
    assert error_of(path.ys, truth) <= 1e-4
    assert path.certificate.holds, path.certificate


@pytest.mark.parametrize(
    "method", slow_except(["tsit5", "dop853", "rkc2", "rock4", "bdf"], "tsit5", "bdf")
)
def test_own_methods_leave_at_the_right_time(method):
    flow, y0, ts, truth = saddle(30.0, 1e-8, turned=True)
    path = gflow.integrate(flow, y0, ts, method, 1e-3, 1e-6)
    assert error_of(path.ys, truth) <= 0.1
    assert path.certificate.holds, path.certificate


@pytest.mark.slow
def test_members_leave_at_their_own_times():
    flow, y0, ts, truth = saddle(10.0, 1e-8, turned=False)
    starts = torch.stack([y0, times(2.0, 1e-3), times(2.0, 0.0)])
    path = gflow.integrate(flow, starts, ts, rtol=1e-6, atol=1e-9)
    assert error_of(path.ys[:, 0], truth) <= 1e-4
    assert torch.equal(path.ys[:, 2, 1], torch.zeros(6).double())  # by symmetry, for ever
    assert path.certificate.holds, path.certificate


@pytest.mark.parametrize("method", ["scipy:LSODA", "scipy:BDF", "rk4"])
def test_a_library_s_method_that_leaves_late_is_not_certified(method):
    flow, y0, ts, truth = saddle(30.0, 1e-10, turned=False)
    options = {"step_size": 0.08} if method == "rk4" else {}
    path = gflow.integrate(flow, y0, ts, method, 1e-3, 1e-6, **options)
    wrong = error_of(path.ys, truth) > 0.1
    assert not (wrong and path.certificate.holds)
    if method.startswith("scipy"):
        assert wrong
        assert "escape_error" in repr(path.certificate)


def test_a_path_at_rest_on_a_saddle_names_the_mode_that_should_leave():
    flow, y0, _, _ = saddle(30.0, 1e-10, turned=False)
    path = gflow.integrate(flow, y0, [0.0, 15.0], rtol=1e-6)
    assert path.certificate.holds
    assert "ends at rest on a saddle" in path.certificate.rest
    assert f"{1e-10 * math.exp(15):.1g}"[:3] in path.certificate.rest


def test_where_round_off_decides_the_certificate_does_not_hold():
    flow, y0, ts, _ = saddle(30.0, 1e-15, turned=True)
    path = gflow.integrate(flow, y0, ts, rtol=1e-4)
    assert not path.certificate.holds


def test_the_price_is_shown_and_small_where_nothing_grows():
    flow = Potential(3, lambda y: 0.5 * y.square().sum(-1), lambda y: y)
    stats = gflow.integrate(flow, times(1.0, 2.0, 3.0), [0.0, 10.0]).stats
    assert 0 < stats.certificate_evals <= stats.rhs_evals / 8
    flow, y0, ts, _ = saddle(30.0, 1e-6, turned=False)
    stats = gflow.integrate(flow, y0, ts).stats
    assert stats.certificate_evals > stats.rhs_evals / 2  # a finer solve


def test_what_a_library_s_path_amplified_is_measured_along_it():
    flow, y0, ts, _ = saddle(3.0, 1e-6, turned=False)
    problem = Problem(flow, y0, ts, rtol=1e-6, atol=1e-9)
    methods()["dopri5"].solve(problem, "dopri5")
    assert amplification(problem).gain == pytest.approx(math.log(0.6 / 1e-6), rel=0.2)


@pytest.mark.slow
def test_eigenvalues_are_learned_one_after_another():
    start = 1e-40
    a = times(3.0, 2.0, 1.0)
    flow = FactorFlow(SquaredDistance(torch.diag(a)))
    ts = torch.cat([torch.zeros(1), torch.linspace(0.1, 1.5, 8) * -math.log(start)]).double()
    truth = a / (1 + (a / start**2 - 1) * torch.exp(-4 * a * ts[:, None]))
    path = gflow.integrate(flow, start * torch.eye(3).double(), ts, rtol=1e-6, atol=1e-9 * start)
    found = flow.product(path.ys).diagonal(dim1=-2, dim2=-1)
    assert float((found - truth).abs().max()) <= 1e-4 * 3
    assert path.certificate.holds, path.certificate
