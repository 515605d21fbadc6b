"""Pairs between layers against the cosines of explicit vectors."""

import pytest
import torch

from gflow.kernels.layers import make_layers, pre_activations
from gflow.kernels.pairs import first_pair, join_bias, sine
from tests.helpers import randn, relative


def explicit(x, y, b):
    """Cosines between points with the bias as one more coordinate."""
    x, y = (torch.cat([v, torch.full((len(v), 1), b, dtype=v.dtype)], dim=1) for v in (x, y))
    return (x @ y.mT) / (x.norm(dim=1)[:, None] * y.norm(dim=1))


@pytest.mark.parametrize("b", [0.3, 2.0])
def test_a_bias_is_one_more_coordinate(b):
    x, y = randn(4, 3), randn(5, 3, seed=1)
    a = pre_activations(x.square().sum(1)[:, None], b)
    c = pre_activations(y.square().sum(1)[None], b)
    defect = 1 - explicit(x, y, 0.0)
    assert relative(1 - join_bias(defect.clone(), a, c), explicit(x, y, b)) <= 1e-14
    u, s = first_pair(defect.clone(), 2 - defect, a, c, make_layers(b_std=b))
    assert relative(1 - u, explicit(x, y, b)) <= 1e-14
    assert relative(s, (1 - explicit(x, y, b).square()).sqrt()) <= 1e-13


def test_pairs_of_an_even_activation_have_no_negative_cosine():
    x = randn(4, 3)
    a, c = (pre_activations(x.square().sum(1).reshape(s), 0.0) for s in ((-1, 1), (1, -1)))
    cosine = explicit(x, x, 0.0)
    u, _ = first_pair(1 - cosine, 1 + cosine, a, c, make_layers(activation="abs"))
    assert relative(1 - u, cosine.abs()) <= 1e-14


@pytest.mark.parametrize("u", [0.0, 1e-20, 0.3, 1.0, 2.0, 2.0 + 1e-15])
def test_sine(u):
    value = sine(torch.tensor(u, dtype=torch.float64)).item()
    assert value == pytest.approx(max(u * (2 - u), 0.0) ** 0.5, rel=1e-15)
