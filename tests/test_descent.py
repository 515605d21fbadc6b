import math

import pytest
import torch

import gflow
from gflow.descent import descend_measured, descend_to
from gflow.errors import InputError
from gflow.flows import FactorFlow, KernelFlow
from gflow.losses import SquaredDistance
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


@pytest.mark.parametrize("eta", [2.1, 2.5, 10.0])
def test_divergence_is_reported(eta):
    gd = gflow.descend(ONE, ZERO, eta, 5000, save_every=50)
    assert gd.diverged_at == 0  # |1 − η| > 1: it grows from the first step
    assert torch.isfinite(gd.ys).all()
    assert "DIVERGED from step 0" in repr(gd)
    assert int(gd.steps[-1]) < 5000


def test_divergence_names_the_step_it_began_at():
    # Starts near 0, where the curvature is small; near the minimum 2/λ_max is exceeded.
    flow = FactorFlow(make_loss("distance", 3, 3))
    U0 = 0.01 * of_rank(3, 3, 3)
    gd = gflow.descend(flow, U0, 0.6, 400, save_every=10)
    speeds = []
    theta = U0
    for _ in range(400):
        rate = flow(0.0, theta)
        speeds.append(float(rate.norm()))
        theta = theta + 0.6 * rate
        if not math.isfinite(speeds[-1]):
            break
    finite = [s for s in speeds if math.isfinite(s)]
    assert gd.diverged_at == finite.index(min(finite))


@pytest.mark.parametrize("eta", [0.1, 1.0, 1.9])
def test_stable_descent_is_not_called_divergent(eta):
    gd = gflow.descend(ONE, ZERO, eta, 500)
    assert gd.diverged_at is None
    assert relative(gd.ys[-1], ONE.targets) <= 1e-10


def test_stationary_start():
    gd = gflow.descend(ONE, ONE.targets, 0.5, 100)
    assert gd.diverged_at is None
    assert torch.equal(gd.ys, ONE.targets.expand_as(gd.ys))


def test_ensemble_equals_its_members():
    flow = gflow.EndToEndFlow(make_loss("completion", 2, 3), 3)
    starts = torch.stack([of_rank(2, 2, 3, seed=s) for s in (0, 2)])
    together = gflow.descend(flow, starts, 0.05, 20)
    for i in range(2):
        alone = gflow.descend(flow, starts[i], 0.05, 20)
        assert worst_relative(together.ys[:, i], alone.ys) <= 1e-13


def test_progress_sees_the_last_step():
    seen = []
    gflow.descend(ONE, ZERO, 0.5, 120, progress=lambda t, loss: seen.append((t, loss)))
    assert [t for t, _ in seen] == [25.0, 50.0, 60.0]
    assert seen[-1][1] == float(ONE.loss(ONE.targets))


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
        ({"save_every": 0}, "save_every .*and 0"),
        ({"y0": torch.zeros(2).double()}, r"shape \(\.\.\., 1\), got \(2,\)"),
    ],
)
def test_input_errors(change, message):
    arguments = {"y0": ZERO, "step_size": 0.1, "steps": 2} | change
    with pytest.raises(InputError, match=message):
        gflow.descend(ONE, **arguments)


def test_growth_from_a_saddle_is_no_divergence():
    flow = gflow.FactorFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)))
    gd = gflow.descend(flow, 1e-13 * torch.eye(2, dtype=torch.float64), 0.1, 600)
    assert gd.diverged_at is None
    assert float(gd.losses[-1]) < 1e-12


def test_slow_divergence_is_told():
    flow = gflow.KernelFlow(torch.eye(1, dtype=torch.float64), torch.ones(1).double())
    gd = gflow.descend(flow, torch.zeros(1).double(), 2.2, 100)  # the limit is 2
    assert gd.diverged_at == 0
    assert "DIVERGED" in repr(gd)


def test_measured_descent_sees_the_same_states_and_leaves_the_start_alone():
    flow = KernelFlow(torch.diag(times(1.0, 0.25)), times(1.0, 2.0))
    start = randn(3, 2)
    before = start.clone()
    gd = gflow.descend(flow, start, 0.5, 6, save_every=2)
    found = descend_measured(flow, start, 0.5, [0, 2, 4, 6], lambda k, y: {"y": 1 * y})
    assert torch.equal(start, before)
    assert found.diverged_at == [None] * 3
    assert found.steps == gd.steps.tolist()
    assert torch.equal(found.values["y"], gd.ys)


def test_measured_descent_names_the_members_that_diverge_and_goes_on_with_the_others():
    flow = KernelFlow(torch.diag(times(4.0, 1.0)), times(0.0, 0.0))
    starts = torch.stack([times(0.0, 1.0), times(1.0, 1.0)])  # the first never meets the 4
    found = descend_measured(flow, starts, 0.6, [200], lambda k, y: {"y": 1 * y})
    assert found.diverged_at[0] is None
    assert isinstance(found.diverged_at[1], int)
    assert float(found.values["y"][0, 0].norm()) == pytest.approx(0.4**200, rel=1e-9)
