"""Factors of each eigenmode, against exact arithmetic and closed forms."""

import decimal
import math

import pytest
import torch

from gflow.errors import InputError
from gflow.flows.gram.modes import (
    descent_factors,
    effective_dimension,
    flow_factors,
    require_steps,
)


@pytest.mark.parametrize("share", [1e-12, 1e-6, 0.3, 0.5, 0.7, 1 - 1e-9])
@pytest.mark.parametrize("k", [1, 10**3, 10**6 + 1, 10**9])
def test_powers_are_accurate_for_many_steps(share, k):
    """Against the same powers in 60 digits, for eigenvalues that are exact."""
    lam = torch.tensor([1.0, 0.25], dtype=torch.float64)
    eta = 2 * share
    power, moved = descent_factors(lam, eta, torch.tensor([k]))
    with decimal.localcontext(prec=60, Emin=-(10**12), Emax=10**12):
        for i, value in enumerate(lam.tolist()):
            z = decimal.Decimal(eta) * decimal.Decimal(value)
            exact = (1 - z) ** k
            assert abs(float(exact) - float(power[0, i])) <= 1e-14
            expected = float((1 - exact) / decimal.Decimal(value))
            assert float(moved[0, i]) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("t", [0.0, 1e-8, 0.3, 40.0])
def test_flow_factors_are_the_exponential_and_its_integral(t):
    lam = torch.tensor([0.0, 1e-9, 0.5, 20.0], dtype=torch.float64)
    decay, integral = flow_factors(lam, torch.tensor([t], dtype=torch.float64))
    for i, rate in enumerate(lam.tolist()):
        assert float(decay[0, i]) == pytest.approx(math.exp(-rate * t), rel=1e-15)
        expected = -math.expm1(-rate * t) / rate if rate else t
        assert float(integral[0, i]) == pytest.approx(expected, rel=1e-15)


def test_descent_in_the_null_space_moves_by_step_size_times_steps():
    power, integral = descent_factors(torch.zeros(1).double(), 0.1, torch.tensor([0, 3, 10**9]))
    assert power.tolist() == [[1.0]] * 3
    assert integral.flatten().tolist() == [0.0, 0.1 * 3, 0.1 * 10**9]


def test_effective_dimension_counts_the_modes_that_are_learned():
    lam = torch.tensor([0.0, 0.1, 1.0, 10.0], dtype=torch.float64)
    ts = torch.tensor([0.0, 0.5, 1e12], dtype=torch.float64)
    expected = [0.0, sum(x / (x + 2.0) for x in lam.tolist()), 3.0]
    assert effective_dimension(lam, ts).tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("steps", [[-1], [0.5], 3, [[1]], [1j]])
def test_steps_must_be_a_vector_of_integers(steps):
    with pytest.raises(InputError, match="steps must"):
        require_steps(steps, 0.1)
