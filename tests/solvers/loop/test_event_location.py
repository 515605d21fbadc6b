"""Events: the solve of a member stops where a function of its state falls to zero."""

import math

import numpy as np
import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.events import first_of, gradient_norm_reaches, loss_reaches, rank_reaches
from gflow.flows import KernelFlow
from gflow.solvers.loop import event_location
from gflow.solvers.loop.members import Members
from tests.helpers import times
from tests.solvers.loop.cases import FLOW, GFLOW_METHODS, STARTS, tolerance


@pytest.mark.parametrize("method", ["auto", *GFLOW_METHODS])
def test_an_event_is_located_to_the_tolerance(method):
    """u = e^{−t}: ½u² reaches ½e^{−2c} at c, to within the error of the method."""
    flow = KernelFlow(torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    u0 = times(1.0, 0.0)
    event = loss_reaches(flow, 0.5 * math.exp(-2 * 3.21))
    rtol = 0.01 * tolerance(method)
    path = gflow.integrate(flow, u0, [0.0, 1.0, 100.0], method, rtol, 1e-12, until=event)
    assert path.event_times[0] == pytest.approx(3.21, abs=200 * rtol)
    assert abs(float(event(path.ends))) <= 1e-10
    assert path.ts.tolist() == [0.0, 1.0, path.event_times[0]]
    assert torch.equal(path.ys[-1], path.ends)
    assert path.certificate.holds


def test_every_member_stops_at_its_event():
    event = loss_reaches(FLOW, 1e-4)
    path = gflow.integrate(FLOW, STARTS, [0.0, 1.0, 1e4], until=event)
    assert set(path.event_times) == {0, 1, 2, 3}
    assert [path.event_times[i] for i in range(4)] == sorted(path.event_times.values())[::-1]
    assert torch.allclose(FLOW.loss(path.ends), torch.full((4,), 1e-4).double(), rtol=1e-6)
    for i, y in enumerate(STARTS):
        single = gflow.integrate(FLOW, y, [0.0, 1e4], until=event)
        assert path.event_times[i] == pytest.approx(single.event_times[0], rel=1e-4)


def test_events_of_gradient_and_rank_and_the_first_of_several():
    start = 1e-3 * torch.eye(3, dtype=torch.float64)
    small = gradient_norm_reaches(FLOW, 1e-5)
    second = rank_reaches(FLOW, 2, 1.0)
    to_rank = gflow.integrate(FLOW, start, [0.0, 1e3], until=second)
    assert float(torch.linalg.svdvals(to_rank.ends)[1]) == pytest.approx(1.0, rel=1e-6)
    to_gradient = gflow.integrate(FLOW, start, [0.0, 1e3], until=small)
    assert float(FLOW(0.0, to_gradient.ends).norm()) == pytest.approx(1e-5, rel=1e-5)
    to_first = gflow.integrate(FLOW, start, [0.0, 1e3], until=first_of(small, second))
    assert to_first.event_times[0] == pytest.approx(to_rank.event_times[0], rel=1e-9)
    with pytest.raises(InputError, match="rank must be a whole number of at least 1, got 0"):
        rank_reaches(FLOW, 0, 1.0)


def test_events_that_never_occur_and_that_occurred_before_the_start():
    never = gflow.integrate(FLOW, STARTS[2], [0.0, 1.0], until=loss_reaches(FLOW, 1e-30))
    assert not never.event_times
    assert never.ts.tolist() == [0.0, 1.0]
    at_once = gflow.integrate(FLOW, STARTS[2], [0.0, 1.0], until=loss_reaches(FLOW, 1e9))
    assert at_once.event_times == {0: 0.0}
    assert at_once.ts.tolist() == [0.0]


# -- brackets ---------------------------------------------------------------------------


def members(event=1.0):
    y = torch.zeros(1, 1, dtype=torch.float64)
    m = Members.start(y, y, 0.0)
    m.event[:] = event
    return m


def narrow(m, step, event, good=True, rtol=1e-6):
    """Return whether a step of the only member may be accepted."""
    accepted = event_location.narrow(
        m, np.arange(1), np.array([good]), np.array([step]), np.array([event]), rtol
    )
    return bool(accepted[0])


def test_a_step_before_any_event_is_accepted():
    m = members()
    assert narrow(m, 1.0, 0.5)
    assert not event_location.bracketed(m)[0]


def test_regula_falsi_closes_in_on_the_event():
    """The event is at √½ of the step; once bracketed, no step that ends before it is accepted."""
    m, taken = members(0.5), 0
    assert not narrow(m, 1.0, -0.5)
    assert (m.low[0], m.high[0]) == (0.0, 1.0)
    while True:
        step = float(event_location.proposal(m, 1e-6)[0])
        taken += 1
        if narrow(m, step, 0.5 - step**2):
            break
    assert 0 <= step - 0.5**0.5 <= 2e-9
    assert taken <= 12


def test_a_rejected_step_discards_the_bracket():
    m = members()
    narrow(m, 1.0, -0.5)
    assert not narrow(m, 0.5, -0.1, good=False)
    assert not event_location.bracketed(m)[0]
    assert np.isnan(event_location.proposal(m, 1e-6)[0])


def test_a_step_that_does_not_reach_its_event_again_is_taken():
    """Its right-hand side has other round-off in an ensemble of another size."""
    y = torch.zeros(1, 1)
    m = Members.start(y, y, 0.0)
    row, good = np.arange(1), np.array([True])
    m.event[:], m.low[:], m.high[:], m.event_low[:], m.event_high[:] = 3.0, 1 - 1e-9, 1.0, 1.0, -1.0
    step = event_location.proposal(m, 1e-3)
    assert step.tolist() == [1.0]
    assert event_location.narrow(m, row, good, step, np.array([1e-12]), 1e-3).tolist() == [True]
    assert not event_location.bracketed(m).any()
