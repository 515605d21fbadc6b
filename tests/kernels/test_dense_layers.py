"""Points and pairs through the layers of a fully connected network."""

import pytest
import torch

from gflow.kernels.dense_layers import diagonal, propagate_pairs, propagate_points
from gflow.kernels.layers import make_layers
from tests.helpers import randn, relative
from tests.kernels.quadrature import FUNCTIONS, expectation

ALL = slice(None)


@pytest.mark.parametrize("activation", ["leaky_relu", "gelu"])
def test_deviations_of_single_points_by_quadrature(activation):
    x = randn(3, 4)
    layers = make_layers(2, activation, (1.2, 0.9, 1.5), (0.1, 0.0, 0.4))
    points = propagate_points(x, layers)
    variance = 1.2**2 * x.square().sum(1) / 4 + 0.1**2
    for k in (1, 2):
        assert relative(points.pre_activations[k - 1].variance, variance) <= 1e-12
        function = FUNCTIONS[activation][0]
        squares = [expectation(function, v, v, v) for v in variance.tolist()]
        expected = torch.tensor(squares, dtype=torch.float64).sqrt()
        assert relative(points.features[k - 1], expected) <= 1e-12
        variance = layers.w[k] ** 2 * points.features[k - 1].square() + layers.b[k] ** 2
    assert relative(points.pre_activations[2].variance, variance) <= 1e-14


@pytest.mark.parametrize("trained", [None, [0], [1, 2]])
@pytest.mark.parametrize("b_std", [0.0, 0.3])
def test_the_diagonal_is_that_of_all_pairs(b_std, trained):
    layers = make_layers(2, "relu", 1.4, b_std, trained)
    points = propagate_points(randn(5, 4), layers)
    pairs = propagate_pairs(points.part(ALL, (-1, 1)), points.part(ALL, (1, -1)), layers)
    assert relative(diagonal(points, layers), pairs.diagonal()) <= 1e-13
    assert relative(pairs, pairs.mT) <= 1e-14


def test_parts_of_the_points_are_parts_of_the_kernel():
    layers = make_layers(3, "erf", 1.4, 0.2)
    points = propagate_points(randn(6, 4), layers)
    pairs = propagate_pairs(points.part(ALL, (-1, 1)), points.part(ALL, (1, -1)), layers)
    rows, columns = slice(1, 3), slice(2, 6)
    part = propagate_pairs(points.part(rows, (-1, 1)), points.part(columns, (1, -1)), layers)
    assert relative(part, pairs[rows, columns]) <= 1e-15
