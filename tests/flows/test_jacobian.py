"""Jacobian products against the matrix of a linear field and against differences."""

import functools

import pytest
import torch

from gflow.flows.jacobian import jacobian_product
from tests.helpers import randn, relative

A = randn(4, 4)
S = A + A.mT
PRODUCTS = [jacobian_product, functools.partial(jacobian_product, symmetric=True)]


def field(y):
    """Return a field with the symmetric Jacobian S + diag(2y)."""
    return y @ S + y.square()


def test_product_is_that_of_the_matrix_also_where_it_is_not_symmetric():
    y, v = randn(2, 3, 4, seed=1), randn(2, 3, 4, seed=2)
    product = jacobian_product(lambda y: y @ A.mT, y, v)
    assert relative(product, v @ A.mT) <= 1e-14
    assert not product.requires_grad


@pytest.mark.parametrize("product", PRODUCTS)
def test_products_of_an_ensemble_are_those_of_its_members(product):
    y, v = randn(2, 3, 4, seed=1), randn(2, 3, 4, seed=2)
    assert relative(product(field, y, v), v @ S + 2 * y * v) <= 1e-14


@pytest.mark.parametrize("product", PRODUCTS)
def test_products_can_be_differentiated(product):
    y, v = randn(4, seed=1).requires_grad_(), randn(4, seed=2).requires_grad_()
    w = randn(4, seed=3)
    by_y, by_v = torch.autograd.grad(product(field, y, v) @ w, [y, v])
    assert relative(by_y, 2 * v * w) <= 1e-14
    assert relative(by_v, w @ S + 2 * y * w) <= 1e-14
    (only_v,) = torch.autograd.grad(product(field, y.detach(), v) @ w, v)
    assert torch.equal(only_v, by_v)
    with torch.no_grad():
        assert not product(field, y, v).requires_grad


@pytest.mark.parametrize("product", PRODUCTS)
def test_products_in_a_transform(product):
    y, v = randn(3, 4, seed=1), randn(3, 4, seed=2)
    mapped = torch.func.vmap(lambda y, v: product(field, y, v))(y, v)
    assert relative(mapped, v @ S + 2 * y * v) <= 1e-14


@pytest.mark.parametrize("product", PRODUCTS)
def test_products_of_a_constant_field_vanish(product):
    y = randn(4)
    assert torch.equal(product(lambda y: torch.ones(4).double(), y, y), 0 * y)
    assert torch.equal(product(lambda y: 0 * y + 1, y, y), 0 * y)
