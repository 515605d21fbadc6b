import pytest
import torch
from torch import nn
from torch.func import functional_call

import gflow
from gflow.errors import InputError
from gflow.flows import NetworkFlow, gradient_rhs
from gflow.losses import LinearRegression
from tests.helpers import randn, relative, slow_except


def tanh_network():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3, bias=False)
        self.two = nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight
        self.scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)

    def forward(self, x):
        return self.scale * self.two(torch.tanh(self.one(x)))


class Scaled(nn.Module):
    """A buffer, and a parameter that is used twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("scale", torch.tensor([0.5, 2.0, -1.0]))

    def forward(self, x):
        return self.layer(torch.sin(self.layer(x * self.scale)))


def half_squares(outputs, targets):
    return 0.5 * (outputs - targets).square().sum()


MODULES = {
    "tanh": (tanh_network, nn.functional.mse_loss, randn(5, 2, seed=2)),
    "relu, cross-entropy": (
        lambda: nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4)).double(),
        nn.functional.cross_entropy,
        torch.tensor([0, 1, 2, 3, 1]),
    ),
    "tied": (lambda: Tied().double(), nn.functional.mse_loss, randn(5, 3, seed=2)),
    "layer norm": (
        lambda: nn.Sequential(
            nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 2)
        ).double(),
        nn.functional.smooth_l1_loss,
        randn(5, 2, seed=2),
    ),
    "buffer": (lambda: Scaled().double(), half_squares, randn(5, 3, seed=2)),
    "conv": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 2, 2), nn.SiLU(), nn.Flatten(), nn.Linear(4, 2)
        ).double(),
        nn.functional.mse_loss,
        randn(5, 2, seed=2),
    ),
}
each_module = pytest.mark.parametrize("name", MODULES)


@each_module
def test_velocity_is_autograd_of_the_module(name):
    build, criterion, targets = MODULES[name]
    module, X = build(), randn(5, 3, seed=1)
    flow = NetworkFlow(module, criterion, X, targets)
    theta = flow.pack()
    criterion(module(X), targets).backward()
    grads = {k: p.grad for k, p in module.named_parameters() if p.requires_grad}
    assert relative(flow(0.0, theta), -flow.pack(grads)) <= 1e-12
    assert relative(flow.loss(theta), criterion(module(X), targets).detach()) <= 1e-14
    assert relative(flow.end_to_end(theta), module(X).detach()) <= 1e-14
    value, velocity = flow.loss_and_velocity(theta)
    assert torch.equal(value, flow.loss(theta))
    assert torch.equal(velocity, flow(0.0, theta))


@each_module
def test_products_are_those_of_autograds_hessian(name):
    build, criterion, targets = MODULES[name]
    module, X = build(), randn(5, 3, seed=1)
    flow = NetworkFlow(module, criterion, X, targets)
    theta = flow.pack()

    def objective(vector):
        return criterion(functional_call(module, flow.parameters_dict(vector), (X,)), targets)

    H = torch.autograd.functional.hessian(objective, theta)
    columns = torch.stack([flow.jvp(theta, e) for e in torch.eye(len(theta)).double()])
    assert relative(columns, -H) <= 1e-12
    product = flow.linearised(theta)
    assert relative(torch.stack([product(e) for e in torch.eye(len(theta)).double()]), -H) <= 1e-12
    velocity, acceleration = flow.velocity_and_acceleration(theta)
    assert relative(velocity, flow(0.0, theta)) <= 1e-14
    assert relative(acceleration, -H @ velocity) <= 1e-12
    # Inside a transform of torch.func, and differentiated by torch.autograd from outside.
    assert relative(torch.func.jacrev(lambda y: flow(0.0, y))(theta), -H) <= 1e-12
    loop = torch.autograd.functional.jacobian(lambda y: flow(0.0, y), theta)
    assert relative(loop, -H) <= 1e-12


@each_module
@pytest.mark.parametrize("chunk", slow_except([1, 2, 3, 5, 99], 2, 99))
def test_chunks_change_results_by_round_off_only(name, chunk):
    build, criterion, targets = MODULES[name]
    module, X = build(), randn(5, 3, seed=1)
    full_batch = NetworkFlow(module, criterion, X, targets)
    flow = NetworkFlow(module, criterion, X, targets, chunk=chunk)
    theta, v = full_batch.pack(), randn(full_batch.state_shape[0], seed=7)
    ensemble = torch.stack([theta, 1.1 * theta])[None]
    for y, direction in ((theta, v), (ensemble, torch.stack([v, -v])[None])):
        pairs = {
            "velocity": (flow(0.0, y), full_batch(0.0, y)),
            "loss": (flow.loss(y), full_batch.loss(y)),
            "outputs": (flow.end_to_end(y), full_batch.end_to_end(y)),
            "product": (flow.jvp(y, direction), full_batch.jvp(y, direction)),
            "linearised": (flow.linearised(y)(direction), full_batch.linearised(y)(direction)),
            "acceleration": [f.velocity_and_acceleration(y)[1] for f in (flow, full_batch)],
            "reference": (flow.reference(y), full_batch.reference(y)),
        }
        for quantity, (result, expected) in pairs.items():
            assert result.shape == expected.shape, quantity
            assert relative(result, expected) <= 1e-14, quantity
    assert torch.equal(flow(0.0, theta), flow(0.0, theta))


def test_tied_parameters_count_once_and_frozen_ones_do_not_count():
    flow = NetworkFlow(Tied().double(), nn.functional.mse_loss, randn(5, 3), randn(5, 3))
    assert flow.state_shape == (9,)
    assert list(flow.parameters_dict(flow.pack())) == ["one.weight"]


def layer_used_twice():
    layer = nn.Linear(3, 3).double()
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(3, 2).double())


@pytest.mark.parametrize("make", [tanh_network, layer_used_twice])
def test_the_module_is_not_changed(make):
    module = make()
    before = {k: p.clone() for k, p in module.state_dict().items()}
    own = list(module.parameters())
    flow = NetworkFlow(module, nn.functional.mse_loss, randn(5, 3), randn(5, 2))
    theta = flow.pack()
    gflow.integrate(flow, theta, [0.0, 1.0], rtol=1e-4)
    gflow.descend(flow, theta, 0.1, 5)
    assert all(torch.equal(before[k], p) for k, p in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert list(map(id, module.parameters())) == list(map(id, own))


def test_pack_and_parameters_dict_are_inverse():
    flow, theta = NetworkFlow.example()
    named = flow.parameters_dict(theta)
    assert [tuple(p.shape) for p in named.values()] == [(3, 2), (3,), (1, 3), (1,)]
    assert torch.equal(flow.pack(named), theta)
    ensemble = torch.stack([theta, 2 * theta])
    assert torch.equal(flow.pack(flow.parameters_dict(ensemble)), ensemble)
    with pytest.raises(InputError, match=r"parameters must be .*got \['x'\]"):
        flow.pack({"x": theta})


def test_scalar_parameters():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, x):
            return self.a * x

    flow = NetworkFlow(Scale(), nn.functional.mse_loss, randn(4), randn(4, seed=1))
    theta = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    assert torch.equal(flow.pack(flow.parameters_dict(theta)), theta)
    assert relative(flow(0.0, theta), flow.reference(theta)) <= 1e-14


def test_linear_module_equals_the_layer_wise_flow():
    X, Y = randn(8, 3, seed=1), randn(8, 2, seed=2)
    dims = [3, 4, 2]
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)).double()
    half_mse = lambda out, y: 0.5 * (out - y).square().sum() / len(y)  # noqa: E731
    network = NetworkFlow(module, half_mse, X, Y)
    layers = gflow.LayerwiseFlow(LinearRegression(X, Y), dims)
    theta = network.pack()
    assert relative(network(0.0, theta), layers(0.0, theta)) <= 1e-13
    assert relative(network.loss(theta), layers.loss(theta)) <= 1e-13


def test_gradient_rhs_of_any_objective():
    A = randn(3, 3)
    objective = lambda x: 0.5 * x @ A @ A.mT @ x  # noqa: E731
    x = randn(2, 3, seed=4)
    assert relative(gradient_rhs(objective, x), -x @ A @ A.mT) <= 1e-14
    assert relative(gradient_rhs(objective, x[0]), -A @ A.mT @ x[0]) <= 1e-14


def _frozen():
    module = tanh_network()
    for p in module.parameters():
        p.requires_grad_(False)
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (_frozen(), "no trainable parameter"),
        (nn.Sequential(nn.Linear(3, 2).double(), nn.Linear(2, 2)), "one dtype, got .*32, .*64"),
        (nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).double(), "Dropout '1' in training mode"),
        (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double(), "BatchNorm1d '1'"),
        (nn.Sequential(nn.LSTM(3, 2, 2, dropout=0.5)).double(), "LSTM '0' in training mode"),
    ],
)
def test_input_errors(module, message):
    with pytest.raises(InputError, match=message):
        NetworkFlow(module, nn.functional.mse_loss, randn(5, 3), randn(5, 2))


def test_a_criterion_returns_one_number():
    def make(**options):
        per_sample = lambda u, y: (u - y).square().sum(1)  # noqa: E731
        return NetworkFlow(tanh_network(), per_sample, randn(5, 3), randn(5, 2), **options)

    for options in ({}, {"chunk": 2}):
        with pytest.raises(InputError, match=r"criterion must return one number, got shape"):
            make(**options)


def test_dropout_and_batch_norm_in_evaluation_mode():
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)).double().eval()
    flow = NetworkFlow(module, nn.functional.mse_loss, randn(5, 3), randn(5, 2))
    theta = flow.pack()
    assert relative(flow(0.0, theta), flow.reference(theta)) <= 1e-14


def test_the_start_is_that_of_the_module_at_construction():
    module = torch.nn.Linear(2, 1).double()
    flow = NetworkFlow(module, torch.nn.functional.mse_loss, randn(3, 2), randn(3, 1))
    before = flow.pack().clone()
    with torch.no_grad():
        module.weight.add_(5)
    assert torch.equal(flow.pack(), before)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(1, 3, batch_first=True)

    def forward(self, x):
        return self.cell(x[..., None])[0][:, -1]


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        out = self.layer(x)
        return torch.tanh(out) if out.sum().item() > -1e9 else out


@pytest.mark.parametrize("build", [Recurrent, Branching])
def test_modules_that_vmap_cannot_handle_are_evaluated_one_by_one(build):
    flow = NetworkFlow(build().double(), half_squares, randn(5, 3), randn(5, 3, seed=1))
    theta, v = flow.pack(), randn(flow.state_shape[0])
    ys = torch.stack([theta, -theta, 1.1 * theta])
    for function in (
        flow.loss,
        flow.end_to_end,
        flow.reference,
        lambda y: flow(0.0, y),
        lambda y: flow.velocity_and_acceleration(y)[1],
        lambda y: flow.jvp(y, v.expand_as(y)),
    ):
        assert relative(function(ys), torch.stack([function(y) for y in ys])) <= 1e-14
    path = gflow.integrate(flow, theta, [0.0, 0.5], rtol=1e-6)
    assert path.certificate.holds, path.certificate


def test_an_affine_loss_has_no_curvature():
    flow = NetworkFlow(
        nn.Linear(3, 1).double(), lambda u, y: (u * y).sum(), randn(5, 3), randn(5, 1)
    )
    theta = flow.pack()
    assert not flow.jvp(theta, theta).any()
    assert not flow.linearised(theta)(theta).any()
    assert not flow.velocity_and_acceleration(theta)[1].any()
