"""The velocity of an empirical kernel against differences and the kernel of the moved module."""

import pytest
import torch
from torch import nn

import gflow
from gflow.errors import InputError
from gflow.kernels import empirical_ntk
from gflow.kernels.velocity import empirical_ntk_velocity
from tests.helpers import randn, relative


class Recurrent(nn.Module):
    """vmap does not know its layer."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.RNN(2, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


KINDS = {
    "tanh": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), (3,)),
    "convolutional": (
        lambda: nn.Sequential(nn.Conv1d(1, 2, 2), nn.GELU(), nn.Flatten(), nn.Linear(4, 2)), (1, 3)
    ),
    "recurrent": (Recurrent, (4, 2)),
    "tied": (Tied, (3,)),
    "norm": (lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)), (3,)),
}  # fmt: skip


def made(kind):
    torch.manual_seed(0)
    make, shape = KINDS[kind]
    module = make().double()
    theta = {name: p.detach() for name, p in module.named_parameters()}
    velocity = {name: randn(*p.shape, seed=7 + i) for i, (name, p) in enumerate(theta.items())}
    return module, randn(5, *shape, seed=2), theta, velocity


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("full", [False, True])
def test_it_is_the_slope_of_the_kernel(kind, full):
    module, x, theta, velocity = made(kind)
    found = empirical_ntk_velocity(module, x, velocity, full=full)

    def kernel(s):
        moved = {name: p + s * velocity[name] for name, p in theta.items()}
        return empirical_ntk(module, x, params=moved, full=full, method="jacobian")

    # Differences of the sixth order.
    h = 0.003
    slopes = [(kernel(i * h) - kernel(-i * h)) / (2 * i * h) for i in (1, 2, 3)]
    expected = 1.5 * slopes[0] - 0.6 * slopes[1] + 0.1 * slopes[2]
    assert relative(found, expected) <= 1e-8
    flat = found.flatten(2).flatten(0, 1) if full else found
    assert torch.equal(flat, flat.mT)
    if full:
        k = found.shape[1]
        mean = found.diagonal(dim1=1, dim2=3).sum(-1) / k
        assert relative(mean, empirical_ntk_velocity(module, x, velocity)) <= 1e-12


@pytest.mark.parametrize("full", [False, True])
def test_blocks_change_nothing_but_round_off(full):
    module, x, _, velocity = made("tanh")
    whole = empirical_ntk_velocity(module, x, velocity, full=full)
    for memory in (1, 8000, 20_000):  # points one by one, in twos, ...
        blocked = empirical_ntk_velocity(module, x, velocity, full=full, max_memory=memory)
        assert relative(blocked, whole) <= 1e-13


def test_a_linear_module_has_a_constant_kernel():
    module = nn.Linear(3, 2).double()
    velocity = {name: randn(*p.shape, seed=1) for name, p in module.named_parameters()}
    assert empirical_ntk_velocity(module, randn(4, 3), velocity).abs().max() == 0


@pytest.mark.parametrize(
    ("velocity", "message"),
    [
        ({"weight": torch.ones(1, 2).double()}, "velocity must be .*; these are not: bias"),
        # A shape that would broadcast, and another dtype.
        ({"weight": torch.ones(()).double(), "bias": torch.ones(1)}, "are not: bias, weight"),
        ([1.0], "velocity must be a mapping of names to tensors, got"),
    ],
)
def test_a_velocity_must_fit_the_parameters(velocity, message):
    with pytest.raises(InputError, match=message):
        empirical_ntk_velocity(nn.Linear(2, 1).double(), randn(3, 2), velocity)


def test_what_has_no_second_derivative_is_refused():
    class OnceOnly(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.tanh(x)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return g * (1 - torch.tanh(ctx.saved_tensors[0]) ** 2)

    class Once(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1).double()

        def forward(self, x):
            return OnceOnly.apply(self.layer(x))

    with pytest.raises(InputError, match=r"kernel_velocity needs a module .* differentiated twice"):
        gflow.NetworkFlow(
            Once(), nn.functional.mse_loss, randn(4, 3), randn(4, 1), measure="kernel_velocity"
        )
