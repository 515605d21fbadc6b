"""Descent, its proxy with a smaller step and the flow, against separate runs."""

import itertools

import pytest
import torch
from torch import nn

import gflow
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, KernelFlow, NetworkFlow
from gflow.studies.continuous_vs_discrete import continuous_vs_discrete
from tests.helpers import dop853, make_loss, randn

STEP, T = 0.05, 1.0


def network(relu: bool) -> NetworkFlow:
    """Three bias-free layers on 30 points of three classes, mean cross-entropy."""
    layers: list[nn.Module] = []
    torch.manual_seed(0)
    for a, b in itertools.pairwise([4, 6, 6, 3]):
        layers += [nn.Linear(a, b, bias=False, dtype=torch.float64)] + [nn.ReLU()] * relu
    module = nn.Sequential(*layers[:-1] if relu else layers)
    labels = torch.arange(30) % 3
    points = 3 * nn.functional.one_hot(labels, 4).double() + randn(30, 4)
    return NetworkFlow(module, nn.functional.cross_entropy, points, labels)


def midpoint(flow: NetworkFlow, y: torch.Tensor, points: int, h: float) -> torch.Tensor:
    """Return the start and the states at equally spaced times up to T, by steps of length h."""
    states = [y]
    with torch.no_grad():
        for k in range(1, round(T / h) + 1):
            y = y + h * flow(0.0, y + h / 2 * flow(0.0, y))
            if k % round(T / h / points) == 0:
                states.append(y)
    return torch.stack(states)


@pytest.fixture(scope="module")
def linear():
    flow = network(relu=False)
    options = {"points": 4, "rtol": 1e-9, "atol": 1e-12}
    return flow, continuous_vs_discrete(flow, flow.pack(), T, STEP, **options)


def test_distances_are_those_of_the_parts(linear):
    flow, result = linear
    y0 = flow.pack()
    assert result.ts.tolist() == pytest.approx([0.25 * k for k in range(5)])
    descent = gflow.descend(flow, y0, STEP, 20, save_every=5).ys
    proxy = gflow.descend(flow, y0, STEP / 20, 400, save_every=100).ys
    exact = dop853(lambda y: flow(0.0, torch.from_numpy(y)).numpy(), y0, result.ts)
    apart = [(descent, y0), (descent, exact), (descent, proxy), (proxy, exact)]
    curves = [result.travelled, result.gap, result.proxy_gap, result.proxy_error]
    for curve, (a, b) in zip(curves, apart, strict=True):
        torch.testing.assert_close(curve, flow.norm(a - b), rtol=0, atol=1e-8)
    assert float(flow.norm(result.trajectory.ys - exact).max()) < 1e-8
    torch.testing.assert_close(result.losses, flow.loss(exact), rtol=1e-7, atol=0)
    torch.testing.assert_close(result.descent_losses, flow.loss(descent))


def test_proxy_with_a_twentieth_of_the_step_measures_19_twentieths_of_the_gap(linear):
    _, result = linear
    later = slice(1, None)
    ratio = result.proxy_gap[later] / result.gap[later]
    assert ((ratio - 19 / 20).abs() < 2e-3).all()
    off = result.proxy_error[later] / result.gap[later]
    assert ((off - 1 / 20).abs() < 2e-3).all()


@pytest.mark.parametrize("proxy", [2, 5])
def test_other_proxies_measure_the_share_of_a_first_order_gap(proxy):
    flow = network(relu=False)
    result = continuous_vs_discrete(flow, flow.pack(), T, STEP / 2, proxy=proxy, points=4)
    assert float(result.proxy_gap[-1] / result.gap[-1]) == pytest.approx(1 - 1 / proxy, abs=0.01)
    assert result.proxy_descent.step_size == STEP / 2 / proxy


def test_error_of_a_smooth_flow_is_far_below_every_gap(linear):
    _, result = linear
    assert float(result.solver_error.max()) < 1e-4 * float(result.proxy_error[1:].min())


@pytest.mark.slow
def test_fixed_steps_estimate_the_error_of_a_flow_with_kinks():
    flow = network(relu=True)
    y0 = flow.pack()
    options = {"points": 4, "method": "rk4", "solver_step": STEP / 10}
    result = continuous_vs_discrete(flow, y0, T, STEP, **options)
    error = float(flow.norm(result.trajectory.ys - midpoint(flow, y0, 4, STEP / 100)).max())
    assert result.trajectory.stats.rhs_evals == 4 * 200
    assert 0.3 * error < float(result.solver_error.max()) < 3 * error
    assert error < float(result.gap.max()) / 50


def test_error_that_is_not_measured_is_nan(linear):
    flow, _ = linear
    result = continuous_vs_discrete(flow, flow.pack(), T, STEP, points=2, estimate_error=False)
    assert result.solver_error.isnan().all()
    assert result.solver_error.shape == result.ts.shape


def test_reduced_flow_is_taken_at_its_parameters():
    flow, W = EndToEndFlow(make_loss("regression", 2, 3), depth=2), 0.3 * randn(2, 3)
    result = continuous_vs_discrete(flow, W, 1.0, 0.1, points=2)
    direct = continuous_vs_discrete(flow.parameter_flow, flow.lift(W), 1.0, 0.1, points=2)
    assert torch.equal(result.gap, direct.gap)
    assert torch.equal(result.travelled, direct.travelled)


def test_descent_that_diverges_ends_the_distances():
    flow = KernelFlow(torch.eye(1).double(), torch.ones(1).double())
    result = continuous_vs_discrete(flow, torch.zeros(1).double(), 6000.0, 3.0, points=2000)
    assert result.diverged_at is not None
    assert len(result.ts) == len(result.gap) == len(result.solver_error) < 2001
    assert torch.isfinite(result.gap).all()


@pytest.mark.parametrize("proxy", [1, 0, -3, 2.5])
def test_proxy_must_be_a_whole_number_of_at_least_2(proxy, linear):
    flow, _ = linear
    with pytest.raises(InputError, match=f"proxy must be a whole number .* got {proxy}"):
        continuous_vs_discrete(flow, flow.pack(), T, STEP, proxy=proxy)


def test_several_starts_are_refused(linear):
    flow, _ = linear
    with pytest.raises(InputError, match="takes one start, got an ensemble"):
        continuous_vs_discrete(flow, torch.stack([flow.pack()] * 2), T, STEP)
