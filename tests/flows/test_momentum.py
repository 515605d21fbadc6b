"""Heavy-ball descent on a quadratic, whose solution is known in closed form."""

import math

import pytest
import torch

import gflow
from gflow.flows import FactorFlow, KernelFlow
from gflow.flows.momentum import inertia, slow_start, time_unit
from tests.helpers import relative, times


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_factors(beta):
    assert time_unit(0.02, beta) == pytest.approx(0.02 / (1 - beta), rel=1e-15)
    assert inertia(beta) == pytest.approx((1 + beta) / (1 - beta), rel=1e-15)


def test_without_momentum_the_start_is_that_of_descent():
    flow, U = FactorFlow.example()
    assert slow_start(flow, U, 0.1, 0.0) is U


@pytest.mark.parametrize("beta", [0.3, 0.7])
def test_the_start_is_that_of_the_slow_mode(beta):
    """Descent on ½λθ² is A z₁^k + B z₂^k from rest; the flow starts at A up to O(η²)."""
    flow = KernelFlow(torch.eye(1).double() * 1.5, times(0.0))
    errors = []
    for eta in (1e-3, 5e-4):
        b = 1 + beta - eta * 1.5
        root = math.sqrt(b * b - 4 * beta)
        z1, z2 = (b + root) / 2, (b - root) / 2
        A = (1 - eta * 1.5 - z2) / (z1 - z2)  # θ_0 = 1, θ_1 = 1 − ηλ
        start = slow_start(flow, times(1.0), time_unit(eta, beta), beta)
        errors.append(abs(A - float(start)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.05)


def test_descent_approaches_the_flow_from_the_corrected_start():
    flow, beta = KernelFlow(torch.eye(1).double(), times(0.0)), 0.5
    gaps = []
    for eta in (4e-3, 2e-3):
        gd = gflow.descend(flow, times(1.0), eta, round(1 / eta), momentum=beta)
        start = slow_start(flow, times(1.0), time_unit(eta, beta), beta)
        modified = 1 + 0.5 * time_unit(eta, beta) * inertia(beta)  # rate of the modified flow
        gaps.append(relative(gd.ys[-1], start * torch.exp(-modified * gd.ts[-1])))
    assert math.log2(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.1)
