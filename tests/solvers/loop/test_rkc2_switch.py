"""When rkc2 replaces the high-order method, and when the high-order method is tried again."""

import numpy as np
import pytest
import torch

from gflow.solvers.loop import rkc2_switch
from gflow.solvers.loop.switching import HIGH_ORDER, RKC2_METHOD
from gflow.solvers.rkc2 import RKC2
from tests.solvers.loop.test_switching import ROWS, members
from tests.solvers.potentials import Bernoulli
from tests.solvers.steps import step


def test_the_error_estimate_is_that_of_an_rkc2_step():
    flow, y = Bernoulli([1.0, 20.0]), torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    rkc2_step = step(RKC2(), flow, 0.0, y, 0.2, 4)
    result = rkc2_switch.rkc2_error_of_step(y, 0.2 * flow(0.0, y), rkc2_step.y, rkc2_step.k)
    assert float(result) == pytest.approx(float(rkc2_step.error.norm()))


def test_cost_of_rkc2():
    """(2 + √(1 + 1.54 hρ))/h evaluations per unit of time, for the h that its error allows."""
    m = members(radius=100.0)
    for error, longest in ((1.0, 1.0), (1e-9, 2.0), (8.0, 0.5)):
        price = (2 + np.sqrt(1 + 1.54 * longest * 100.0)) / longest
        for spent, cheaper in ((price / 0.69, True), (price / 0.71, False)):
            result = rkc2_switch.rkc2_is_cheaper(
                m, ROWS[:1], np.array([spent]), np.ones(1), np.array([error]), 1e-3
            )
            assert result.tolist() == [cheaper]


def test_a_growing_mode_limits_the_steps_of_rkc2():
    """At rtol 1e-6 it follows a mode of rate 1 in steps of 0.0036, so nothing is cheaper."""
    m = members(radius=100.0)
    price = (2 + np.sqrt(1 + 1.54 * 100.0)) / 0.69
    arguments = m, ROWS[:1], np.array([price]), np.ones(1), np.ones(1)
    assert rkc2_switch.rkc2_is_cheaper(*arguments, 1e-6).tolist() == [True]
    m.growth[:] = 1.0
    assert rkc2_switch.rkc2_is_cheaper(*arguments, 1e-6).tolist() == [False]


def test_pauses_of_the_high_order_method_grow():
    """Whenever the high-order method loses, it is tried again after twice as long."""
    m, waits = members(method=HIGH_ORDER), []
    for _ in range(4):
        rkc2_switch.switch_to_rkc2(m, ROWS[:1])
        assert m.method[0] == RKC2_METHOD
        count = 0
        while m.method[0] == RKC2_METHOD:
            rkc2_switch.switch_from_rkc2(m, ROWS[:1], np.array([3]))
            count += 1
        waits.append(count)
    assert waits == [40, 80, 160, 320]
    rkc2_switch.switch_to_rkc2(m, ROWS[:1])
    for _ in range(64):
        moved = rkc2_switch.switch_from_rkc2(m, ROWS[:1], np.array([30]))
        assert not len(moved) or m.method[0] != RKC2_METHOD
    assert m.method[0] == HIGH_ORDER  # steps of many stages count ten times
