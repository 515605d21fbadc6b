"""The closed forms of a two-layer ReLU network against automatic differentiation of a module."""

import math

import pytest
import torch
from torch import nn

from gflow.errors import InputError
from gflow.flows import NetworkFlow, TwoLayerFlow, two_layer_gram, two_layer_outputs, two_layer_rhs
from gflow.kernels import two_layer_relu_gram
from tests.helpers import randn, relative

N, D = 7, 4
X = nn.functional.normalize(randn(N, D), dim=1)


class Module(nn.Module):
    """The network's formula as a module."""

    def __init__(self, W, a):
        super().__init__()
        self.W, self.a = nn.Parameter(W.clone()), a

    def forward(self, x):
        total = 0
        for w, a in zip(self.W, self.a, strict=True):
            total = total + torch.relu(x @ w)[:, None] * a
        return total / math.sqrt(len(self.a))


def signs(*shape, seed=7):
    return torch.sign(randn(*shape, seed=seed))


def half_squared_error(u, y):
    return 0.5 * (u - y).square().sum()


@pytest.mark.parametrize("m", [1, 5, 60])
@pytest.mark.parametrize("k", [1, 3])
def test_outputs_velocity_and_kernel_are_those_of_the_module(m, k):
    W, a, y = randn(m, D, seed=1), signs(m, k), randn(N, k, seed=2)
    module = Module(W, a)
    network = NetworkFlow(module, half_squared_error, X, y)
    theta = network.pack()
    assert relative(two_layer_outputs(W, a, X), network.end_to_end(theta)) <= 1e-14
    velocity = network(0.0, theta).reshape(m, D)
    assert relative(two_layer_rhs(W, a, X, y), velocity) <= 1e-12
    flat = module(X).flatten()
    J = torch.stack(
        [torch.autograd.grad(u, module.W, retain_graph=True)[0].flatten() for u in flat]
    )
    assert relative(two_layer_gram(W, a, X), J @ J.mT) <= 1e-13
    flow, v = TwoLayerFlow(X, y, a), randn(m, D, seed=3)
    assert relative(flow.jvp(W, v).flatten(), network.jvp(theta, v.flatten())) <= 1e-12


@pytest.mark.parametrize("m", [3, 1024, 2500])
def test_results_do_not_depend_on_blocks_of_neurons_and_members(m):
    y, W, a = randn(N, seed=2), randn(3, m, D, seed=1), signs(3, m)
    flow = TwoLayerFlow(X, y, a)
    result = flow(0.0, W)
    for i in range(3):
        pull = (y - flow.outputs(W, X)[i])[:, None] * a[i]
        by_hand = ((X @ W[i].mT > 0) * pull).mT @ X / math.sqrt(m)
        assert relative(result[i], by_hand) <= 1e-13


def test_each_member_has_its_own_signs():
    y, W, a = randn(N, 2, seed=2), randn(4, 5, D, seed=1), signs(4, 5, 2)
    flow = TwoLayerFlow(X, y, a)
    selected = flow.for_members(torch.tensor([2, 0]))
    for i, j in enumerate([2, 0]):
        single = TwoLayerFlow(X, y, a[j])
        assert single.for_members(torch.tensor([0])) is single
        for name in ("loss", "end_to_end", "gram"):
            values = getattr(selected, name)(W[[2, 0]])[i]
            assert relative(values, getattr(single, name)(W[j])) <= 1e-14
        assert relative(selected(0.0, W[[2, 0]])[i], single(0.0, W[j])) <= 1e-14
    path = torch.stack([W, 2 * W])  # times before members
    assert relative(flow(0.0, path)[1], flow(0.0, 2 * W)) <= 1e-14


def test_kernel_drives_the_outputs():
    y, W, a = randn(N, seed=2), randn(9, D, seed=1), signs(9)
    flow = TwoLayerFlow(X, y, a)
    h = 1e-7
    moved = (flow.end_to_end(W + h * flow(0.0, W)) - flow.end_to_end(W)) / h
    assert relative(moved, -flow.gram(W) @ (flow.end_to_end(W) - y)) <= 1e-8


@pytest.mark.parametrize("k", [1, 2])
def test_kernel_tends_to_the_limit_at_the_rate_of_sampling(k):
    limit = torch.kron(two_layer_relu_gram(X), torch.eye(k).double())

    def distance_to_limit(m):
        grams = [
            two_layer_gram(randn(m, D, seed=10 + s), signs(m, k, seed=90 + s), X) for s in range(8)
        ]
        return math.sqrt(sum(float((gram - limit).norm()) ** 2 for gram in grams) / len(grams))

    assert math.log(distance_to_limit(6400) / distance_to_limit(100)) / math.log(
        64
    ) == pytest.approx(-0.5, abs=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": X[0]}, r"inputs must have shape \(n, d\)"),
        ({"targets": torch.zeros(N + 1).double()}, "and targets"),
        ({"signs": signs(5, 2)[0, 0]}, r"signs must have shape \(\.\.\., m\)"),
        ({"targets": torch.zeros(N, 3).double()}, r"signs must have shape \(\.\.\., m, 3\)"),
        ({"signs": torch.ones(5, dtype=torch.int64)}, "signs must be a floating-point tensor"),
        ({"signs": [1.0]}, "signs must be a floating-point tensor, got list"),
        ({"inputs": math.nan * X}, "inputs"),
    ],
)
def test_input_errors(change, message):
    good = {"inputs": X, "targets": torch.zeros(N).double(), "signs": signs(5)}
    with pytest.raises(InputError, match=message):
        TwoLayerFlow(**(good | change))
