"""The central flow against closed forms, dense eigenvalues, and descent at the edge."""

import math

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import CentralFlow, KernelFlow, NetworkFlow
from gflow.flows import central as module
from gflow.flows.modified import second_derivative
from gflow.flows.sharpness import sharpness
from tests.helpers import randn, relative, slow_except
from tests.valleys import EDGE, STEP, central_eigenvalue, eigenvalues, matrix, valley

RATE = 60.0


def at_the_edge() -> tuple[NetworkFlow, torch.Tensor, float]:
    """A tanh network, a state whose sharpness S grows along the flow, and η = 2/S."""
    flow, start = NetworkFlow.example()
    for seed in range(100):
        y = randn(len(start), seed=seed)
        lam, slope = top_and_slope(flow, y)
        if float(slope @ flow(0.0, y)) > 0:
            return flow, y, 2 / float(lam)
    raise AssertionError("no such state")


def top_and_slope(flow, y):
    """λ_max and ∇λ_max, through the eigenvalues of the dense Hessian."""
    leaf = y.clone().requires_grad_()
    H = torch.autograd.functional.hessian(flow.loss, leaf, create_graph=True)
    lam = torch.linalg.eigvalsh(H)[-1]
    return lam.detach(), torch.autograd.grad(lam, leaf)[0]


def test_one_eigenvalue_at_the_edge_has_the_variance_that_stops_it():
    flow, y, step = at_the_edge()
    lam, slope = top_and_slope(flow, y)
    central = CentralFlow(flow, step)
    result = central.oscillation(y)
    assert relative(result.values, lam) <= 1e-12
    sigma2 = 2 * (slope @ flow(0.0, y)) / (slope @ slope)
    assert relative(result.variance, sigma2) <= 1e-9
    assert relative(central(0.0, y), flow(0.0, y) - 0.5 * sigma2 * slope) <= 1e-9
    assert abs(float(slope @ central(0.0, y))) <= 1e-9 * float(slope.norm() * flow(0.0, y).norm())


@pytest.mark.parametrize("goal", [(150.0, 90.0), (150.0, 120.0)])
def test_velocity_at_the_edge_is_the_gradient_of_loss_and_spread(goal):
    flow, y = valley(start=(EDGE, EDGE - 0.5), goal=goal)
    central = CentralFlow(flow, STEP)
    assert float(central.oscillation(y).variance) > 1
    assert relative(central(0.0, y), central.reference(y)) <= 1e-12
    assert relative(central(0.0, y), flow(0.0, y)) > 0.1


def test_two_eigenvalues_have_a_covariance():
    flow, y = valley(start=(EDGE, EDGE), goal=(0.0, 0.0))
    goal = matrix(140.0, 70.0) + torch.tensor([[0.0, 20.0], [20.0, 0.0]], dtype=torch.float64)
    flow._loss.module.C.copy_(goal)
    # S = 2/η·1, and the part of C beyond it is cancelled: Σ = 2(C − 2/η)₊, the projection of −∇L.
    lam, V = torch.linalg.eigh(goal - EDGE * torch.eye(2, dtype=torch.float64))
    assert lam[0] < 0 < lam[1]
    expected = 2 * (V * lam.clamp_min(0)) @ V.mT
    result = CentralFlow(flow, STEP).oscillation(y)
    covariance = result.modes.mT @ result.modes
    assert relative(covariance[4:, 4:], expected) <= 1e-9
    assert float(covariance[:4].norm()) <= 1e-9 * float(expected.norm())


def test_iteration_and_dense_hessian_agree(monkeypatch):
    flow, y, step = at_the_edge()
    central = CentralFlow(flow, step)
    dense = central(0.0, y)
    monkeypatch.setattr(module, "_DENSE", 0)
    assert relative(central(0.0, y), dense) <= 1e-8


@pytest.mark.parametrize(
    "goal", slow_except([(150.0, 90.0), (150.0, 120.0), (90.0, 80.0)], (90.0, 80.0))
)
def test_path_is_the_closed_form(goal):
    flow, y0 = valley(goal=goal)
    central = CentralFlow(flow, STEP, rate=RATE)
    ts = [0.0, 0.1, 0.3, 0.6, 1.2]
    path = gflow.integrate(central, y0, ts, "dopri5", 1e-10, 1e-10)
    expected = [
        [central_eigenvalue(t, s, c, RATE) for s, c in zip((80, 70), goal, strict=True)] for t in ts
    ]
    assert relative(eigenvalues(path.ys), torch.tensor(expected, dtype=torch.float64)) <= 1e-8
    spread = sum(2 * max(0.0, c - EDGE) for c in goal)
    assert float(central.observables(path.ys[-1])["variance"]) == pytest.approx(spread, rel=1e-6)


@pytest.mark.slow
def test_sharpness_stays_below_the_edge_and_reaches_it_sooner_at_a_higher_rate():
    flow, y0 = valley()
    arrival = math.log(70 / 50)  # of the gradient flow
    gaps = []
    for rate in (50.0, 100.0, 200.0):
        central = CentralFlow(flow, STEP, rate=rate)
        ts = [0.0, arrival, arrival + 0.05]
        lam = eigenvalues(gflow.integrate(central, y0, ts, "dopri5", 1e-9, 1e-9).ys)[:, 0]
        assert float(lam.max()) <= EDGE * (1 + 1e-8)
        gaps.append(EDGE - float(lam[1]))
    assert 1.9 <= gaps[0] / gaps[1] <= 2.1
    assert 1.9 <= gaps[1] / gaps[2] <= 2.1


@pytest.mark.slow
def test_descent_at_the_edge_oscillates_with_the_variance_and_the_averaged_loss():
    goal = (104.0, 90.0)
    flow, y0 = valley(start=(99.0, 90.0), goal=goal, y=2.0)
    gd = gflow.descend(flow, y0, STEP, 2000)
    last = gd.ys[-2:]
    amplitude = (last[1, 4:] - last[0, 4:]) / 2
    central = CentralFlow(flow, STEP)
    path = gflow.integrate(
        central, valley((99.0, 90.0), goal)[1], [0.0, 2.0], "dopri5", 1e-10, 1e-10
    )
    at_end = central.observables(path.ys[-1])
    assert float(amplitude.square().sum()) == pytest.approx(float(at_end["variance"]), rel=1e-6)
    assert float(gd.losses[-1]) == pytest.approx(float(at_end["averaged_loss"]), rel=1e-6)
    assert relative(last.mean(0), path.ys[-1]) <= 1e-7
    assert float(sharpness(flow, path.ys[-1]).values) == pytest.approx(EDGE, rel=1e-9)


def test_loss_falls_at_the_rate_of_dissipation():
    flow, y, step = at_the_edge()
    central = CentralFlow(flow, step)
    velocity = central(0.0, y)
    h = 1e-5 / float(velocity.norm())
    rate = float(flow.loss(y + h * velocity) - flow.loss(y - h * velocity)) / (2 * h)
    assert float(central.dissipation(y, velocity)) == pytest.approx(-rate, rel=1e-6)
    assert rate < 0


def test_second_derivative_is_that_of_the_velocity():
    flow, y = NetworkFlow.example()
    v, w, h = randn(len(y), seed=1), randn(len(y), seed=2), 1e-3
    f = lambda a, b: flow(0.0, y + a * h * v + b * h * w)  # noqa: E731
    stencil = (f(1, 1) - f(1, -1) - f(-1, 1) + f(-1, -1)) / (4 * h * h)
    assert relative(second_derivative(flow, y, v, w), stencil) <= 1e-4
    assert float(second_derivative(valley()[0], valley()[1], 0 * y[:6], 0 * y[:6]).norm()) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"flow": KernelFlow.example()[0]},
            "the central flow needs a flow of parameters, got KernelFlow",
        ),
        ({"step_size": 0.0}, "step_size must be a positive number, got 0.0"),
        ({"rate": float("inf")}, "rate must be a positive number, got inf"),
    ],
)
def test_input_errors(change, message):
    with pytest.raises(InputError, match=message):
        CentralFlow(**({"flow": valley()[0], "step_size": STEP} | change))


class _DifferentiableOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * (1 - ctx.saved_tensors[0].tanh() ** 2)


class _Once(torch.nn.Module):
    def forward(self, x):
        return _DifferentiableOnce.apply(x)


@pytest.mark.parametrize(
    ("activation", "runs"),
    [
        (torch.nn.Tanh(), True),
        pytest.param(torch.nn.GELU(), True, marks=pytest.mark.slow),
        (torch.nn.ReLU(), False),
        (torch.nn.LeakyReLU(), False),
        (_Once(), False),
    ],
)
def test_a_loss_whose_hessian_jumps_is_refused(activation, runs):
    random = torch.Generator().manual_seed(0)
    X = torch.randn(40, 6, dtype=torch.float64, generator=random)
    layers = torch.nn.Linear(6, 16), activation, torch.nn.Linear(16, 1)
    module = torch.nn.Sequential(*layers).double()
    for p in module.parameters():
        p.data = torch.randn(p.shape, dtype=torch.float64, generator=random) / 2
    flow = gflow.NetworkFlow(module, torch.nn.functional.mse_loss, X, X[:, :1].square())
    central = gflow.CentralFlow(flow, 1e-6)
    solve = lambda: gflow.integrate(central, flow.pack(), [0.0, 1e-3])  # noqa: E731
    if runs:
        assert solve().certificate.holds
    else:
        with pytest.raises(gflow.InputError, match="continuous second derivatives"):
            solve()
