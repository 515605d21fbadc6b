"""When rkc2 replaces the second method, and when the second method is tried again."""

import numpy as np
import pytest
import torch

from gflow.solvers.loop import rival
from gflow.solvers.loop.switching import RIVAL, SECOND
from gflow.solvers.rkc2 import RKC2
from tests.solvers.loop.test_switching import ROWS, members
from tests.solvers.potentials import Bernoulli
from tests.solvers.steps import step


def test_the_error_of_the_rival_is_that_of_an_rkc2_step():
    flow, y = Bernoulli([1.0, 20.0]), torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    rkc2_step = step(RKC2(), flow, 0.0, y, 0.2, 4)
    result = rival.rival_error(y, 0.2 * flow(0.0, y), rkc2_step.y, rkc2_step.k)
    assert float(result) == pytest.approx(float(rkc2_step.error.norm()))


def test_cost_of_the_rival():
    """(2 + √(1 + 1.54 hρ))/h evaluations per unit of time, for the h that its error allows."""
    m = members(radius=100.0)
    for error, longest in ((1.0, 1.0), (1e-9, 2.0), (8.0, 0.5)):
        price = (2 + np.sqrt(1 + 1.54 * longest * 100.0)) / longest
        for spent, cheaper in ((price / 0.69, True), (price / 0.71, False)):
            result = rival.rival_is_cheaper(
                m, ROWS[:1], np.array([spent]), np.ones(1), np.array([error])
            )
            assert result.tolist() == [cheaper]


def test_pauses_of_the_rival_grow():
    """Whenever the second method loses, it is tried again after twice as long."""
    m, waits = members(method=SECOND), []
    for _ in range(4):
        rival.to_rival(m, ROWS[:1])
        assert m.method[0] == RIVAL
        count = 0
        while m.method[0] == RIVAL:
            rival.from_rival(m, ROWS[:1], np.array([3]))
            count += 1
        waits.append(count)
    assert waits == [40, 80, 160, 320]
    rival.to_rival(m, ROWS[:1])
    for _ in range(64):
        assert not len(rival.from_rival(m, ROWS[:1], np.array([30]))) or m.method[0] != RIVAL
    assert m.method[0] == SECOND  # steps of many stages count ten times
