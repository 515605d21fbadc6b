"""The energy integral is one more equation, solved by the same step."""

import math

import numpy as np
import pytest
import torch

from gflow.solvers.explicit import Dop853, Tsit5
from gflow.solvers.rkc2 import RKC2
from gflow.solvers.rock4 import ROCK4
from tests.helpers import randn
from tests.solvers.steps import step

CASES = [(Tsit5(), 6), (Dop853(), 12), (ROCK4(), 5), (ROCK4(), 9)]
CASES += [(RKC2(), stages) for stages in (2, 3, 9)]
IDS = [f"{method.name}-{stages}" for method, stages in CASES]
A = randn(3, 3, seed=1)


def velocity(t, Y):
    return torch.sin(Y @ A.to(Y)) - t * Y


def rate(t, Y):
    return (Y.square().sum(dim=1) + t) * torch.cos(Y[:, 0])


def with_rates(method, y, h, stages):
    """A step of the states, and the rate at every evaluation."""
    rates = [rate(0.3, y)]

    def increment(c, Y, out=None):
        rates.append(rate(0.3 + c * h, Y))
        return torch.mul(velocity(0.3 + c * h, Y), h, out=out)

    return method.step(increment, y, h * velocity(0.3, y), stages), torch.stack(rates).numpy()


@pytest.mark.parametrize(("method", "stages"), CASES, ids=IDS)
def test_energy_is_the_last_component_of_a_larger_system(method, stages):
    y, h = randn(4, 3, seed=2), 0.2

    def augmented(t, Z):
        return torch.cat([velocity(t, Z[:, :3]), rate(t, Z[:, :3])[:, None]], dim=1)

    alone, rates = with_rates(method, y, h, stages)
    larger = step(method, augmented, 0.3, torch.cat([y, torch.zeros(4, 1).double()], 1), h, stages)
    integral, error = torch.as_tensor(h * method.energy(rates, stages))
    assert torch.allclose(larger.y[:, :3], alone.y, rtol=1e-13)
    assert torch.allclose(integral, larger.y[:, 3], rtol=1e-12, atol=1e-14)
    if not isinstance(method, Dop853):  # it combines two estimates of different orders
        assert torch.allclose(error, larger.error[:, 3], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("method", "stages"), CASES, ids=IDS)
def test_energy_error_follows_the_estimate_s_order(method, stages):
    y = randn(4, 3, seed=3)
    errors = []
    for h in (0.1, 0.05):
        rates = with_rates(method, y, h, stages)[1]
        errors.append(abs(h * method.energy(rates, stages)[1]).max())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(method.error_order, abs=0.6)


@pytest.mark.parametrize(("method", "stages"), CASES, ids=IDS)
def test_a_single_start_has_the_energy_of_a_member(method, stages):
    rates = with_rates(method, randn(4, 3, seed=6), 0.1, stages)[1]
    single = [method.energy(column, stages) for column in rates.T]
    together = method.energy(rates, stages)
    # The error is a small difference of the rates, whose round-off it has.
    assert np.allclose(
        np.stack(single, axis=1), together, rtol=1e-13, atol=1e-15 * abs(rates).max()
    )
