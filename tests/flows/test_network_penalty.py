"""A penalty of the user's in the loss of `NetworkFlow`."""

import pytest
import torch
from torch import nn

import gflow
from gflow.errors import InputError
from tests.flows.test_network_groups import Closure, flow_of, module_of
from tests.helpers import randn, relative


def quartic(q):
    """Smooth, couples two parameters, and has a full Hessian."""
    return 0.1 * (q["0.weight"] ** 4).sum() + 0.2 * (q["2.weight"] @ q["0.weight"]).square().sum()


def nuclear(q):
    return torch.linalg.svdvals(q["0.weight"]).sum()


def objective(module, penalty):
    loss = nn.functional.mse_loss(module(randn(6, 3, seed=1)), randn(6, 2, seed=2))
    return loss + penalty(dict(module.named_parameters()))


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("penalty", [quartic, nuclear])
def test_loss_gradient_and_products_are_those_of_autograd(penalty, chunk):
    module = module_of()
    flow = flow_of(penalty=penalty, weight_decay={"0": 0.3}, chunk=chunk)
    theta, v = flow.pack(), randn(*flow.state_shape, seed=3)
    decay = 0.15 * sum(p.square().sum() for p in module[0].parameters())
    loss = objective(module, penalty) + decay
    parameters = list(module.parameters())
    slopes = torch.autograd.grad(loss, parameters, create_graph=True)
    gradient = torch.cat([g.flatten() for g in slopes])
    product = torch.autograd.grad(gradient @ v, parameters)
    product = torch.cat([g.flatten() for g in product])
    assert relative(flow.loss(theta), loss.detach()) <= 1e-14
    assert relative(-flow(0.0, theta), gradient.detach()) <= 1e-12
    assert relative(-flow.reference(theta), gradient.detach()) <= 1e-12
    assert relative(-flow.jvp(theta, v), product) <= 1e-12
    assert relative(-flow.linearised(theta)(v), product) <= 1e-12
    ensemble = torch.stack([theta, 1.1 * theta])
    assert relative(flow(0.0, ensemble)[0], -gradient.detach()) <= 1e-12
    seen = flow.observables(ensemble)
    alone = penalty(dict(module.named_parameters())).detach()
    assert relative(seen["penalty"][0], alone) <= 1e-14
    assert relative(seen["criterion_loss"][0], objective(module, lambda q: 0.0).detach()) <= 1e-13


def test_where_parameters_are_overwritten_it_is_the_same():
    def penalty(q):
        return (q["inner.0.weight"] ** 4).sum() + q["inner.2.weight"].square().sum()

    module = Closure()
    flow, theta = flow_of(module, penalty=penalty), flow_of(module).pack()
    loss = objective(module, penalty)
    slopes = torch.autograd.grad(loss, list(module.parameters()), materialize_grads=True)
    expected = -torch.cat([g.flatten() for g in slopes])
    assert relative(flow(0.0, theta), expected) <= 1e-12


def test_a_penalty_that_differentiates_inside():
    points = randn(4, 3, seed=8)

    def slope(q):  # ‖∂u/∂x‖², by autograd
        x = points.clone().requires_grad_()
        u = torch.tanh(x @ q["0.weight"].T + q["0.bias"]) @ q["2.weight"].T
        (g,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return g.square().mean()

    flow = flow_of(penalty=slope, weight_decay=0.1)
    theta = flow.pack()
    expected = torch.autograd.grad(
        objective(module := module_of(), slope), list(module.parameters())
    )
    expected = torch.cat([g.flatten() for g in expected]) + 0.1 * theta
    assert relative(-flow(0.0, theta), expected) <= 1e-12
    with torch.no_grad():
        assert float(flow.loss(theta)) == pytest.approx(float(flow.loss_and_velocity(theta)[0]))
    assert float(flow.observables(theta)["penalty"]) > 0
    path = gflow.integrate(flow, theta, [0.0, 1.0])
    assert path.certificate.holds


@pytest.mark.slow
def test_order_of_descent_and_certificate():
    flow = flow_of(penalty=quartic)
    study = gflow.step_size_study(
        flow, flow.pack(), 0.4, [0.04, 0.02, 0.01], modified=True, points=5, rtol=1e-8, atol=1e-11
    )
    assert study.trajectory.certificate.holds
    assert study.order == pytest.approx(1.0, abs=0.05)
    assert study.modified_order == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("chunk", [None, 2])
def test_a_criterion_far_below_the_penalty_keeps_its_digits(chunk):
    module = nn.Linear(2, 1, bias=False).double()
    X, y = randn(4, 2, seed=1), torch.tensor([1e-9, 1e3]).double()
    flow = gflow.NetworkFlow(
        module, nn.functional.mse_loss, X, X[:, 1:] * 1e3, weight_decay=1.0, chunk=chunk,
        penalty=lambda q: q["weight"].square().sum(),
    )  # fmt: skip
    expected = 1e-18 * float(X[:, 0].square().mean())
    assert float(flow.observables(y)["criterion_loss"]) == pytest.approx(expected, rel=1e-3)
    leaf = torch.stack([y, 2 * y]).requires_grad_()
    assert bool(torch.autograd.grad(flow.criterion_loss(leaf).sum(), leaf)[0][1].norm() > 0)


def test_half_the_square_is_weight_decay():
    def half(q):
        return 0.35 * sum(p.square().sum() for p in q.values())

    penalised, decaying = flow_of(penalty=half), flow_of(weight_decay=0.7)
    theta, v = decaying.pack(), randn(*decaying.state_shape, seed=3)
    assert relative(penalised(0.0, theta), decaying(0.0, theta)) <= 1e-14
    assert relative(penalised.jvp(theta, v), decaying.jvp(theta, v)) <= 1e-14
    paths = [gflow.integrate(f, theta, [0.0, 3.0]).ys for f in (penalised, decaying)]
    assert relative(*paths) <= 1e-6


# -- laws ----------------------------------------------------------------------------


def linear_flow(**keywords):
    return flow_of(module_of(nn.Identity, bias=False), **keywords)


@pytest.mark.parametrize(
    ("penalty", "kept"),
    [
        (lambda q: (q["2.weight"] @ q["0.weight"]).norm() ** 4, 1),  # of the product alone
        (lambda q: (q["0.weight"] ** 4).sum(), 0),
        (lambda q: torch.relu(q["2.weight"].norm() - 20.0), 0),  # begins far from the start
        (lambda q: 1e-9 * q["2.weight"].square().sum(), 0),  # however small
    ],
)
def test_laws_are_those_that_the_penalty_leaves(penalty, kept):
    flow = linear_flow(penalty=penalty, rates={"0": 2.0})
    assert len(flow.laws) == kept
    path = gflow.integrate(flow, flow.pack(), [0.0, 1.0], rtol=1e-9, atol=1e-12)
    assert len(path.certificate.invariant_drift) == kept
    assert path.certificate.holds


def test_a_penalty_without_a_value_far_away_has_laws_where_it_has_one():
    def penalty(q):  # of the product alone, below a size
        size = (q["2.weight"] @ q["0.weight"]).square().sum()
        return torch.linalg.cholesky((1 - 1e-4 * size) * torch.eye(2).double()).sum()

    assert len(linear_flow(penalty=penalty).laws) == 1


def test_laws_under_weight_decay_and_a_penalty():
    flow = linear_flow(penalty=lambda q: (q["2.weight"] @ q["0.weight"]).norm(), weight_decay=0.2)
    path = gflow.integrate(flow, flow.pack(), [0.0, 2.0], rtol=1e-11, atol=1e-14)
    (law,) = flow.laws
    first, last = flow.invariants(path.ys)[law.name]
    assert relative(last, torch.exp(torch.tensor(-0.8)).double() * first) <= 1e-7
    assert path.certificate.holds


# -- errors --------------------------------------------------------------------------


class WrongSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.square().sum()

    @staticmethod
    def backward(ctx, g):
        return g * torch.ones(4, 3, dtype=torch.float64)


class OnceOnly(torch.autograd.Function):
    """Its second derivative is 0 to autograd."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square().sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


def test_without_a_second_derivative_products_are_differences():
    flow = flow_of(penalty=lambda q: OnceOnly.apply(q["0.weight"]))
    plain = flow_of(penalty=lambda q: q["0.weight"].square().sum())
    theta, v = flow.pack(), randn(*flow.state_shape, seed=3)
    assert relative(flow.jvp(theta, v), plain.jvp(theta, v)) <= 1e-8


def in_place(q):
    q["0.weight"].data.mul_(1.1)
    return q["0.weight"].square().sum()


OWN = module_of()


def ball(q):
    """Has values close to the start alone."""
    return torch.log(1e-9 - (q["0.weight"] - OWN[0].weight.detach()).square().sum())


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (3.0, r"penalty must be a function, called as penalty\(parameters\), got 3.0"),
        (lambda q: q["0.weight"].abs(), r"must return a scalar tensor, got .*\(4, 3\).*; sum it"),
        (lambda q: 1.0, "must return a scalar tensor, got 1.0; use torch"),
        (lambda q: q["0.weight"].norm().float(), "dtype and device of the parameters"),
        (lambda q: q["0.weight"].sum() / 0.0, "penalty must be finite"),
        (lambda q: q["0.weight"].norm().detach(), "penalty must be differentiable"),
        (lambda q: OWN[0].weight.norm(), "parameters that it is given"),
        (lambda q: torch.rand(()).double() * q["0.weight"].norm(), "two calls differ"),
        (lambda q: (0 * q["0.weight"]).square().sum().sqrt(), "gradient of penalty must be finite"),
        (ball, "penalty must be finite near the module's parameters, got nan"),
        (lambda q: WrongSlope.apply(q["0.weight"]), "of the penalty: the gradient must be"),
        (lambda q: q["5.weight"].norm(), "KeyError"),
        (in_place, "must not change the parameters"),
        (lambda q, r: q["0.weight"].norm(), "penalty must be a function, called as"),
    ],
)
def test_errors_are_one_line(penalty, message):
    with pytest.raises(InputError, match=message) as caught:
        flow_of(penalty=penalty)
    assert "\n" not in str(caught.value)


def test_a_measure_of_the_penalty_needs_one():
    with pytest.raises(InputError, match="measure penalty needs a penalty"):
        flow_of(measure="penalty")
