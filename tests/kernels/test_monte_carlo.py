"""Analytic kernels against wide random networks, within standard errors over seeds."""

import math

import numpy as np
import pytest
import torch

from gflow.kernels import conv_nngp, conv_ntk, nngp, ntk
from tests.helpers import randn, slow_except
from tests.kernels.quadrature import FUNCTIONS

WIDTH, SEEDS, POINTS, INPUTS = 192, 48, 3, 4
W_STD, B_STD = 1.3, 0.4


def elementwise(function, z):
    return torch.as_tensor(np.asarray(function(z.numpy())))


def empirical(x, name, depth):
    """NNGP and NTK of one random network per seed, shape (2, seeds, n, n): gradients by backward
    recursion; only the expectation over the last layer is exact."""
    function, derivative = FUNCTIONS[name]
    rng = torch.Generator().manual_seed(7)
    draw = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64)  # noqa: E731
    inputs = x.expand(SEEDS, *x.shape)
    activity, weights, slopes = [inputs], [], []
    for _ in range(depth):
        below = activity[-1]
        W = draw(SEEDS, below.shape[-1], WIDTH) * (W_STD / math.sqrt(below.shape[-1]))
        z = below @ W + B_STD * draw(SEEDS, 1, WIDTH)
        weights.append(W)
        activity.append(elementwise(function, z))
        slopes.append(elementwise(derivative, z))
    gram = [W_STD**2 * a @ a.mT / a.shape[-1] + B_STD**2 for a in activity]
    tangent = gram[-1].clone()
    delta = draw(SEEDS, 1, WIDTH) * (W_STD / math.sqrt(WIDTH)) * slopes[-1]
    for layer in range(depth - 1, -1, -1):
        tangent += gram[layer] * (delta @ delta.mT)
        if layer:
            delta = (delta @ weights[layer].mT) * slopes[layer - 1]
    return torch.stack([gram[-1], tangent])


@pytest.mark.parametrize("depth", slow_except([1, 2, 3, 4, 5], 1, 2, 3))
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_fully_connected(name, depth):
    x = randn(POINTS, INPUTS)
    sample = empirical(x, name, depth)
    mean, error = sample.mean(1), sample.std(1) / math.sqrt(SEEDS)
    network = {"depth": depth, "w_std": W_STD, "b_std": B_STD}
    activation = torch.tanh if name == "tanh" else name
    for value, kernel, spread in zip(mean, (nngp, ntk), error, strict=True):
        truth = kernel(x, activation=activation, **network)
        # Finite width also shifts the mean, by a fraction of about depth/width.
        allowed = 4 * spread + 2 * depth / WIDTH * truth.diagonal().max()
        assert bool(((value - truth).abs() <= allowed).all())
        assert float((allowed / truth.diagonal().max()).max()) < 0.3  # tight enough to fail


@pytest.mark.parametrize("pooling", ["flatten", "average"])
def test_convolutional(pooling):
    """By automatic differentiation of a two-layer convolutional network with biases."""
    images, width, seeds = randn(3, 2, 4, 3), 96, 24
    rng = torch.Generator().manual_seed(3)

    def outputs(x, parameters):
        for W, b, scale in zip(parameters[:-1:2], parameters[1:-1:2], scales, strict=True):
            x = torch.conv2d(x, scale * W, B_STD * b, padding=1)
            x = torch.erf(x)
        x = x.mean((2, 3), keepdim=True) if pooling == "average" else x
        x = x.flatten(1)
        return x @ parameters[-1][: x.shape[1]] * (W_STD / math.sqrt(x.shape[1]))

    scales = [W_STD / math.sqrt(9 * 2), W_STD / math.sqrt(9 * width)]
    tangents = []
    for _ in range(seeds):
        shapes = [(width, 2, 3, 3), (width,), (width, width, 3, 3), (width,), (width * 12,)]
        parameters = [
            torch.randn(s, generator=rng, dtype=torch.float64).requires_grad_() for s in shapes
        ]
        out = outputs(images, parameters)
        rows = [
            torch.cat([g.flatten() for g in torch.autograd.grad(v, parameters, retain_graph=True)])
            for v in out
        ]
        jacobian = torch.stack(rows)
        tangents.append(jacobian @ jacobian.mT)
    sample = torch.stack(tangents)
    network = {"depth": 2, "activation": "erf", "w_std": W_STD, "pooling": pooling}
    truth = conv_ntk(images, b_std=[B_STD, B_STD, 0.0], **network)
    allowed = 4 * sample.std(0) / math.sqrt(seeds) + 4 / width * truth.diagonal().max()
    assert bool(((sample.mean(0) - truth).abs() <= allowed).all())
    assert float((allowed / truth.diagonal().max()).max()) < 0.3
    # The read-out's part of the tangent kernel is the NNGP kernel.
    read_out = conv_ntk(images, b_std=[B_STD, B_STD, 0.0], trained=[2], **network)
    assert torch.equal(read_out, conv_nngp(images, b_std=[B_STD, B_STD, 0.0], **network))
