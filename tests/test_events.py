"""Events: their zeros, at which solves stop."""

import math

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.events import first_of, gradient_norm_reaches, loss_reaches, rank_reaches
from gflow.flows import EndToEndFlow, KernelFlow
from gflow.losses import SquaredDistance
from tests.helpers import randn, times

#: u = e^{−t}, φ = ½e^{−2t}, ‖u̇‖ = e^{−t}
DECAY = KernelFlow(torch.eye(1).double(), torch.zeros(1).double())


@pytest.mark.parametrize(
    ("event", "time"),
    [
        (loss_reaches(DECAY, 0.005), math.log(10)),
        (gradient_norm_reaches(DECAY, 0.01), math.log(100)),
        (
            first_of(gradient_norm_reaches(DECAY, 0.01), loss_reaches(DECAY, 0.005)),
            math.log(10),
        ),
    ],
)
def test_a_solve_stops_at_the_event(event, time):
    path = gflow.integrate(
        DECAY, torch.ones(1).double(), [0.0, 100.0], "tsit5", 1e-8, 1e-10, until=event
    )
    assert path.event_times[0] == pytest.approx(time, abs=1e-6)
    assert path.ts.tolist() == [0.0, path.event_times[0]]


def test_each_member_has_its_events():
    u = randn(2, 3, 1)
    for event in (loss_reaches(DECAY, 0.1), gradient_norm_reaches(DECAY, 0.1)):
        assert event(u).shape == (2, 3)
        assert torch.equal(event(u)[1, 2], event(u[1, 2]))


def test_rank_events_follow_the_singular_values():
    flow = EndToEndFlow(SquaredDistance(torch.diag(times(3.0, 2.0, 1.0))), 2)
    W = torch.diag(times(0.9, 0.5, 0.1))
    margins = [float(rank_reaches(flow, rank, 0.6)(W)) for rank in (1, 2, 3)]
    assert margins == pytest.approx([-0.3, 0.1, 0.5], abs=1e-15)
    start = 0.01 * torch.eye(3).double()
    path = gflow.integrate(
        flow, start, [0.0, 50.0], "tsit5", 1e-8, 1e-10, until=rank_reaches(flow, 2, 0.6)
    )
    values = torch.linalg.svdvals(path.ys[-1])
    assert float(values[1]) == pytest.approx(0.6, abs=1e-6)


@pytest.mark.parametrize("rank", [0, -1])
def test_ranks_are_counted_from_one(rank):
    with pytest.raises(InputError, match=f"rank must be a whole number of at least 1, got {rank}"):
        rank_reaches(DECAY, rank, 0.5)
