"""The backward pass of a stack of linear layers, against autograd on the module's parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from gflow.flows import NetworkFlow
from gflow.flows.objective.chunks import Chunk
from gflow.flows.objective.criteria import HalfSquaredError
from gflow.flows.objective.layer_products import LayeredHessian
from gflow.flows.objective.layers import _tanh, find_layers

X = torch.cos(torch.arange(21, dtype=torch.float64)).reshape(7, 3)
Y = torch.sin(torch.arange(14, dtype=torch.float64)).reshape(7, 2)


def stack(*activations: nn.Module, bias: bool = True, last: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(1)
    sizes = [3, *[5] * len(activations), 2]
    layers: list[nn.Module] = []
    for i, activation in enumerate([*activations, last]):
        layers.append(nn.Linear(sizes[i], sizes[i + 1], bias=bias))
        layers += [] if activation is None else [activation]
    return nn.Sequential(*layers).double()


def by_autograd(module: nn.Module, criterion, chunk: Chunk, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient at θ by plain autograd."""
    nn.utils.vector_to_parameters(theta, module.parameters())
    loss = chunk.weight * criterion(module(chunk.inputs), chunk.targets)
    slopes = torch.autograd.grad(loss, list(module.parameters()))
    return loss.detach(), torch.cat([slope.flatten() for slope in slopes])


MODULES = {
    "tanh": lambda: stack(nn.Tanh(), nn.Tanh()),
    "relu": lambda: stack(nn.ReLU(), nn.ReLU(), nn.ReLU()),
    "relu in place": lambda: stack(nn.ReLU(inplace=True)),
    "mixed": lambda: stack(nn.Sigmoid(), nn.Tanh(), nn.ReLU()),
    "deep linear": lambda: nn.Sequential(
        nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
    ).double(),
    "one layer": lambda: stack(),
    "no bias": lambda: stack(nn.Tanh(), nn.ReLU(), bias=False),
    "activation last": lambda: stack(nn.Tanh(), last=nn.Sigmoid()),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_value_and_gradient_are_those_of_autograd(name, weight):
    module, chunk = MODULES[name](), Chunk(X, Y, weight)
    layers = find_layers(module, mse_loss, list(module.parameters()), chunk)
    theta = 1.5 * nn.utils.parameters_to_vector(module.parameters()).detach() + 0.1
    parts = theta.split([p.numel() for p in module.parameters()])
    parts = [a.reshape(p.shape) for a, p in zip(parts, module.parameters(), strict=True)]
    loss, gradient = layers.value_and_gradient(chunk, parts)
    assert torch.equal(layers.value(chunk, parts), loss)
    expected_loss, expected = by_autograd(module, mse_loss, chunk, theta)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-15, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-14, atol=1e-16)


CRITERIA = {
    "mean square": mse_loss,
    "half square": HalfSquaredError(),
    "identity as curvature": lambda outputs, targets: 0.5 * (outputs - targets).square().sum(),
    "fourth power": lambda outputs, targets: (outputs - targets).pow(4).sum(),
    "affine": lambda outputs, targets: (outputs * targets).sum(),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_products_with_the_hessian_are_those_of_autograd(name, weight, criterion):
    module, chunk, criterion = MODULES[name](), Chunk(X, Y, weight), CRITERIA[criterion]
    own = list(module.parameters())
    layers = find_layers(module, criterion, own, chunk)
    at = LayeredHessian(layers, chunk, [p.detach() for p in own])
    slopes = torch.autograd.grad(
        weight * criterion(module(X), Y), own, create_graph=True, materialize_grads=True
    )
    gradient = torch.cat([slope.flatten() for slope in slopes])
    torch.testing.assert_close(at.gradient(), gradient.detach(), rtol=1e-14, atol=1e-16)
    for k in (1.0, 2.0):  # a product leaves no trace in the next one
        v = torch.cos(k * torch.arange(len(gradient), dtype=X.dtype))
        expected = torch.zeros_like(v)
        if gradient.requires_grad:
            parts = torch.autograd.grad(
                gradient @ v, own, retain_graph=True, materialize_grads=True
            )
            expected = torch.cat([part.flatten() for part in parts])
        torch.testing.assert_close(at.product(v), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("chunk", [None, 600])
def test_a_flow_takes_products_outputs_and_members_by_layers(chunk, monkeypatch):
    inputs = torch.cos(torch.arange(3 * 2000, dtype=torch.float64)).reshape(2000, 3)
    module = stack(nn.Tanh())
    flow = NetworkFlow(module, mse_loss, inputs, torch.sin(inputs[:, :2]), chunk=chunk)
    members = torch.stack([flow.start + 0.1, 2 * flow.start])
    along = torch.cos(torch.arange(members.numel(), dtype=members.dtype)).reshape(members.shape)
    seen = []
    monkeypatch.setattr(module, "forward", lambda *args: seen.append(args))
    by_layers = [
        flow.loss(members),
        flow(0.0, members),
        flow.jvp(members, along),
        flow.end_to_end(members),
        flow.end_to_end(members[0]),
        flow.linearised(members[0])(along[0]),
    ]
    assert not seen
    monkeypatch.undo()
    flow._loss.route.layers = None
    for found, expected in zip(
        by_layers,
        [
            flow.loss(members),
            flow(0.0, members),
            flow.jvp(members, along),
            flow.end_to_end(members),
            flow.end_to_end(members[0]),
            flow.jvp(members[0], along[0]),
        ],
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("size", [3, 600, 2**18])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_is_right_to_two_units_in_the_last_place(size, dtype):
    z = torch.linspace(-9, 9, size, dtype=dtype)
    z = torch.cat([z, torch.tensor([1e-300, torch.inf, -torch.inf, torch.nan], dtype=dtype)])
    expected = np.tanh(z.numpy().astype(np.longdouble)).astype(z.numpy().dtype)
    found = _tanh(z)
    assert found is z
    np.testing.assert_array_max_ulp(found.numpy(), expected, maxulp=2)


def test_a_flow_of_a_stack_is_evaluated_by_its_layers():
    labels = torch.arange(7) % 2
    flow = NetworkFlow(stack(nn.Tanh()), cross_entropy, X, labels)
    y = flow.start + 0.1
    assert flow._loss.route.layers is not None
    loss, velocity = flow.loss_and_velocity(y)
    assert not loss.requires_grad
    assert not velocity.requires_grad
    expected_loss, gradient = by_autograd(flow.module, cross_entropy, Chunk(X, labels, 1.0), y)
    torch.testing.assert_close(flow.loss(y), expected_loss)
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(velocity, -gradient)
    members = torch.stack([y, 2 * y])  # an ensemble has no backward pass of its own
    torch.testing.assert_close(flow(0.0, members)[0], velocity)


def test_who_differentiates_by_the_state_gets_the_graph():
    flow = NetworkFlow(stack(nn.Tanh()), mse_loss, X, Y)
    y = (flow.start + 0.1).requires_grad_()
    (gradient,) = torch.autograd.grad(flow.loss(y), y)
    torch.testing.assert_close(-gradient, flow(0.0, y.detach()))
    along = torch.cos(torch.arange(len(y), dtype=y.dtype))
    (product,) = torch.autograd.grad(flow(0.0, y) @ along, y)
    torch.testing.assert_close(product, flow.jvp(y.detach(), along))
    torch.testing.assert_close(torch.func.grad(flow.loss)(y.detach()), gradient)


class _Doubled(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


def _with_hook() -> nn.Module:
    module = stack(nn.Tanh())
    module[0].register_forward_hook(lambda layer, args, output: 2 * output)
    return module


def _frozen() -> nn.Module:
    module = stack(nn.Tanh())
    module[0].weight.requires_grad_(False)
    return module


def _tied() -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Tanh(), layer).double()


OTHERS = {
    "subclass": lambda: nn.Sequential(_Doubled(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(),
    "hook": _with_hook,
    "frozen": _frozen,
    "tied": _tied,
    "normalised": lambda: nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)).double(),
    "weight norm": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    ).double(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_plain_stack_is_left_to_autograd(name):
    module = OTHERS[name]()
    with torch.no_grad():
        targets = torch.sin(module(X))
    flow = NetworkFlow(module, mse_loss, X, targets)
    assert flow._loss.route.layers is None
    torch.testing.assert_close(flow(0.0, flow.start), flow.reference(flow.start))


def test_a_criterion_that_depends_on_parameters_is_left_to_autograd():
    module = stack(nn.Tanh())

    def penalised(outputs: Tensor, targets: Tensor) -> Tensor:
        return mse_loss(outputs, targets) + 1e-14 * module[0].weight.square().sum()

    assert NetworkFlow(module, penalised, X, Y)._loss.route.layers is None


def in_place(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.sub_(targets).square().mean()


def of_slopes(outputs: Tensor, targets: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(outputs.square().sum(), outputs, create_graph=True)
    return mse_loss(slope, targets)


@pytest.mark.parametrize("criterion", [in_place, of_slopes])
def test_criteria_that_need_the_graph_are_left_to_autograd(criterion):
    flow = NetworkFlow(stack(nn.Tanh()), criterion, X, Y)
    assert flow._loss.route.layers is None
    y = flow.start + 0.1
    torch.testing.assert_close(flow(0.0, y), flow.reference(y))


def test_hooks_and_layers_that_come_later_are_seen():
    module = stack(nn.Tanh())
    flow = NetworkFlow(module, mse_loss, X, Y)
    y, calls = flow.start + 0.1, []
    before = flow(0.0, y)
    handle = module[0].register_forward_hook(lambda *arguments: calls.append(1))
    torch.testing.assert_close(flow(0.0, y), before)
    assert calls
    handle.remove()
    module.append(nn.Tanh())
    assert not torch.allclose(flow(0.0, y), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [7, 3])
def test_the_slope_of_the_squared_error_is_that_of_autograd(dtype, size):
    criterion, targets = HalfSquaredError(), Y[:size].to(dtype)
    outputs = torch.cos(3 * targets).requires_grad_()
    (slope,) = torch.autograd.grad(criterion(outputs, targets), outputs)
    assert torch.equal(criterion.slope(outputs.detach(), targets), slope)


@pytest.mark.parametrize("targets", [Y, Y.float(), Y[:, :1]])
def test_a_flow_with_the_squared_error_has_the_gradient_of_autograd(targets):
    module, criterion = stack(nn.Tanh()), HalfSquaredError()
    flow = NetworkFlow(module, criterion, X, targets)
    y = flow.start + 0.1
    loss, gradient = by_autograd(module, criterion, Chunk(X, targets, 1.0), y)
    torch.testing.assert_close(flow.loss_and_velocity(y), (loss, -gradient))


@pytest.mark.parametrize("options", [{"weight_decay": 0.1}, {"rates": {"0.weight": 0.5}}])
def test_weight_decay_and_rates_are_kept(options):
    flow = NetworkFlow(stack(nn.Tanh()), mse_loss, X, Y, **options)
    y = flow.start + 0.1
    torch.testing.assert_close(flow(0.0, y), flow.reference(y))


def test_chunks_add_up():
    whole = NetworkFlow(stack(nn.ReLU()), mse_loss, X, Y)
    parts = NetworkFlow(stack(nn.ReLU()), mse_loss, X, Y, chunk=3)
    assert parts._loss.route.layers is not None
    y = whole.start + 0.1
    torch.testing.assert_close(parts(0.0, y), whole(0.0, y))
    torch.testing.assert_close(parts.loss(y), whole.loss(y))
