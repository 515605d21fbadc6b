"""Derivatives of an objective, against torch.autograd.functional on each vector."""

import pytest
import torch

from gflow.flows.objective.differentiation import (
    derivative,
    gradient_and_product,
    gradient_by_torch_func,
    hessian,
    map_over_ensemble,
    value,
    value_and_gradient,
)
from tests.helpers import randn, relative


def objective(x):
    return (torch.sin(x) * x.roll(1)).sum() + (x**4).sum() / 4


def branching(x):
    """The same with a branch on a value, which vmap does not support."""
    return objective(x) if x.sum().item() > -1e9 else x.sum()


def dense(x):
    gradient = torch.autograd.functional.jacobian(objective, x)
    return gradient, torch.autograd.functional.hessian(objective, x)


@pytest.mark.parametrize("function", [objective, branching])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_first_and_second_derivatives_of_one_vector_and_of_ensembles(function, batch):
    theta, v = randn(*batch, 4), randn(*batch, 4, seed=1)
    vectors, directions = theta.reshape(-1, 4), v.reshape(-1, 4)
    gradients, hessians = map(torch.stack, zip(*map(dense, vectors), strict=True))
    products = (hessians @ directions[..., None])[..., 0]
    values = torch.stack([objective(x) for x in vectors])
    assert relative(value(function, theta)[0].reshape(-1), values) <= 1e-15
    loss, gradient = value_and_gradient(function, theta)
    assert relative(loss.reshape(-1), values) <= 1e-15
    assert gradient.shape == theta.shape
    assert relative(gradient.reshape(-1, 4), gradients) <= 1e-14
    assert relative(gradient_by_torch_func(function, theta)[0].reshape(-1, 4), gradients) <= 1e-14
    gradient, product = gradient_and_product(function, theta, v)
    assert relative(gradient.reshape(-1, 4), gradients) <= 1e-14
    assert relative(product.reshape(-1, 4), products) <= 1e-13
    own_hvps = gradient_and_product(function, theta)[1].reshape(-1, 4)
    assert relative(own_hvps, (hessians @ gradients[..., None])[..., 0]) <= 1e-13
    assert relative(derivative(function, theta, v).reshape(-1, 4), products) <= 1e-13


def test_hessian_products_at_one_vector():
    theta, v = randn(4), randn(4, seed=1)
    product = hessian(objective, theta)
    for w in (v, 2 * v):
        assert relative(product(w), dense(theta)[1] @ w) <= 1e-13


def test_third_derivative_is_the_derivative_of_the_hessian():
    theta, v, w = randn(4), randn(4, seed=1), randn(4, seed=2)
    h = 1e-3
    H = [dense(theta + s * h * w)[1] for s in (-2, -1, 1, 2)]
    stencil = (H[0] - 8 * H[1] + 8 * H[2] - H[3]) @ v / (12 * h)
    assert relative(derivative(objective, theta, v, w), stencil) <= 1e-9


def test_results_can_be_differentiated_by_the_caller():
    theta = randn(4).requires_grad_()
    gradient = value_and_gradient(objective, theta)[1]
    (row,) = torch.autograd.grad(gradient[1], theta)
    assert relative(row, dense(theta.detach())[1][1]) <= 1e-13
    assert not value_and_gradient(objective, theta.detach())[1].requires_grad


def test_inside_a_transform_of_torch_func():
    theta = randn(4)
    H = dense(theta)[1]
    assert relative(torch.func.jacrev(lambda x: value_and_gradient(objective, x)[1])(theta), H) <= (
        1e-13
    )
    rows = torch.func.vmap(lambda v: gradient_and_product(objective, theta, v)[1])(torch.eye(4))
    assert relative(rows.double(), H) <= 1e-13


def test_affine_objectives_have_no_curvature():
    theta, v = randn(4), randn(4, seed=1)
    assert not gradient_and_product(torch.sum, theta, v)[1].any()
    assert not hessian(torch.sum, theta)(v).any()
    assert not derivative(torch.sum, theta, v, v).any()


def test_an_error_of_the_function_itself_is_raised():
    def broken(x):
        raise RuntimeError("of the function")

    with pytest.raises(RuntimeError, match="of the function"):
        map_over_ensemble(broken, randn(2, 3))
