import math

import pytest
import torch

import gflow
from gflow.descent import descend_to
from gflow.errors import InputError
from gflow.flows import KernelFlow
from tests.helpers import flow_classes, make_loss, of_rank, randn, relative, times, worst_relative

ONE = KernelFlow(torch.ones(1, 1, dtype=torch.float64), times(1.0))
ZERO = torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize("kind", flow_classes(), ids=lambda c: c.__name__)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_iterates_are_gradient_descent_by_autograd(kind, momentum):
    flow, y0 = kind.example()
    inner, eta = flow.parameter_flow, 0.01
    gd = gflow.descend(flow, y0, eta, 6, momentum=momentum)
    theta = flow.lift(y0)
    velocity = torch.zeros_like(theta)
    for k in range(7):
        assert relative(gd.parameters[k], theta) <= 1e-13
        assert relative(gd.ys[k], flow.project(theta)) <= 1e-13
        velocity = momentum * velocity + eta * inner.reference(theta)
        theta = theta + velocity
    assert gd.steps.tolist() == list(range(7))
    assert relative(gd.ts, torch.arange(7).double() * eta / (1 - momentum)) <= 1e-15
    assert torch.equal(gd.losses, flow.loss(gd.ys))
    assert gd.diverged_at is None


def test_torch_sgd_takes_the_same_steps():
    module = torch.nn.Linear(3, 1).double()
    X, Y = randn(6, 3), randn(6, 1, seed=1)
    flow = gflow.NetworkFlow(module, torch.nn.functional.mse_loss, X, Y)
    gd = gflow.descend(flow, flow.pack(), 0.05, 20, momentum=0.8)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.8)
    for _ in range(20):
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(module(X), Y).backward()
        optimiser.step()
    final = flow.pack({k: p.detach() for k, p in module.named_parameters()})
    assert relative(gd.parameters[-1], final) <= 1e-12


@pytest.mark.parametrize(
    ("steps", "every", "saved"),
    [(10, 3, [0, 3, 6, 9, 10]), (4, 2, [0, 2, 4]), (0, 1, [0]), (3, 100, [0, 3])],
)
def test_saved_steps(steps, every, saved):
    gd = gflow.descend(ONE, ZERO, 0.5, steps, save_every=every)
    assert gd.steps.tolist() == saved
    assert relative(gd.ys[:, 0], 1 - 0.5 ** torch.tensor(saved).double()) <= 1e-15


def test_chosen_steps():
    gd = descend_to(ONE, ZERO, 0.5, [2, 5])
    assert gd.steps.tolist() == [2, 5]
    assert gd.ts.tolist() == [1.0, 2.5]


def test_momentum_follows_the_faster_flow():
    flow = KernelFlow(torch.diag(times(1.0, 0.3)), times(1.0, -1.0))
    u0 = torch.zeros(2, dtype=torch.float64)
    gaps = []
    for eta in (1e-3, 5e-4):
        gd = gflow.descend(flow, u0, eta, round(0.5 / eta), momentum=0.5)
        assert float(gd.ts[-1]) == pytest.approx(1.0)
        gaps.append(float((gd.ys[-1] - flow.exact(gd.ts, u0)[-1]).norm()))
    assert gaps[0] / gaps[1] == pytest.approx(2.0, abs=0.05)


def test_ensemble_equals_its_members():
    flow = gflow.EndToEndFlow(make_loss("completion", 2, 3), 3)
    starts = torch.stack([of_rank(2, 2, 3, seed=s) for s in (0, 2)])
    batched = gflow.descend(flow, starts, 0.05, 20)
    for i in range(2):
        single = gflow.descend(flow, starts[i], 0.05, 20)
        assert worst_relative(batched.ys[:, i], single.ys) <= 1e-13


def test_progress_is_reported_at_the_last_step():
    calls, flow = [], KernelFlow(lambda v: v, ONE.targets)  # no closed form
    gflow.descend(flow, ZERO, 0.5, 120, progress=lambda t, loss: calls.append((t, loss)))
    assert [t for t, _ in calls] == [25.0, 50.0, 60.0]
    assert calls[-1][1] == float(ONE.loss(ONE.targets))
    calls.clear()
    gflow.descend(ONE, ZERO, 0.5, 120, progress=lambda t, loss: calls.append((t, loss)))
    assert calls == [(60.0, float(ONE.loss(ONE.targets)))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_size": 0.0}, "step_size must be a positive number, got 0.0"),
        ({"step_size": -1.0}, "step_size .*got -1.0"),
        ({"step_size": math.nan}, "step_size .*got nan"),
        ({"step_size": math.inf}, "step_size .*got inf"),
        ({"momentum": 1.0}, "momentum .*below 1, got 1.0"),
        ({"momentum": -0.1}, "momentum .*got -0.1"),
        ({"momentum": math.nan}, "momentum .*got nan"),
        ({"steps": -1}, "steps .*got -1"),
        ({"steps": 2.5}, "steps .*got 2.5"),
        ({"save_every": 0}, "save_every .*got 0"),
        ({"y0": torch.zeros(2).double()}, r"shape \(\.\.\., 1\), got \(2,\)"),
    ],
)
def test_input_errors(change, message):
    arguments = {"y0": ZERO, "step_size": 0.1, "steps": 2} | change
    with pytest.raises(InputError, match=message):
        gflow.descend(ONE, **arguments)
