"""NTK and NNGP: the recursion, its hard cases, and input errors."""

import decimal
import math

import numpy as np
import pytest
import torch

from gflow.errors import InputError
from gflow.kernels import nngp, ntk, two_layer_relu_gram
from gflow.kernels.activations import ACTIVATIONS
from tests.helpers import randn, relative
from tests.kernels.precise import precise_kernels
from tests.kernels.quadrature import KINKED, SMOOTH, recursion

NETWORK = {"depth": 3, "w_std": 1.5, "b_std": 0.3}
NAMES = sorted(ACTIVATIONS)


def largest_error(value, truth):
    return float((value.double() - truth).abs().max() / truth.abs().max().clamp_min(1e-300))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("w_std", "b_std"), [(2**0.5, 0.0), (1.5, 0.3)])
def test_recursion_by_quadrature(name, w_std, b_std):
    x = randn(2, 6)
    K, theta = recursion(x[0].numpy(), x[1].numpy(), name, 3, w_std, b_std)
    network = {"depth": 3, "activation": name, "w_std": w_std, "b_std": b_std}
    assert nngp(x[:1], x[1:], **network).item() == pytest.approx(K, rel=1e-12)
    assert ntk(x[:1], x[1:], **network).item() == pytest.approx(theta, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kernel", [ntk, nngp])
def test_symmetric_positive_and_equal_to_the_kernel_between_equal_sets(name, kernel):
    x = torch.cat([randn(150, 12), randn(40, 12)])  # 40 rows twice
    H = kernel(x, activation=name, **NETWORK)
    assert torch.equal(H, H.mT)
    assert largest_error(kernel(x, x.clone(), activation=name, **NETWORK), H) <= 1e-14
    assert largest_error(H[150:], H[:40]) <= 1e-14  # a repeated point gives the same entries
    spectrum = torch.linalg.eigvalsh(H)
    assert float(spectrum[0]) >= -len(x) * torch.finfo(H.dtype).eps * float(spectrum[-1])


@pytest.mark.parametrize("name", NAMES)
def test_single_precision(name):
    x = torch.cat([randn(60, 12), randn(60, 12) + 1e-3 * randn(60, 12, seed=1)])
    for kernel in (ntk, nngp):
        truth = kernel(x.float().double(), activation=name, **NETWORK)
        value = kernel(x.float(), activation=name, **NETWORK)
        assert value.dtype == torch.float32
        assert largest_error(value, truth) <= 5e-6


@pytest.mark.parametrize("b_std", [0.0, 0.3])
@pytest.mark.parametrize("name", KINKED)
@pytest.mark.parametrize("distance", [0.0, 1e-12, 1e-9, 1e-6, 1e-4, 3e-3, 0.1])
@pytest.mark.parametrize("sign", [1, -1])
def test_points_that_nearly_coincide_or_oppose(name, distance, b_std, sign):
    x = randn(1, 8)
    y = sign * (1.7 * x + distance * randn(1, 8, seed=1))
    truth = precise_kernels(x[0].tolist(), y[0].tolist(), name, 3, 1.5, b_std)
    network = {"depth": 3, "activation": name, "w_std": 1.5, "b_std": b_std}
    size = max(float(ntk(z, **network)) for z in (x, y))
    for kernel, value in zip((nngp, ntk), truth, strict=True):
        assert kernel(x, y, **network).item() == pytest.approx(value, abs=1e-12 * size)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("distance", [0.0, 1e-10, 1e-6, 1e-3])
def test_points_that_nearly_coincide_under_smooth_activations(name, distance):
    x = randn(1, 8)
    y = x + distance * randn(1, 8, seed=1)
    K, theta = recursion(x[0].numpy(), y[0].numpy(), name, 3, 1.5, 0.3)
    network = {"activation": name, **NETWORK}
    assert nngp(x, y, **network).item() == pytest.approx(K, rel=1e-12)
    assert ntk(x, y, **network).item() == pytest.approx(theta, rel=1e-12)


def test_many_points_that_nearly_coincide():
    """More pairs to recompute than fit in one gathered batch."""
    x = 1.0 + 1e-5 * randn(64, 400)
    gram, cross = ntk(x, depth=2), ntk(x[:4], x[4:8], depth=2)
    for i in range(4):
        truth = precise_kernels(x[i].tolist(), x[4 + i].tolist(), "relu", 2, 1.0, 0.0)[1]
        assert cross[i, i].item() == pytest.approx(truth, rel=1e-12)
        assert gram[i, 4 + i].item() == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("b_std", [0.0, 0.3])
def test_zero_rows_and_one_point(name, b_std):
    x = torch.cat([torch.zeros(2, 4).double(), 1e3 * randn(1, 4)])
    network = {"depth": 2, "activation": name, "b_std": b_std}
    for kernel in (ntk, nngp):
        H = kernel(x, **network)
        assert torch.isfinite(H).all()
        assert largest_error(H[0], H[1]) <= 1e-15
        assert largest_error(kernel(x, x.clone(), **network), H) <= 1e-14
        assert relative(kernel(x[2:], **network), H[2:, 2:]) <= 1e-15
        if b_std == 0.0:  # φ(0) = 0
            assert not H[:2].any()


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e150])
def test_relu_without_biases_is_homogeneous_however_long_the_points(scale):
    x = randn(5, 4)
    assert relative(ntk(scale * x, x, depth=3) / scale, ntk(x, x, depth=3)) <= 1e-14


@pytest.mark.parametrize("name", ["erf", "gelu"])
@pytest.mark.parametrize("length", [1e-3, 30.0, 1e3])
def test_smooth_activations_of_very_short_and_long_points(name, length):
    x = length * randn(3, 4)
    H = nngp(x, activation=name)
    for i, j in ((0, 0), (0, 1), (1, 2)):
        K = [float(x[a] @ x[b]) / 4 for a, b in ((i, i), (j, j), (i, j))]
        truth = _one_layer(name, *K)
        assert H[i, j].item() == pytest.approx(truth, rel=1e-11)


def _one_layer(name, q1, q2, K):
    """E[φφ] in high precision, by the textbook formula."""
    with decimal.localcontext(prec=60):
        q1, q2, K = (decimal.Decimal(v) for v in (q1, q2, K))
        if name == "erf":
            ratio = 2 * K / ((1 + 2 * q1) * (1 + 2 * q2)).sqrt()
            return 2 / math.pi * math.atan2(float(ratio), float((1 - ratio * ratio).sqrt()))
        determinant = (1 + q1) * (1 + q2) - K * K
        root = determinant.sqrt()
        P = 0.25 + math.atan2(float(K), float(root)) / (2 * math.pi)
        rest = (q1 * q2 + K * K - K * K * (q1 / (1 + q1) + q2 / (1 + q2))) / root
        return float(K) * P + float(rest) / (2 * math.pi)


def test_parts_of_the_layers_add_up_to_the_kernel():
    x, y = randn(4, 5), randn(3, 5, seed=1)
    network = {"depth": 2, "activation": "gelu", "w_std": (1.0, 1.5, 2.0), "b_std": (0.1, 0.0, 0.4)}
    parts = [ntk(x, y, trained=[k], **network) for k in range(3)]
    assert relative(sum(parts), ntk(x, y, **network)) <= 1e-15
    assert relative(parts[2], nngp(x, y, **network)) <= 1e-15
    assert relative(ntk(x, y, trained=(0, 2), **network), parts[0] + parts[2]) <= 1e-15
    # With another variance of the read-out, the first layer's part scales by it.
    changed = network | {"w_std": (1.0, 1.5, 6.0), "b_std": (0.1, 0.0, 7.0)}
    assert relative(ntk(x, y, trained=[0], **changed), 9 * parts[0]) <= 1e-14


def test_deviations_of_each_layer_by_hand():
    """One hidden ReLU layer by hand."""
    x = randn(2, 5)
    (w0, w1), (b0, b1) = (1.3, 0.7), (0.2, 0.5)
    K = w0**2 * (x @ x.mT) / 5 + b0**2
    rho = K[0, 1] / (K[0, 0] * K[1, 1]).sqrt()
    theta = torch.arccos(rho)
    features = (K[0, 0] * K[1, 1]).sqrt() * (theta.sin() + rho * (math.pi - theta)) / (2 * math.pi)
    K1 = w1**2 * features + b1**2
    network = {"w_std": [w0, w1], "b_std": [b0, b1]}
    assert nngp(x, **network)[0, 1].item() == pytest.approx(K1.item(), rel=1e-14)
    slope = (math.pi - theta) / (2 * math.pi)
    truth = (K1 + w1**2 * slope * K[0, 1]).item()
    assert ntk(x, **network)[0, 1].item() == pytest.approx(truth, rel=1e-14)


def test_first_layer_only_is_the_two_layer_gram():
    x, y = randn(6, 7), randn(4, 7, seed=1)
    inner = x @ y.mT
    theta = torch.arccos(inner / (x.norm(dim=1)[:, None] * y.norm(dim=1)))
    truth = inner * (math.pi - theta) / (2 * math.pi)
    assert relative(two_layer_relu_gram(x, y), truth) <= 1e-14
    network = {"depth": 1, "w_std": (math.sqrt(7), 1.0), "trained": [0]}
    assert torch.equal(two_layer_relu_gram(x, y), ntk(x, y, **network))


def test_linear_networks_are_linear():
    """Θ = (depth + 1)·K, a multiple of the inner product, for w_std = 1."""
    x = randn(5, 3)
    gram = x @ x.mT / 3
    assert relative(nngp(x, depth=4, activation="linear"), gram) <= 1e-14
    assert relative(ntk(x, depth=4, activation="linear"), 5 * gram) <= 1e-14


def test_kernel_of_an_even_activation_ignores_the_sign():
    x = randn(4, 3)
    assert torch.equal(ntk(x, -x, depth=3, activation="abs"), ntk(x, x, depth=3, activation="abs"))


def test_convention_of_arora_et_al():
    """c_σ = 2 without 1/d and without biases: their Σ⁰ = x·x', Θ of depth 1 by hand."""
    x = randn(2, 4)
    inner = x @ x.mT
    theta = torch.arccos(inner[0, 1] / (inner[0, 0] * inner[1, 1]).sqrt())
    k0 = (math.pi - theta) / math.pi
    k1 = (theta.sin() + (math.pi - theta) * theta.cos()) / math.pi
    truth = inner[0, 1] * k0 + (inner[0, 0] * inner[1, 1]).sqrt() * k1
    value = ntk(x, w_std=(math.sqrt(4), math.sqrt(2)))[0, 1]
    assert value.item() == pytest.approx(truth.item(), rel=1e-14)


def test_no_gradients_flow_through_the_kernel():
    x = randn(3, 2).requires_grad_()
    assert not ntk(x, depth=2).requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x1": randn(3)}, r"x1 must have shape \(n, d\), got \(3,\)"),
        ({"x1": randn(0, 2)}, r"x1 must not be empty, got shape \(0, 2\)"),
        ({"x2": randn(3, 4)}, "same columns, got 2 and 4"),
        ({"x2": randn(3, 2).float()}, "share dtype and device, got torch.float64 on cpu and"),
        (
            {"x1": torch.ones(2, 2, dtype=torch.int64)},
            "x1 must be a floating-point tensor, got torch.int64",
        ),
        ({"x1": np.ones((2, 2), int)}, "x1 must be a floating-point tensor, got int64"),
        (
            {"x1": torch.ones(2, 2).half()},
            "x1 must be a float64 or float32 tensor, got torch.float",
        ),
        ({"x1": torch.full((1, 2), math.nan)}, "x1 must be finite"),
        (
            {"x1": torch.full((1, 2), 1e200, dtype=torch.float64)},
            "must be short enough .* scale the inputs",
        ),
        ({"depth": 0}, "depth must be a whole number of at least 1, got 0"),
        ({"depth": 1.5}, "depth must be a whole number"),
        (
            {"activation": "rleu"},
            r"there is no activation 'rleu'; did you mean 'relu'\?; or pass a callable",
        ),
        ({"activation": 3}, "activation must be a name, a callable or an Activation, got 3"),
        ({"w_std": 0.0}, "w_std must be finite and positive, got 0.0"),
        ({"w_std": [1.0]}, "w_std must be one number or one for each of 2 layers .*, got 1"),
        ({"b_std": -1.0}, "b_std must be finite and non-negative, got -1.0"),
        ({"b_std": math.inf}, "b_std must be finite and non-negative, got inf"),
        ({"w_std": "12"}, "w_std must be a number or a sequence of numbers, got '12'"),
        ({"b_std": None}, "b_std must be a number or a sequence of numbers, got None"),
        ({"max_memory": math.nan}, "max_memory must be a positive number, got nan"),
        ({"trained": 1}, r"trained must be a sequence of numbers, got 1; write \[1\]"),
        ({"trained": []}, "trained must hold at least one number"),
        ({"trained": [2]}, r"trained must name layers from 0 to 1 .*, got \[2\]"),
    ],
)
def test_input_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        ntk(**{"x1": randn(3, 2)} | arguments)
