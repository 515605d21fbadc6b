"""Diagonal linear networks against autograd, DOP853 and the closed form of one input."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

import gflow
from gflow.baselines import diagonal_limit
from gflow.errors import InputError
from gflow.flows import DiagonalFlow, LossFlow
from gflow.flows.diagonal import DiagonalDualFlow
from tests.flows.test_array_form import DTYPES, check_form
from tests.helpers import dop853, randn, relative, slow_except, times

X, Y = randn(3, 6, seed=1), randn(3, seed=2)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_velocity_and_products_are_those_of_the_loss(depth):
    flow, state = DiagonalFlow(X, Y, depth), 1 + 0.3 * randn(12, seed=3)

    def loss(y):
        w = y[:6] ** depth - y[6:] ** depth
        return (X @ w - Y).square().mean() / 2

    plain = LossFlow(loss, {}, 12)
    assert relative(flow(0.0, state), plain(0.0, state)) <= 1e-13
    v = randn(12, seed=4)
    assert relative(flow.jvp(state, v), plain.jvp(state, v)) <= 1e-13
    assert relative(flow.end_to_end(state), state[:6] ** depth - state[6:] ** depth) <= 1e-15


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_flows_on_arrays_are_the_flows(dtype):
    X32, Y32 = X.to(dtype), Y.to(dtype)
    for depth in (2, 3):
        check_form(DiagonalFlow(X32, Y32, depth), (1 + 0.3 * randn(12)).to(dtype))
    dual = DiagonalDualFlow(X32, Y32)
    check_form(dual, torch.tensor([0.4, -0.3, 0.2, -0.5]).to(dtype))


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_invariants_are_conserved_from_starts_of_any_sign(depth):
    signs = torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0, -1.0]).double()
    state = torch.cat([0.4 + 0.1 * randn(6).abs(), signs * 0.3])
    if depth == 3:
        state = state.abs()
    path = gflow.integrate(DiagonalFlow(X, Y, depth), state, [0.0, 1.0, 4.0], rtol=1e-8, atol=1e-11)
    assert path.certificate.holds, path.certificate
    assert max(path.certificate.invariant_drift.values()) <= 1e-6
    values = path.flow.invariants(path.ys)
    u, v = path.ys.chunk(2, dim=-1)
    if depth == 3:
        assert relative(1 / values["smaller_factor"], 1 / u + 1 / v) <= 1e-14
    if depth == 4:
        assert relative(values["smaller_factor"] ** -2, u**-2 + v**-2) <= 1e-14


def test_an_odd_depth_crosses_with_opposite_signs():
    flow = DiagonalFlow(X, Y, 3)
    state = torch.cat([torch.full((6,), -0.3), torch.full((6,), 0.4)]).double()
    change = gflow.integrate(flow, state, [0.0, 0.5], rtol=1e-10, atol=1e-13)
    assert max(change.certificate.invariant_drift.values()) <= 1e-8
    equal = flow.invariants(torch.cat([-state[6:], state[6:]]))["smaller_factor"]
    assert bool(equal.isfinite().all())


def factors_along(start, ts):
    """Return [u; v] by DOP853 on the formulas themselves."""
    A, b = X.numpy(), Y.numpy()

    def rate(state):
        u, v = state[:6], state[6:]
        with np.errstate(all="ignore"):  # a first step that is too long
            slope = A.T @ (A @ (u**2 - v**2) - b) / len(b)
        return np.concatenate([-2 * u * slope, 2 * v * slope])

    return dop853(rate, start, ts, 1e-11, 1e-13 * float(start.abs().min()))


@pytest.mark.parametrize("alpha", slow_except([10.0, 1e-2, 1e-8], 10.0, 1e-2))
def test_both_forms_of_a_start_have_the_same_path(alpha):
    flow = DiagonalFlow(X, Y)
    scale = 0.2 / alpha**2 if alpha > 1 else math.log(1 / alpha)
    ts = [0.0, scale, 2 * scale]
    options = {"rtol": 1e-9, "atol": 1e-12 * min(alpha, 1.0)}
    truth = factors_along(flow.start(alpha), ts)
    w = truth[:, :6] ** 2 - truth[:, 6:] ** 2
    dual = gflow.integrate(flow, flow.start(log_scale=math.log(alpha)), ts, **options)
    assert dual.certificate.holds
    assert relative(dual.flow.end_to_end(dual.ys), w) <= 1e-7
    assert relative(flow.loss(dual.ys[1]), (X @ w[1] - Y).square().mean() / 2) <= 1e-6
    # and as the flow integrates it by itself
    path = gflow.integrate(flow, flow.start(alpha), ts, **options)
    assert path.certificate.holds
    assert relative(path.ys, truth) <= 1e-7


def test_a_start_of_1e_1000_ends_where_the_potential_is_least():
    flow = DiagonalFlow(X, Y)
    until = gflow.events.loss_reaches(flow.for_start(flow.start(log_scale=-1.0)), 1e-18)
    path = gflow.integrate(flow, flow.start(log_scale=-2302.585), [0.0, 1e6], until=until)
    assert path.certificate.holds, path.certificate
    limit = diagonal_limit(X, Y, log_scale=-2302.585)
    assert relative(path.flow.end_to_end(path.ys[-1]), limit) <= 1e-7


@pytest.mark.parametrize("log_scale", [math.log(10.0), math.log(1e-8)])
def test_one_input_has_a_closed_form_at_any_scale(log_scale):
    """ν = 0 to the root of x·w = y: w_j = 2α² sinh(x_j ν), one equation."""
    x = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    flow = DiagonalFlow(x, torch.tensor([3.0], dtype=torch.float64))
    path = gflow.integrate(flow, flow.start(log_scale=log_scale), [0.0, 40.0 + 10 * abs(log_scale)])
    assert path.certificate.holds, path.certificate
    a, row = 2 * log_scale, x[0].numpy()

    def excess(nu):
        z = row * nu
        return float(row @ (np.sign(z) * np.exp(a + abs(z)) * -np.expm1(-2 * abs(z)))) - 3.0

    upper = 40.0 if log_scale > 0 else 1 - log_scale
    nu = brentq(excess, 0.0, upper, xtol=1e-13, rtol=1e-15)
    z = row * nu
    truth = np.sign(z) * np.exp(a + abs(z)) * -np.expm1(-2 * abs(z))
    assert relative(path.flow.end_to_end(path.ys[-1]), torch.tensor(truth)) <= 1e-9
    assert float(path.losses[-1]) <= 1e-16


def test_weights_lose_no_digits_at_small_arguments_and_do_not_overflow():
    dual = DiagonalDualFlow(torch.ones(1, 1).double(), torch.ones(1).double())
    state = torch.tensor([1e-20, 0.0], dtype=torch.float64)
    assert float(dual.end_to_end(state)) == pytest.approx(2e-20, rel=1e-15)
    state = torch.tensor([-4605.0, -2302.5], dtype=torch.float64)
    assert float(dual.end_to_end(state)) == pytest.approx(-1.0, rel=1e-15)
    assert bool(dual.lift(state).isfinite().all())


@pytest.mark.parametrize("alpha", [1.0, 1e-6])
def test_starts_of_any_signs_and_sizes_are_followed_in_the_dual_variable(alpha):
    flow = DiagonalFlow(X, Y)
    start = alpha * randn(12, seed=5).sign() * torch.logspace(0, -3, 12).double()
    path = gflow.integrate(flow, start, [0.0, 1.0, 20.0], rtol=1e-8, atol=1e-16)
    assert flow.coordinates(start) is not None
    assert relative(path.ys, factors_along(start, [0.0, 1.0, 20.0])) <= 1e-7
    assert flow.coordinates(0 * start) is None
    assert DiagonalFlow(X[:, :1], Y).coordinates(start[:2]) is None


def test_observables_and_ensembles():
    flow = DiagonalFlow(X, Y)
    states = torch.stack([flow.start(log_scale=-a) for a in (1.0, 5.0)])
    states = states + 0.1 * randn(*states.shape)
    seen = flow.observables(states)
    w = flow.end_to_end(states)
    assert w.shape == (2, 6)
    assert relative(seen["l1_norm"], w.abs().sum(-1)) <= 1e-15
    assert relative(seen["l2_norm"], w.square().sum(-1).sqrt()) <= 1e-15
    assert torch.equal(seen["weights"], w)
    path = gflow.integrate(flow, states, times(0.0, 1.0))
    assert path.ys.shape == (2, 2, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DiagonalFlow(X, Y[:2]), r"inputs must have shape \(n, d\) and targets \(n,\)"),
        (lambda: DiagonalFlow(X, Y, 1), "depth must be at least 2, got 1"),
        (lambda: DiagonalFlow(X / 0.0, Y), "inputs must be finite"),
        (lambda: DiagonalFlow(X, Y).start(), "start needs one of scale and log_scale"),
        (lambda: DiagonalFlow(X, Y).start(0.1, log_scale=-2.0), "one of scale and log_scale"),
        (lambda: DiagonalFlow(X, Y).start(-0.1), "scale must be"),
        (lambda: DiagonalFlow(X, Y).start(log_scale=math.inf), "log_scale must be"),
        (lambda: DiagonalFlow(X, Y, 3).start(log_scale=-2.0), "log_scale needs depth 2"),
        (lambda: DiagonalFlow(X[:, :2], Y).start(log_scale=-2.0), "n \\+ 1 = 2d = 4"),
        (
            lambda: gflow.integrate(DiagonalFlow(X, Y), randn(5), [0.0, 1.0]),
            r"shape \(..., 12\), got \(5,\)",
        ),
    ],
)
def test_input_that_does_not_fit_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_the_start_is_the_scale_to_the_last_digit():
    flow = DiagonalFlow(torch.eye(2).double(), torch.ones(2).double())
    assert flow.start(0.1).tolist() == [0.1] * 4
