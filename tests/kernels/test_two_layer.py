"""The Gram matrix of the two-layer ReLU network against its definition and limits."""

import math

import pytest
import torch

from gflow.errors import InputError
from gflow.kernels import two_layer_relu_gram
from tests.helpers import randn, relative, times


def on_circle(*angles):
    return torch.tensor([[math.cos(a), math.sin(a)] for a in angles], dtype=torch.float64)


def test_formula():
    angles = (0.0, 0.3, math.pi / 2, 2.5, math.pi)
    x = on_circle(*angles)
    for i, a in enumerate(angles):
        for j, b in enumerate(angles):
            theta = abs(a - b)
            truth = math.cos(theta) * (math.pi - theta) / (2 * math.pi)
            assert float(two_layer_relu_gram(x)[i, j]) == pytest.approx(truth, abs=1e-15)


def test_gram_is_an_expectation_over_gaussian_weights():
    """x·x' P(w·x > 0, w·x' > 0), by quadrature over the weight's angle in the plane."""
    x = on_circle(0.0, 0.7, 2.0) * times(1.0, 2.0, 0.5)[:, None]
    count = 200_000
    w = on_circle(*((torch.arange(count) + 0.5) * (2 * math.pi / count)).tolist())
    active = (w @ x.mT > 0).double()
    truth = (x @ x.mT) * (active.mT @ active) / count
    assert relative(two_layer_relu_gram(x), truth) <= 1e-5


def test_gram_is_homogeneous_in_both_points():
    x, y = randn(4, 3), randn(5, 3, seed=1)
    a, b = torch.rand(4, 1).double() + 0.1, torch.rand(5, 1).double() + 0.1
    gram = two_layer_relu_gram(x, y)
    assert relative(two_layer_relu_gram(a * x, b * y), a * gram * b.mT) <= 1e-13


def test_gram_is_symmetric_and_positive_with_an_exact_diagonal():
    x = randn(40, 5)
    H = two_layer_relu_gram(x)
    assert torch.equal(H, H.mT)
    assert torch.equal(H.diagonal(), 0.5 * x.square().sum(dim=1))
    assert float(torch.linalg.eigvalsh(H)[0]) > 0
    assert relative(two_layer_relu_gram(x, x), H) <= 1e-15


def test_zero_vectors_repeated_and_opposite_points():
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64)
    H = two_layer_relu_gram(x)
    assert torch.isfinite(H).all()
    assert torch.equal(H[0], torch.zeros(4, dtype=torch.float64))
    assert float(H[1, 2]) == pytest.approx(2.5, abs=1e-15)
    assert float(H[1, 3]) == pytest.approx(0.0, abs=1e-15)


def test_gram_is_the_limit_of_the_finite_network():
    x = on_circle(0.0, 1.0, 2.5)
    width = 200_000
    w = torch.randn(width, 2, dtype=torch.float64)
    active = (x @ w.mT > 0).double()
    finite = (x @ x.mT) * (active @ active.mT) / width
    assert float((finite - two_layer_relu_gram(x)).abs().max()) <= 5 / width**0.5


@pytest.mark.parametrize(
    ("x1", "x2", "message"),
    [
        (randn(3), None, r"x1 must have shape \(n, d\), got \(3,\)"),
        (randn(3, 2), randn(2), r"x2 must have shape"),
        (randn(3, 2), randn(3, 4), "same columns, got 2 and 4"),
        (torch.full((1, 2), float("nan")), None, "x1 must be finite"),
        (randn(1, 2), torch.full((1, 2), float("inf")), "x2 must be finite"),
    ],
)
def test_input_errors(x1, x2, message):
    with pytest.raises(InputError, match=message):
        two_layer_relu_gram(x1, x2)
