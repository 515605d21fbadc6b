import pytest
import torch
from torch import nn

import gflow
from gflow.errors import InputError
from gflow.flows import NetworkFlow, gradient_rhs
from gflow.losses import LinearRegression
from tests.helpers import randn, relative


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
}


@pytest.mark.parametrize("name", MODULES)
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
    # The Hessian, column by column, against autograd's.
    H = torch.autograd.functional.hessian(flow.loss, theta)
    v = randn(len(theta), seed=9)
    assert relative(flow.jvp(theta, v), -H @ v) <= 1e-12


def test_tied_and_frozen_parameters_count_once_and_not():
    flow = NetworkFlow(Tied().double(), nn.functional.mse_loss, randn(5, 3), randn(5, 3))
    assert flow.state_shape == (9,)
    assert list(flow.parameters_dict(flow.pack())) == ["one.weight"]


def test_module_is_left_alone():
    module = tanh_network()
    before = {k: p.clone() for k, p in module.state_dict().items()}
    flow = NetworkFlow(module, nn.functional.mse_loss, randn(5, 3), randn(5, 2))
    theta = flow.pack()
    gflow.integrate(flow, theta, [0.0, 1.0], rtol=1e-4)
    gflow.descend(flow, theta, 0.1, 5)
    assert all(torch.equal(before[k], p) for k, p in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


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
    ],
)
def test_input_errors(module, message):
    with pytest.raises(InputError, match=message):
        NetworkFlow(module, nn.functional.mse_loss, randn(5, 3), randn(5, 2))


def test_dropout_and_batch_norm_in_evaluation_mode():
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)).double().eval()
    flow = NetworkFlow(module, nn.functional.mse_loss, randn(5, 3), randn(5, 2))
    theta = flow.pack()
    assert relative(flow(0.0, theta), flow.reference(theta)) <= 1e-14


def test_the_start_is_the_modules_when_the_flow_was_made():
    module = torch.nn.Linear(2, 1).double()
    flow = NetworkFlow(module, torch.nn.functional.mse_loss, randn(3, 2), randn(3, 1))
    before = flow.pack().clone()
    with torch.no_grad():
        module.weight.add_(5)
    assert torch.equal(flow.pack(), before)
