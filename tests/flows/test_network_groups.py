"""Weight decay and time scales of `NetworkFlow`."""

import pytest
import torch
from torch import nn

import gflow
from gflow.errors import InputError
from tests.helpers import randn, relative

DECAY = {"0": 0.3, "2.weight": 0.05}
RATES = {"0": 3.0, "*.bias": 0.4}


def module_of(act=nn.Tanh, bias=True):
    torch.manual_seed(0)
    layers = [nn.Linear(3, 4, bias=bias), act(), nn.Linear(4, 2, bias=bias)]
    return nn.Sequential(*layers).double()


def flow_of(module=None, n=6, **keywords):
    module = module or module_of()
    return gflow.NetworkFlow(
        module, nn.functional.mse_loss, randn(n, 3, seed=1), randn(n, 2, seed=2), **keywords
    )


class Square(nn.Module):
    """Homogeneous of degree 2, without a kink."""

    def forward(self, x):
        return x.square()


class Closure(nn.Module):
    """Reached by a list: its parameters are overwritten, not substituted."""

    def __init__(self):
        super().__init__()
        self.inner = module_of()
        self.layers = [self.inner[0].weight, self.inner[2].weight]

    def forward(self, x):
        return torch.tanh(x @ self.layers[0].T) @ self.layers[1].T


def objective(module, decay):
    """½Σλ‖θ‖² and the loss by plain autograd on the module."""
    total = nn.functional.mse_loss(module(randn(6, 3, seed=1)), randn(6, 2, seed=2))
    for name, p in module.named_parameters():
        total = total + 0.5 * decay.get(name, 0.0) * p.square().sum()
    return total


EACH = {"0.weight": 0.3, "0.bias": 0.3, "2.weight": 0.05}
SCALES = {"0.weight": 3.0, "0.bias": 0.4, "2.weight": 1.0, "2.bias": 0.4}


@pytest.mark.parametrize("chunk", [None, 2])
def test_velocity_and_products_are_those_of_autograd(chunk):
    flow, module = flow_of(weight_decay=DECAY, rates=RATES, chunk=chunk), module_of()
    theta = flow.pack()
    loss = objective(module, EACH)
    parameters = dict(module.named_parameters())
    slopes = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    scales = [SCALES[name] for name in parameters]
    expected = torch.cat([-r * g.detach().flatten() for r, g in zip(scales, slopes, strict=True)])
    assert relative(flow.loss(theta), loss.detach()) <= 1e-14
    assert relative(flow(0.0, theta), expected) <= 1e-12
    assert relative(flow.reference(theta), expected) <= 1e-12
    v = flow.parameters_dict(randn(*theta.shape, seed=3))
    along = sum((v[name] * g).sum() for name, g in zip(parameters, slopes, strict=True))
    product = torch.autograd.grad(along, list(parameters.values()))
    product = torch.cat([-r * g.flatten() for r, g in zip(scales, product, strict=True)])
    v = flow.pack(v)
    for found in (flow.jvp(theta, v), flow.linearised(theta)(v)):
        assert relative(found, product) <= 1e-12
    velocity, acceleration = flow.velocity_and_acceleration(theta)
    assert relative(acceleration, flow.jvp(theta, velocity)) <= 1e-12
    ensemble = torch.stack([theta, 1.1 * theta])
    assert relative(flow(0.0, ensemble)[0], expected) <= 1e-12


def test_where_parameters_are_overwritten_weight_decay_is_the_same():
    module = Closure()
    decay, rates = {"inner.0.weight": 0.3}, {"inner.2": 2.0}
    flow = flow_of(module, weight_decay=decay, rates=rates)
    theta = flow.pack()
    objective(module, decay).backward()
    slopes = {
        k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in module.named_parameters()
    }
    slopes["inner.2.weight"] = 2 * slopes["inner.2.weight"]
    assert relative(flow(0.0, theta), -flow.pack(slopes)) <= 1e-12
    half = flow.jvp(theta, flow.pack({k: torch.ones_like(p) for k, p in slopes.items()}))
    far = 1e-6 * torch.ones_like(theta)
    difference = (flow(0.0, theta + far) - flow(0.0, theta - far)) / 2e-6
    assert relative(half, difference) <= 1e-8


def test_weight_decay_of_all_parameters_adds_half_the_square():
    plain, decaying = flow_of(), flow_of(weight_decay=0.7)
    theta = plain.pack()
    added = 0.35 * theta @ theta
    assert relative(decaying.loss(theta), plain.loss(theta) + added) <= 1e-14
    assert relative(decaying(0.0, theta), plain(0.0, theta) - 0.7 * theta) <= 1e-14


def test_one_time_scale_for_all_is_another_unit_of_time():
    fast, plain = flow_of(rates=2.0), flow_of()
    theta = plain.pack()
    sooner = gflow.integrate(fast, theta, [0.0, 2.0], rtol=1e-10, atol=1e-13)
    later = gflow.integrate(plain, theta, [0.0, 4.0], rtol=1e-10, atol=1e-13)
    assert sooner.certificate.holds
    assert relative(sooner.ys[-1], later.ys[-1]) <= 1e-8


# -- laws ----------------------------------------------------------------------------

KINDS = {"linear": (nn.Identity, False), "square": (Square, True)}


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        ("linear", {"0": 4.0, "2": 0.5}),
        ("square", None),
        pytest.param("square", {"0": 4.0, "2": 0.5}, marks=pytest.mark.slow),
    ],
)
def test_laws_decay_at_twice_the_rate_of_weight_decay(kind, rates):
    act, bias = KINDS[kind]
    # One rate rλ for the parameters of a law, so that the law is left.
    decay = 0.2 if rates is None else {"0": 0.05, "2.weight": 0.4}
    flow = flow_of(module_of(act, bias), weight_decay=decay, rates=rates)
    (law,) = flow.laws
    assert law.decay_rate == pytest.approx(0.4)
    path = gflow.integrate(flow, flow.pack(), [0.0, 0.5, 2.0], rtol=1e-11, atol=1e-14)
    values = flow.invariants(path.ys)[law.name]
    left = (-0.4 * path.ts).exp().reshape(-1, *[1] * (values.ndim - 1))
    assert float((values - left * values[0]).abs().max()) <= 1e-8 * float(values[0].abs().max())
    assert path.certificate.holds
    assert path.certificate.invariant_drift[law.name] <= 1e-8
    # Of the plain law, with other weights or without its decay, that is not true.
    plain = flow_of(module_of(act, bias)).invariants(path.ys)[law.name]
    assert float((plain - plain[0]).abs().max()) > 0.1 * float(plain[0].abs().max())


def test_a_law_whose_parts_decay_apart_is_left_out():
    assert flow_of(module_of(nn.ReLU), weight_decay={"*.weight": 0.1}).laws == ()
    assert flow_of(module_of(nn.ReLU), weight_decay=0.1, rates={"0": 2.0}).laws == ()
    assert len(flow_of(module_of(nn.ReLU), rates={"0": 2.0}).laws) == 1


class TooStrong(gflow.NetworkFlow):
    """Its velocity has a decay that is larger than that of its loss."""

    def loss_and_velocity(self, y):
        loss, velocity = super().loss_and_velocity(y)
        return loss, velocity - 1e-3 * y


def test_a_wrong_decay_shows_in_the_law():
    X, Y = randn(6, 3, seed=1), randn(6, 2, seed=2)
    module = module_of(Square)
    flow = TooStrong(module, nn.functional.mse_loss, X, Y, weight_decay=0.2)
    path = gflow.integrate(flow, flow.pack(), [0.0, 1.0, 4.0], rtol=1e-8, atol=1e-11)
    (drift,) = path.certificate.invariant_drift.values()
    assert drift > 10 * path.certificate.bounds["invariant_drift"]


def test_members_that_an_event_stops_decay_until_then():
    flow = flow_of(module_of(nn.Identity, False), weight_decay=0.2)
    starts = torch.stack([flow.pack(), 3 * flow.pack()])
    event = gflow.events.loss_reaches(flow, 0.9)
    path = gflow.integrate(
        flow, starts, torch.linspace(0.0, 20.0, 30).double(), rtol=1e-9, atol=1e-12, until=event
    )
    assert len(path.event_times) == 2
    assert max(path.certificate.invariant_drift.values()) < 1e-6


# -- descent beside the flow -----------------------------------------------------------


@pytest.mark.slow
def test_order_of_descent_and_of_the_modified_flow():
    flow = flow_of(weight_decay=DECAY, rates=RATES)
    sizes = [0.04, 0.02, 0.01]
    study = gflow.step_size_study(
        flow, flow.pack(), 0.4, sizes, modified=True, points=5, rtol=1e-8, atol=1e-11
    )
    assert study.trajectory.certificate.holds
    assert study.order == pytest.approx(1.0, abs=0.05)
    assert study.modified_order == pytest.approx(2.0, abs=0.1)
    assert all(path.certificate.holds for path in study.modified_trajectories)


def test_descent_scales_each_gradient():
    flow = flow_of(weight_decay=DECAY, rates=RATES)
    theta = flow.pack()
    plain = flow_of(weight_decay=DECAY)
    expected = theta + 0.1 * flow.parameter_rates * plain(0.0, theta)
    assert relative(gflow.descend(flow, theta, 0.1, 1).ys[-1], expected) <= 1e-15


def test_sharpness_is_that_of_descent_in_the_metric():
    flow = flow_of(weight_decay=DECAY, rates=RATES)
    theta = flow.pack()
    J = torch.autograd.functional.jacobian(lambda y: flow(0.0, y), theta)
    expected = float(torch.linalg.eigvals(-J).real.max())
    found = gflow.spectra.sharpness(flow, theta, tol=1e-7).values
    assert float(found[0]) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("order", [2, 3])
def test_the_modified_flow_knows_the_metric(order):
    flow = flow_of(weight_decay=DECAY, rates=RATES)
    modified = gflow.ModifiedFlow(flow, 0.1, order=order)
    theta = flow.pack()
    assert relative(modified(0.0, theta), modified.reference(theta)) <= 1e-12
    slope = torch.autograd.functional.jvp(modified.loss, theta, modified(0.0, theta))[1]
    assert relative(modified.dissipation(theta, modified(0.0, theta)), -slope) <= 1e-12


@pytest.mark.parametrize(
    "method", ["bdf", *(pytest.param(m, marks=pytest.mark.slow) for m in ("rkc2", "rock4"))]
)
def test_every_method_solves_a_flow_with_two_time_scales(method):
    flow = flow_of(weight_decay=0.01, rates={"0": 30.0})
    truth = gflow.integrate(flow, flow.pack(), [0.0, 1.0], "dop853", rtol=1e-9, atol=1e-12)
    path = gflow.integrate(flow, flow.pack(), [0.0, 1.0], method, rtol=1e-5, atol=1e-8)
    assert path.certificate.holds
    assert relative(path.ys[-1], truth.ys[-1]) <= 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flow_of(weight_decay=-1.0), "weight_decay must be a number of at least 0"),
        (lambda: flow_of(rates={"0": 0.0}), "rates of '0' must be a positive number, got 0.0"),
        (lambda: flow_of(rates={"5": 1.0}), "fits none of"),
        (lambda: gflow.CentralFlow(flow_of(rates={"0": 2.0}), 0.1), "one time scale"),
    ],
)
def test_errors_name_what_is_wrong(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_normalised_flow_takes_the_criterion_alone():
    module = nn.Linear(3, 1).double()
    X, labels = randn(6, 3, seed=1), torch.tensor([0, 1, 0, 1, 1, 0])
    flow = gflow.NetworkFlow(module, "logistic", X, labels, weight_decay=0.1)
    with pytest.raises(InputError, match="without weight_decay, penalty and rates"):
        gflow.NormalisedFlow(flow)
