"""The longest steps that resolve a growing mode, against solves of ẏ = y in such steps."""

import math

import pytest
import torch

from gflow.solvers import bdf
from gflow.solvers.explicit import Dop853, Tsit5
from gflow.solvers.loop.growth_limit import bdf_growth_limit, growth_limit
from gflow.solvers.rkc2 import RKC2
from gflow.solvers.rock4 import ROCK4


def growth_of(method, z, steps, stages):
    """log y after so many steps of ẏ = y."""
    y = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(steps):
        y = method().step(lambda c, Y, out=None: torch.mul(Y, z, out=out), y, z * y, stages).y
    return math.log(float(y))


@pytest.mark.parametrize("rtol", [1e-3, 1e-6])
@pytest.mark.parametrize("method", [Tsit5, Dop853, RKC2, ROCK4])
def test_a_mode_grows_by_e_with_an_error_of_rtol(method, rtol):
    z = growth_limit(method, rtol)
    stages = max(5, method().stages(0.0))
    steps = max(1, round(10 / z))
    error = abs(growth_of(method, z, steps, stages) - steps * z) / (steps * z)
    assert error <= 1.05 * rtol
    if z < 1.9:  # not the longest of all
        longer = abs(growth_of(method, 1.3 * z, steps, stages) / (1.3 * steps * z) - 1)
        assert longer > rtol


@pytest.mark.parametrize("rtol", [1e-3, 1e-6])
@pytest.mark.parametrize("order", range(1, 7))
def test_bdf_follows_a_mode(order, rtol):
    z = bdf_growth_limit(order, rtol)
    times = [-float(j) for j in range(order + 2)]
    weights = bdf.formulas(times, 1.0, order)
    past = [math.exp(z * t) for t in times]
    steps = 200
    for _ in range(steps):
        known = sum(w * y for w, y in zip(weights.slope, past, strict=False))
        past = [-known / (weights.alpha - z), *past[:-1]]
    error = abs(math.log(past[0]) / (steps * z) - 1)
    assert error <= 1.5 * rtol * max(1.0, 0.25 / z)


def test_higher_orders_take_longer_steps():
    for rtol in (1e-3, 1e-6, 1e-9):
        limits = [bdf_growth_limit(order, rtol) for order in range(1, 7)]
        assert limits == sorted(limits)
