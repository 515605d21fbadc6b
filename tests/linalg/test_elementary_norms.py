import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import gflow
from gflow.flows.modified import second_derivative
from gflow.kernels.empirical import empirical_ntk
from gflow.kernels.velocity import empirical_ntk_velocity
from gflow.linalg.elementary_norms import elementary_norms

NOISE = torch.Generator().manual_seed(0)


def noise(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=NOISE)


IMAGES, SIGNALS, ROWS = noise(3, 4, 5, 6), noise(3, 4, 7), noise(6, 4)
GAIN, OFFSET = noise(4), noise(4)
CALLS = {
    "layer": lambda: F.layer_norm(ROWS, (4,), GAIN, OFFSET),
    "layer, two axes": lambda: F.layer_norm(IMAGES, (5, 6), noise_like(5, 6), None, 1e-2),
    "layer, torch": lambda: torch.layer_norm(ROWS, (4,), GAIN, OFFSET, 1e-3, False),
    "batch, rows": lambda: F.batch_norm(ROWS, None, None, GAIN, OFFSET, training=True),
    "batch, images": lambda: F.batch_norm(IMAGES, None, None, training=True, eps=0.1),
    "batch, running": lambda: F.batch_norm(SIGNALS, GAIN, OFFSET**2, GAIN, OFFSET),
    "instance": lambda: F.instance_norm(SIGNALS, weight=GAIN, bias=OFFSET),
    "instance, images": lambda: F.instance_norm(IMAGES, eps=0.1),
    "weight": lambda: torch._weight_norm(IMAGES, noise_like(1, 4, 1, 1), 1),
    "weight, whole": lambda: torch._weight_norm(ROWS, GAIN[:1], -1),
}


def noise_like(*shape):
    """Return the same numbers at each call."""
    return torch.cos(torch.arange(torch.Size(shape).numel()).double()).reshape(shape)


@pytest.mark.parametrize("name", CALLS)
def test_values_are_those_of_torch(name):
    expected = CALLS[name]()
    with elementary_norms():
        found = CALLS[name]()
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)


def layers(norm):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), norm, nn.Tanh(), nn.Linear(4, 2)).double()


class Instances(nn.Module):
    """Instance norm of features as one signal."""

    def forward(self, x):
        return F.instance_norm(x[:, None])[:, 0]


MODULES = {
    "layer": lambda: layers(nn.LayerNorm(4)),
    "batch": lambda: layers(nn.BatchNorm1d(4, track_running_stats=False)),
    "instance": lambda: layers(Instances()),
    "weight": lambda: layers(parametrizations.weight_norm(nn.Linear(4, 4))),
}


def squares(outputs, targets):
    """Return what `mse_loss` does, of which torch has no second derivative in forward mode."""
    return (outputs - targets).square().mean()


def flow_of(name):
    return gflow.NetworkFlow(MODULES[name](), squares, noise(9, 3), noise(9, 2))


def slope(function, y, v, h=3e-4):
    """Differentiate along v by central differences of order 4."""
    near, far = (function(y + k * h * v) - function(y - k * h * v) for k in (1, 2))
    return (8 * near - far) / (12 * h)


@pytest.mark.parametrize("name", MODULES)
def test_third_derivatives_of_networks_are_the_slopes_of_their_hessian(name):
    flow = flow_of(name)
    y, v, w = flow.pack(), *(noise(*flow.state_shape) for _ in range(2))
    found = second_derivative(flow, y, v, w)
    expected = slope(lambda state: flow.jvp(state, w), y, v)
    assert (found - expected).norm() < 1e-6 * expected.norm()
    assert flow._loss.route.has_products


@pytest.mark.parametrize("name", MODULES)
def test_ensembles_and_transforms_have_the_same_third_derivatives(name):
    flow = flow_of(name)
    ys = flow.pack() + 0.1 * noise(2, *flow.state_shape)
    v = noise(*flow.state_shape)
    alone = torch.stack([second_derivative(flow, y, v, v) for y in ys])
    together = second_derivative(flow, ys, v.expand_as(ys), v.expand_as(ys))
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)

    def product(state):
        return torch.func.jvp(lambda y: flow(0.0, y), (state,), (v,))[1]

    found = torch.func.jvp(product, (ys[0],), (v,))[1]
    torch.testing.assert_close(found, alone[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MODULES)
def test_central_flow_and_modified_flow_of_order_3_take_norms(name):
    flow = flow_of(name)
    y = flow.pack()
    modified = gflow.ModifiedFlow(flow, 0.1, order=3)
    modified.check_state(y)
    sharpness = float(gflow.spectra.sharpness(flow, y).values[0])
    central = gflow.CentralFlow(flow, 2 / (0.9 * sharpness))
    central.check_state(y)
    torch.testing.assert_close(central(0.0, y), central.reference(y), rtol=1e-8, atol=1e-10)


class WrongThird(torch.autograd.Function):
    """x³, whose third derivative is said to be zero."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return 3 * x.detach() * (2 * x - x.detach()) * slope


def test_a_wrong_third_derivative_is_refused():
    flow = gflow.flow_from_loss(lambda y: WrongThird.apply(y).sum(), shape=3)
    with pytest.raises(gflow.errors.InputError, match="no right third derivative"):
        gflow.integrate(gflow.ModifiedFlow(flow, 0.01, order=3), torch.ones(3).double(), [0, 0.1])
    gflow.ModifiedFlow(flow, 0.01).check_state(torch.ones(3).double())


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of the kernel itself, by vmap
def test_kernels_of_weight_norm_move_as_their_velocity_says():
    module, x = MODULES["weight"](), noise(5, 3)
    start = {name: p.detach() for name, p in module.named_parameters()}
    along = {name: noise(*p.shape) for name, p in start.items()}
    found = empirical_ntk_velocity(module, x, along, params=start)

    def kernel(s):
        return empirical_ntk(module, x, params={n: p + s * along[n] for n, p in start.items()})

    expected = slope(kernel, torch.zeros(1).double(), torch.ones(1).double())
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
