"""Sums over parts of the samples, in one process; tests/distributed uses several."""

import pytest
import torch

from gflow.flows.objective.differentiation import (
    gradient_and_product,
    gradient_by_torch_func,
    value,
    value_and_gradient,
)
from gflow.flows.objective.split_by_rows import SampleSums
from tests.helpers import randn, relative

X = randn(6, 3)


def part(rows):
    return lambda theta: torch.sin(X[rows] @ theta).square().sum()


def all_samples(theta):
    return part(slice(None))(theta)


class TwoParts:
    """The operations of a team of two processes, computed one after the other."""

    def total(self, function, like):
        # function(*tensors) is bound to the rows of one process: both parts are added here.
        return function

    def concatenation(self, function, n, like):
        return function


def local_sum(summand, *tensors):
    parts = [summand(part(rows), *tensors) for rows in (slice(0, 2), slice(2, 6))]
    return [a + b for a, b in zip(*parts, strict=True)]


def outputs(theta):
    return torch.sin(theta @ X.mT)


SUMS = SampleSums(TwoParts(), local_sum, outputs, len(X), X)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_sums_are_those_of_all_samples(batch):
    theta, v = randn(*batch, 3, seed=1), randn(*batch, 3, seed=2)
    for summand, vs in (
        (value, ()),
        (value_and_gradient, ()),
        (gradient_and_product, (v,)),
        (gradient_by_torch_func, ()),
    ):
        for result, expected in zip(
            SUMS.sum(summand, theta, *vs), summand(all_samples, theta, *vs), strict=True
        ):
            assert relative(result, expected) <= 1e-13
    assert relative(SUMS.outputs(theta), outputs(theta)) <= 1e-15


@pytest.mark.parametrize("summand", [value_and_gradient, gradient_and_product])
def test_sums_can_be_differentiated_twice(summand):
    theta, v, w = randn(3, seed=1), randn(3, seed=2), randn(3, seed=3)

    def second(sums):
        leaf, direction = theta.clone().requires_grad_(), v.clone().requires_grad_()
        vs = (direction,) if summand is gradient_and_product else ()
        results = sums(leaf, *vs)
        inner = sum((r * (w if r.ndim else 1.0)).sum() for r in results)
        (first,) = torch.autograd.grad(inner, leaf, create_graph=True)
        return torch.autograd.grad((first * v).sum(), leaf)[0]

    expected = second(lambda *ys: summand(all_samples, *ys))
    assert relative(second(lambda *ys: SUMS.sum(summand, *ys)), expected) <= 1e-12
