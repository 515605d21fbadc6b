"""Angles between points, also of those that nearly coincide or oppose."""

import math

import pytest
import torch

from gflow.kernels import angles
from gflow.kernels.angles import one_minus_and_plus_cosine, unit_and_square
from tests.helpers import randn, relative


def test_unit_vectors_and_squares():
    x = randn(4, 3, 5)
    unit, square = unit_and_square(x)
    assert relative(square, x.square().sum(-1)) <= 1e-15
    assert relative(unit, x / x.norm(dim=-1, keepdim=True)) <= 1e-15


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-160, 1e160, 1e300])
def test_directions_do_not_depend_on_the_length(scale):
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64) * scale
    unit, _ = unit_and_square(x)
    assert unit[0].tolist() == pytest.approx([0.6, 0.8], rel=1e-15)


def test_a_zero_vector_stays_zero():
    unit, square = unit_and_square(torch.zeros(2, 3))
    assert not unit.any()
    assert not square.any()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.5])
def test_small_angles_keep_their_digits(angle, sign):
    e1 = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    e2 = sign * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    minus, plus = one_minus_and_plus_cosine(e1, e2)
    small, large = (minus, plus) if sign > 0 else (plus, minus)
    expected = 2 * math.sin(angle / 2) ** 2
    assert small.item() == pytest.approx(expected, rel=1e-10, abs=1e-300)
    assert large.item() == pytest.approx(2 - expected, rel=1e-15)


def test_pairs_are_gathered_in_parts_and_in_batches(monkeypatch):
    unit, _ = unit_and_square(1.0 + 1e-6 * randn(2, 9, 4))
    reference = one_minus_and_plus_cosine(unit, unit)
    monkeypatch.setattr(angles, "_GATHERED", 8)
    for value, expected in zip(one_minus_and_plus_cosine(unit, unit), reference, strict=True):
        assert torch.equal(value, expected)
    assert not reference[0].diagonal(dim1=1, dim2=2).any()
