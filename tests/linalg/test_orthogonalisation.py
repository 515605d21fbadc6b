"""Gram–Schmidt orthogonalisation against the projection it computes."""

import pytest
import torch

from gflow.linalg.orthogonalisation import orthogonalise
from tests.helpers import randn


@pytest.mark.parametrize("distance", [1.0, 1e-6, 1e-12])
def test_rest_is_orthogonal_however_close_to_the_span(distance):
    basis = torch.linalg.qr(randn(40, 7))[0].mT
    inside, outside = randn(7, seed=1) @ basis, randn(40, seed=2)
    vector = inside + distance * outside
    rest, (first, second) = orthogonalise(vector[None, None], basis[None])
    eps = torch.finfo(torch.float64).eps
    assert float((basis @ rest[0, 0]).norm()) <= 40 * eps * float(rest.norm())
    assert float((rest[0] + (first + second)[0] @ basis - vector).norm()) <= 1e-14
    assert float(second.norm()) <= 40 * eps * float(vector.norm())


def test_batches_are_independent_and_zero_rows_change_nothing():
    bases = torch.stack([torch.linalg.qr(randn(9, 3, seed=s))[0].mT for s in range(4)])
    bases[1, 2] = 0.0
    vectors = randn(4, 1, 9, seed=9)
    rest, _ = orthogonalise(vectors, bases)
    for vector, basis, result in zip(vectors, bases, rest, strict=True):
        expected = vector - vector @ basis.mT @ basis
        assert float((result - expected).norm()) <= 1e-14
