"""Extreme eigenvalues from four vectors, against those of dense matrices."""

import numpy as np
import pytest
import torch

from gflow.linalg.ritz_window import RitzWindow
from tests.helpers import randn


def turned(rates, seed=0):
    Q = torch.linalg.qr(randn(len(rates), len(rates), seed=seed))[0]
    return (Q * torch.as_tensor(rates, dtype=torch.float64)) @ Q.mT, Q


def window_of(A, start, products):
    calls = []
    window = RitzWindow(lambda v: calls.append(1) or v @ A, start)
    window.add(start)
    for _ in range(products - 1):
        window.add_next()
    assert len(calls) == products
    return window


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_the_largest_eigenvalue_and_its_vector_are_found_from_below(library):
    rates = torch.cat([-torch.logspace(-2, 2, 80).double(), torch.tensor([2.0, 5.0]).double()])
    A, Q = turned(rates)
    A = A.numpy() if library == "numpy" else A
    start = randn(3, len(rates), seed=1)
    start = start.numpy() if library == "numpy" else start
    before = np.full(3, -np.inf)
    for products in (4, 9, 30, 120):
        window = window_of(A, start, products)
        values = window.ritz()[0]
        assert (values >= before - 1e-12).all()
        assert (values <= 5.0 + 1e-12).all()
        before = values
    assert values == pytest.approx([5.0] * 3, rel=1e-6)
    vectors = torch.as_tensor(window.vectors())
    assert (vectors[:, 0] @ Q[:, -1]).abs().min() > 1 - 1e-6


def test_vectors_stay_orthonormal_and_images_are_products():
    A, _ = turned(torch.linspace(-3, 2, 40))
    window = window_of(A, randn(1, 40, seed=1), 11)
    window.collapse()
    vectors, images = window._vectors[0, :2], window._images[0, :2]
    assert torch.allclose(vectors @ vectors.mT, torch.eye(2).double(), atol=1e-10)
    assert torch.allclose(images, vectors @ A, atol=1e-10)
    assert torch.allclose(torch.as_tensor(window.square[0]), vectors @ images.mT, atol=1e-10)


def test_what_lies_in_the_span_is_replaced():
    A = torch.diag(torch.tensor([1.0, 2.0, 7.0], dtype=torch.float64))
    first, other = torch.eye(3, dtype=torch.float64)[:1], torch.eye(3, dtype=torch.float64)[2:]
    window = RitzWindow(lambda v: v @ A, first)
    window.add(first)
    assert window.lost.tolist() == [False]
    window.add_next()
    assert window.lost.tolist() == [True]  # an eigenvector: its image is in the span
    assert window.ritz()[0] == pytest.approx([1.0])
    window.add_next(instead=lambda: other)
    assert window.lost.tolist() == [True]
    assert window.ritz()[0] == pytest.approx([7.0])


def test_a_member_whose_products_are_not_finite_harms_no_other():
    A, _ = turned([1.0, -2.0, 4.0, 0.5])
    start = randn(2, 4, seed=1)
    spoilt = torch.tensor([[1.0], [torch.nan]])
    window = RitzWindow(lambda v: (v @ A) * spoilt, start)
    window.add(start)
    for _ in range(8):
        window.add_next()
    assert window.finite.tolist() == [True, False]
    assert window.ritz()[0][0] == pytest.approx(4.0, rel=1e-9)
