"""Rates of singular values and vectors, against the velocity of W itself."""

import pytest
import torch

from gflow.flows import end_to_end_rhs, product_rhs
from gflow.flows.singular.rates import mode_rates, reference_rates
from tests.helpers import randn, relative


def modes(m, n, r, spread=1.0):
    U, V = (torch.linalg.qr(randn(size, size, seed=size))[0][:, :r] for size in (m, n))
    return spread * torch.linspace(0.0, -1.0, r, dtype=torch.float64), U, V


def velocity_of(logs, U, V, rates):
    S = torch.diag(logs.exp())
    dU, dV = U @ rates.left, V @ rates.right
    if rates.outside_left is not None:
        dU = dU + rates.outside_left
    if rates.outside_right is not None:
        dV = dV + rates.outside_right
    growth = torch.diag(rates.scaled.diagonal()) @ S
    return dU @ S @ V.mT + U @ growth @ V.mT + U @ S @ dV.mT


@pytest.mark.parametrize("shape", [(3, 3, 3), (2, 4, 2), (4, 2, 2), (4, 3, 2)])
@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("rates", [mode_rates, reference_rates])
def test_modes_move_as_the_matrix_does(shape, depth, rates):
    m, n, r = shape
    logs, U, V = modes(m, n, r)
    G = randn(m, n, seed=7)
    W = (U * logs.exp()) @ V.mT
    moved = velocity_of(logs, U, V, rates(logs, U, V, G, depth))
    assert relative(moved, end_to_end_rhs(W, G, depth, rank=r)) < 1e-13


def test_a_factor_is_two_layers_with_twice_the_symmetric_gradient():
    logs, U, _ = modes(4, 4, 3)
    G = randn(4, 4, seed=7)
    rates = mode_rates(logs, U, U, G + G.mT, 2)
    assert relative(rates.left, rates.right) < 1e-14
    W = (U * logs.exp()) @ U.mT
    assert relative(velocity_of(logs, U, U, rates), product_rhs(W, G)) < 1e-13


def test_ratios_of_singular_values_alone_matter_for_two_layers():
    """Also where the singular values are below the smallest number."""
    logs, U, V = modes(3, 3, 3, spread=300.0)
    G = randn(3, 3)
    here, below = (mode_rates(x, U, V, G, 2) for x in (logs, logs - 1e6))
    for a, b in zip(here[:3], below[:3], strict=True):
        assert relative(b, a) < 1e-12


def test_equal_singular_values_do_not_turn_by_themselves():
    U = torch.eye(2, dtype=torch.float64)
    rates = mode_rates(torch.zeros(2).double(), U, U, randn(2, 2), 3)
    assert not rates.left.any()
    assert not rates.right.any()
