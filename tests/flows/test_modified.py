"""The modified flow against autograd of its loss, and against descent by fitted orders."""

import itertools
import math

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import (
    CentralFlow,
    FactorFlow,
    KernelFlow,
    LayerwiseFlow,
    ModifiedFlow,
    NetworkFlow,
)
from gflow.flows.base import ParameterFlow
from gflow.flows.momentum import inertia, time_unit
from tests.helpers import ensemble_of, flow_classes, make_loss, randn, relative, slow_except

PARAMETER_FLOWS = [
    c for c in flow_classes() if issubclass(c, ParameterFlow) and c is not ModifiedFlow
]
every_flow = pytest.mark.parametrize("kind", PARAMETER_FLOWS, ids=lambda c: c.__name__)


def dense(flow, y):
    """g, H and ∇³L[g, g] at one state by autograd of the loss, flattened."""

    def loss(flat):
        return flow.loss(flat.reshape(y.shape))

    flat = y.flatten()
    (g,) = torch.autograd.grad(loss(leaf := flat.clone().requires_grad_()), leaf)
    H = torch.autograd.functional.hessian(loss, flat)

    def curvature(point):
        return g @ torch.autograd.functional.hessian(loss, point, create_graph=True) @ g

    (third,) = torch.autograd.grad(curvature(leaf := flat.clone().requires_grad_()), leaf)
    return g, H, third


@every_flow
def test_right_hand_side_is_the_formula(kind):
    flow, y = kind.example()
    g, H, third = dense(flow, y)
    eta = 0.3
    second = -(g + eta / 2 * H @ g)
    assert relative(ModifiedFlow(flow, eta)(0.0, y).flatten(), second) <= 1e-12
    third_order = second - eta**2 * (third / 12 + H @ H @ g / 3)
    assert relative(ModifiedFlow(flow, eta, order=3)(0.0, y).flatten(), third_order) <= 1e-12
    beta = 0.6
    heavy = -(g + eta * (1 + beta) / (2 * (1 - beta) ** 2) * H @ g)
    assert relative(ModifiedFlow(flow, eta, momentum=beta)(0.0, y).flatten(), heavy) <= 1e-12


@every_flow
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_it_is_the_gradient_flow_of_the_modified_loss(kind, momentum):
    flow, y = kind.example()
    modified = ModifiedFlow(flow, 0.2, momentum=momentum)
    g = flow.reference(y)
    factor = 0.2 * (1 + momentum) / (1 - momentum) ** 2
    by_hand = flow.loss(y) + factor / 4 * g.square().sum()
    assert relative(modified.loss(y), by_hand) <= 1e-13
    leaf = y.clone().requires_grad_()
    (slope,) = torch.autograd.grad(modified.loss(leaf), leaf)
    assert relative(modified(0.0, y), -slope) <= 1e-12


@pytest.mark.parametrize(
    "kind",
    slow_except(PARAMETER_FLOWS, *(c for c in PARAMETER_FLOWS if c is not CentralFlow)),
    ids=lambda c: c.__name__,
)
@pytest.mark.parametrize("order", slow_except([2, 3], 3))
def test_every_order_is_certified(kind, order):
    flow, y = kind.example()
    modified = ModifiedFlow(flow, 0.02, order=order)
    path = gflow.integrate(modified, y, [0.0, 0.1, 0.5], rtol=1e-9, atol=1e-12)
    assert path.certificate.holds, path.certificate
    assert path.certificate.velocity_error <= 1e-11
    ys, v = ensemble_of(y), torch.ones_like(y)
    assert relative(modified(0.0, ys), modified.reference(ys)) <= 1e-12
    h = 1e-3
    f = lambda s: modified(0.0, y + s * h * v)  # noqa: E731
    stencil = (-f(2) + 8 * f(1) - 8 * f(-1) + f(-2)) / (12 * h)
    assert relative(modified.jvp(y, v), stencil) <= 1e-8


def test_the_third_order_differs_from_the_second():
    flow, y = FactorFlow.example()
    assert (
        relative(ModifiedFlow(flow, 0.3, order=3)(0.0, y), ModifiedFlow(flow, 0.3)(0.0, y)) > 0.01
    )


def gaps_to_descent(order, momentum, *, at_rest=False):
    """‖descent − flow‖ at t = 1 for τ = 1/24, 1/48, 1/96 on a three-layer linear network."""
    flow = LayerwiseFlow(make_loss("regression", 2, 3), [3, 4, 4, 2])
    y0 = 0.4 * randn(flow.state_shape[0], seed=5)
    gaps = []
    for n in (24, 48, 96):
        eta = 1 / n * (1 - momentum)
        gd = gflow.descend(flow, y0, eta, n, save_every=n, momentum=momentum)
        assert float(gd.ts[-1]) == pytest.approx(1.0, rel=1e-14)
        followed, start = flow, y0
        if order > 1:
            followed = ModifiedFlow(flow, eta, momentum=momentum, order=order)
            start = y0 if at_rest else followed.start(y0)
        path = gflow.integrate(followed, start, [0.0, 1.0], "dop853", 1e-11, 1e-14)
        gaps.append(float((path.ys[-1] - gd.ys[-1]).norm()))
    return gaps


def fitted(gaps):
    """The order of the two finest gaps, with the first-order error removed (Richardson)."""
    local = [math.log2(a / b) for a, b in itertools.pairwise(gaps)]
    return 2 * local[-1] - local[-2]


@pytest.mark.parametrize("order", slow_except([1, 2, 3], 1, 2))
def test_descent_follows_the_modified_flow_to_its_order(order):
    assert fitted(gaps_to_descent(order, 0.0)) == pytest.approx(order, abs=0.02)


@pytest.mark.parametrize("momentum", slow_except([0.3, 0.7], 0.3))
def test_heavy_ball_follows_the_modified_flow_to_orders_one_and_two(momentum):
    assert fitted(gaps_to_descent(1, momentum)) == pytest.approx(1, abs=0.05)
    assert fitted(gaps_to_descent(2, momentum)) == pytest.approx(2, abs=0.05)


def test_heavy_ball_needs_a_corrected_start():
    """Without the corrected start the distance is of order one."""
    assert fitted(gaps_to_descent(2, 0.5, at_rest=True)) == pytest.approx(1, abs=0.05)


def test_modified_flow_of_heavy_ball_on_a_quadratic_is_the_slow_root():
    """On L = ½λθ² descent is A z₁^k + B z₂^k; the modified flow is A z₁^{t/τ} to third order."""
    lam, beta = 1.5, 0.4
    errors = []
    for eta in (2e-3, 1e-3):
        tau = time_unit(eta, beta)
        b = 1 + beta - eta * lam
        root = (b + math.sqrt(b * b - 4 * beta)) / 2
        rate = math.log(root) / tau
        errors.append(abs(rate + lam * (1 + tau / 2 * inertia(beta) * lam)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.05)


def test_each_member_has_its_own_step_size():
    flow, y = FactorFlow.example()
    ys = torch.stack([y, 0.5 * y, 0.9 * y])
    steps = torch.tensor([0.01, 0.05, 0.2], dtype=torch.float64)
    batched = ModifiedFlow(flow, steps)
    ts = [0.0, 0.3, 1.0]
    paths = gflow.integrate(batched, ys, ts, "tsit5", 1e-9, 1e-12)
    assert paths.certificate.holds
    for i in range(3):
        single = ModifiedFlow(flow, float(steps[i]))
        assert relative(batched(0.0, ys)[i], single(0.0, ys[i])) <= 1e-14
        assert relative(batched.loss(ys)[i], single.loss(ys[i])) <= 1e-14
        assert relative(batched.start(ys)[i], single.start(ys[i])) == 0
        path = gflow.integrate(single, ys[i], ts, "tsit5", 1e-9, 1e-12)
        assert relative(paths.ys[:, i], path.ys) <= 1e-8
    part = batched.for_members(torch.tensor([2, 0]))
    assert torch.equal(part(0.0, ys[[2, 0]]), batched(0.0, ys)[[2, 0]])
    with pytest.raises(InputError, match=r"shape of the ensemble, \(2,\), got \(3,\)"):
        gflow.integrate(batched, ys[:2], ts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_size": 0.0}, "step_size must be a positive number, got 0.0"),
        ({"step_size": math.nan}, "step_size .*got nan"),
        ({"step_size": torch.tensor([0.1, -0.1])}, "step_size must be a positive number"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
        ({"order": 4}, "order must be 2, or 3 without momentum, got 4"),
        ({"order": 3, "momentum": 0.5}, "got 3 with momentum 0.5"),
    ],
)
def test_input_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        ModifiedFlow(FactorFlow.example()[0], **{"step_size": 0.1} | arguments)


def test_only_flows_of_parameters_are_modified():
    flow = gflow.EndToEndFlow(make_loss("regression", 2, 3), 3)
    with pytest.raises(InputError, match=r"got EndToEndFlow: take its flow\.parameter_flow"):
        ModifiedFlow(flow, 0.1)
    with pytest.raises(InputError, match="got KernelFlow: its states are outputs"):
        ModifiedFlow(KernelFlow.example()[0], 0.1)


def test_a_network_shares_its_forward_pass():
    calls = []
    module = torch.nn.Linear(3, 1).double()
    module.register_forward_hook(lambda *_: calls.append(1))
    flow = NetworkFlow(module, torch.nn.functional.mse_loss, randn(5, 3), randn(5, 1))
    calls.clear()
    ModifiedFlow(flow, 0.1)(0.0, flow.pack())
    assert len(calls) == 1
    ModifiedFlow(flow, 0.1).loss(flow.pack())
    assert len(calls) == 2
