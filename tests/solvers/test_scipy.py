import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import gflow
from gflow.flows import EndToEndFlow, KernelFlow, ProductFlow
from gflow.losses import SquaredDistance
from tests.helpers import ensemble_of, make_loss, randn, relative, times, worst_relative

METHODS = ["LSODA", "BDF", "Radau", "DOP853", "RK45", "RK23"]


def problem():
    M = (lambda A: (A + A.mT) / 2)(randn(3, 3))
    U0 = 0.5 * randn(3, 3, seed=3)
    return ProductFlow(SquaredDistance(M)), U0 @ U0.mT


@pytest.mark.parametrize("method", METHODS)
def test_solver_lands_on_every_time(method):
    flow, W0 = problem()
    ts = times(*np.linspace(0.0, 3.0, 31))
    rtol = 1e-5 if method == "RK23" else 1e-9
    path = gflow.integrate(flow, W0, ts, f"scipy:{method}", rtol, 1e-3 * rtol)
    assert torch.equal(path.ts, ts)
    assert worst_relative(path.ys, flow.exact(ts, W0)) <= 100 * rtol
    assert path.certificate.holds, path.certificate
    assert path.stats.rejected is None
    assert path.stats.accepted >= 30


@pytest.mark.parametrize("method", ["LSODA", "DOP853"])
def test_landing_is_as_accurate_as_the_steps(method):
    """An interpolant would be less accurate by orders of magnitude."""
    flow, W0 = problem()
    ts = times(*np.linspace(0.0, 3.0, 31))
    path = gflow.integrate(flow, W0, ts, f"scipy:{method}", 1e-12, 1e-14)
    assert worst_relative(path.ys, flow.exact(ts, W0)) <= (1e-12 if method == "DOP853" else 1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_many_close_times(method):
    flow, W0 = problem()
    ts = times(0.0, 1e-9, 2e-9, 1e-3, 1e-3 + 1e-12, 0.5)
    path = gflow.integrate(flow, W0, ts, f"scipy:{method}", 1e-6, 1e-9)
    assert torch.equal(path.ts, ts)
    assert worst_relative(path.ys, flow.exact(ts, W0)) <= 1e-4


@pytest.mark.parametrize("method", ["LSODA", "BDF", "Radau"])
def test_stiff_problem_takes_few_evaluations(method):
    lam = times(1e5, 1.0, 0.01)
    flow = KernelFlow(torch.diag(lam), times(1.0, 2.0, 3.0))
    u0 = torch.zeros(3, dtype=torch.float64)
    path = gflow.integrate(flow, u0, [0.0, 1.0, 100.0], f"scipy:{method}", 1e-6, 1e-9)
    assert worst_relative(path.ys[1:], flow.exact(path.ts, u0)[1:]) <= 1e-4
    assert path.stats.rhs_evals < 3000  # an explicit method needs 1.8 λT = 2e7


def test_to_scipy():
    flow = EndToEndFlow(make_loss("completion", 2, 3), 3)
    W = ensemble_of(0.5 * randn(2, 3))
    fun, start = gflow.to_scipy(flow, W)
    assert start.shape == (36,)
    assert start.dtype == np.float64
    assert relative(torch.tensor(fun(0.0, start)).reshape(W.shape), flow(0.0, W)) == 0
    single, start = gflow.to_scipy(lambda t, y: -y.float(), W.float())
    assert single(0.0, start).dtype == start.dtype == np.float64
    solution = solve_ivp(fun, (0, 1), W.reshape(-1).numpy(), method="LSODA", rtol=1e-9, atol=1e-12)
    truth = gflow.integrate(flow, W, [0.0, 1.0], "dopri8", 1e-12, 1e-14)
    assert relative(torch.tensor(solution.y[:, -1]).reshape(W.shape), truth.ys[-1]) <= 1e-7


def test_states_passed_to_a_flow_are_copies():
    """SciPy reuses its work arrays; a state that a flow stores must not change."""
    seen = []
    flow, W0 = problem()
    fun, start = gflow.to_scipy(lambda t, y: seen.append(y) or flow(t, y), W0)
    buffer = start.copy()
    fun(0.0, buffer)
    buffer[:] = 0
    assert relative(seen[0], W0) == 0
