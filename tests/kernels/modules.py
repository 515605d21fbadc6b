"""Modules of many kinds, and their empirical kernels by a plain loop over Jacobians."""

import itertools

import torch
from torch import nn
from torch.func import functional_call

from tests.helpers import randn


class Tied(nn.Module):
    """A layer used twice, or a weight shared by two layers with separate biases."""

    def __init__(self, shared_weight=False):
        super().__init__()
        self.inner, self.outer = nn.Linear(5, 5), nn.Linear(5, 5 if shared_weight else 2)
        if shared_weight:
            self.outer.weight = self.inner.weight

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


class Scaled(nn.Module):
    """NTK parametrisation: scalars times weights, transposes, biases added by hand."""

    def __init__(self):
        super().__init__()
        self.W, self.U = nn.Parameter(torch.randn(8, 5)), nn.Parameter(torch.randn(8, 8))
        self.V, self.b = nn.Parameter(torch.randn(3, 8)), nn.Parameter(torch.randn(3))

    def forward(self, x):
        h = torch.relu(x @ self.W.mT / 5**0.5)
        h = torch.relu(nn.functional.linear(h, 8**-0.5 * self.U))
        return h @ (self.V / 8**0.5).T + 0.3 * self.b


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.outer(self.inner(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x)[0].mean(1)


def perceptron(*dims, activation=nn.Tanh):
    layers = []
    for a, b in itertools.pairwise(dims):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])


def half_frozen():
    module = perceptron(5, 7, 3)
    module[0].weight.requires_grad_(False)
    return module


def normalised():
    module = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 2))
    module(torch.randn(9, 5))
    return module.eval()


VECTORS = randn(6, 5)
#: name -> (module, points, whether all its layers are dense)
MODULES = {
    "perceptron": (lambda: perceptron(5, 7, 7, 3), VECTORS, True),
    "in place": (
        lambda: perceptron(5, 7, 3, activation=lambda: nn.ReLU(True)),
        VECTORS,
        1,
    ),
    "one output": (lambda: nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)), VECTORS, True),
    "scaled": (Scaled, VECTORS, True),
    "used twice": (Tied, VECTORS, True),
    "frozen": (half_frozen, VECTORS, True),
    "shared weight": (lambda: Tied(True), VECTORS, False),
    "layer norm": (lambda: nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7)), VECTORS, False),
    "batch norm": (normalised, VECTORS, False),
    "along a sequence": (
        lambda: nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2)),
        randn(6, 3, 5),
        False,
    ),
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)),
        randn(6, 1, 4, 4),
        False,
    ),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)),
        torch.arange(18).reshape(6, 3) % 7,
        False,
    ),
    "recurrent": (Recurrent, randn(6, 3, 5), False),
    "attention": (Attention, randn(6, 3, 4), False),
}


def make(name):
    torch.manual_seed(0)
    build, points, dense = MODULES[name]
    return build().double(), points, bool(dense)


def by_loop(module, x1, x2=None):
    """J Jᵀ, (n1, k, n2, k), from torch.autograd.functional.jacobian point after point."""
    trained = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}

    def jacobian(x):
        rows = []
        for point in x:

            def outputs(*values, point=point):
                return functional_call(
                    module, dict(zip(trained, values, strict=True)), (point[None],)
                ).flatten()

            parts = torch.autograd.functional.jacobian(outputs, tuple(trained.values()))
            rows.append(torch.cat([part.flatten(1) for part in parts], dim=1))
        return torch.stack(rows)

    first = jacobian(x1)
    second = first if x2 is None else jacobian(x2)
    return torch.einsum("iaq,jbq->iajb", first, second)


def mean_over_outputs(kernel):
    return kernel.diagonal(dim1=1, dim2=3).mean(-1)
