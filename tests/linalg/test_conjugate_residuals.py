"""Linear solves by products: indefinite and unsymmetric matrices, budgets, and a given scale."""

import itertools

import pytest
import torch

from gflow.linalg.conjugate_residuals import conjugate_residuals
from tests.helpers import randn, relative


def matrix(n, kind):
    A = randn(n, n, seed=n)
    definite = A @ A.mT + torch.eye(n)
    return {
        "definite": definite,
        "indefinite": definite - 3 * torch.eye(n),
        "unsymmetric": definite + torch.triu(A, 1),
    }[kind]


@pytest.mark.parametrize("kind", ["definite", "indefinite", "unsymmetric"])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_solves_in_as_many_products_as_unknowns(kind, n):
    """The initial memory holds fewer than 40 directions."""
    A, b = matrix(n, kind), randn(n, seed=1)
    d, rest = conjugate_residuals(lambda v: A @ v, b.clone(), 1e-8, max_products=n + 2)
    assert float(rest.norm()) <= 1e-8
    assert relative(b - A @ d, rest) <= 1e-3 or float((b - A @ d).norm()) <= 2e-8
    assert relative(d, torch.linalg.solve(A, b)) <= 1e-6


def test_products_are_of_vectors_of_the_given_length():
    A, b, lengths = matrix(8, "definite"), randn(8, seed=1), []

    def product(v):
        lengths.append(float(v.norm()))
        return A @ v

    d, _ = conjugate_residuals(product, b.clone(), 1e-9, length=1e-5, max_products=10)
    assert lengths == pytest.approx([1e-5] * len(lengths))
    assert relative(A @ d, b) <= 1e-8


def test_the_residual_does_not_grow_and_the_budget_is_respected():
    A, b, calls = matrix(40, "indefinite"), randn(40, seed=1), []
    sizes = [float(b.norm())]
    for budget in range(1, 12):
        calls.clear()
        d, rest = conjugate_residuals(
            lambda v: calls.append(1) or A @ v, b.clone(), 1e-12, max_products=budget
        )
        assert d is None
        assert len(calls) == budget
        sizes.append(float(rest.norm()))
    assert all(new <= old * (1 + 1e-14) for old, new in itertools.pairwise(sizes))


def test_a_small_residual_needs_no_product():
    d, rest = conjugate_residuals(lambda v: v * torch.nan, randn(3), 1e3, max_products=5)
    assert torch.equal(d, torch.zeros(3).double())
    assert torch.equal(rest, randn(3))


def test_a_product_that_is_not_finite_ends_the_solve():
    d, _ = conjugate_residuals(lambda v: v * torch.nan, randn(3), 1e-9, max_products=5)
    assert d is None


def test_a_product_may_return_its_argument():
    d, _ = conjugate_residuals(lambda v: v, randn(3), 1e-9, max_products=2)
    assert relative(d, randn(3)) <= 1e-12
