"""A loss that is lost to round-off is reported; one that is resolved, however small, is not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gflow
from gflow.flows.base import gradient_of
from gflow.losses import SquaredDistance
from gflow.trajectory.underflow import underflow
from tests.helpers import times
from tests.solvers.potentials import Potential

X = torch.tensor([[1.0, 0.5], [2.0, -1.0], [-1.5, 0.3], [-1.0, -2.0]], dtype=torch.float64)
LABELS = (X[:, 0] > 0).long()
SIGNS = 2.0 * LABELS.double() - 1


def flow_of(loss, size=2):
    return Potential(size, loss, lambda y: gradient_of(loss, y))


# The path of a linear classifier w·s as s grows: losses of the margins.
LOSSES = {
    "cross-entropy": lambda m: F.cross_entropy(
        torch.stack([-m * SIGNS, m * SIGNS], 1) / 2, LABELS.expand(m.shape), reduction="none"
    ),
    "logistic": lambda m: torch.log(1 + torch.exp(-m)),
    "logits": lambda m: F.binary_cross_entropy_with_logits(
        m * SIGNS, LABELS.double().expand_as(m), reduction="none"
    ),
    "saturated": lambda m: (1 - torch.tanh(m)).square(),
}


def loss_of(name):
    def loss(w):
        margins = (w.reshape(-1, 2) @ X.mT) * SIGNS.to(w)
        values = torch.stack([LOSSES[name](m[None])[0] for m in margins])
        return values.mean(-1).reshape(w.shape[:-1])

    return flow_of(loss)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [60.0, 300.0])
def test_a_saturated_loss_is_reported(name, scale):
    start, end = torch.zeros(2).double(), scale * times(1.0, 0.1)
    assert "the loss has underflowed" in underflow(loss_of(name), start, end)


@pytest.mark.parametrize("name", LOSSES)
def test_a_small_resolved_loss_is_not(name):
    assert underflow(loss_of(name), torch.zeros(2).double(), 9.0 * times(1.0, 0.1)) is None


def test_losses_that_are_accurate_or_flat_in_truth_are_not_reported():
    start = torch.zeros(2).double()
    accurate = flow_of(lambda w: torch.exp(-w[..., 0]) + torch.exp(-w[..., 1]))
    assert underflow(accurate, start, torch.full((2,), 300.0).double()) is None
    hinge = flow_of(lambda w: F.relu(1 - w[..., 0]))
    assert underflow(hinge, start, times(3.0, 0.0)) is None
    quartic = flow_of(lambda w: w.square().sum(-1).square())
    assert underflow(quartic, start + 1, start + 1e-4) is None
    for residual in (0.0, 1e-17, 1e-9):
        square = flow_of(lambda w: (w - 3).square().sum(-1))
        assert underflow(square, start, start + 3 + residual) is None


def test_a_member_of_an_ensemble_is_seen():
    starts = torch.zeros(3, 2).double()
    ends = torch.stack([times(1.0, 0.0), times(90.0, 0.0), times(2.0, 0.0)])
    assert underflow(loss_of("logistic"), starts, ends) is not None
    assert underflow(loss_of("logistic"), starts[:1], ends[:1]) is None


def test_a_late_path_of_separable_data_is_not_certified():
    """The loss falls as 1/t: 0 at t = 1e20 is round-off."""
    flow = gflow.NetworkFlow(torch.nn.Linear(2, 2).double(), F.cross_entropy, X, LABELS)
    early = gflow.integrate(flow, flow.pack(), [0.0, 1e6])
    assert early.certificate.holds
    late = gflow.integrate(flow, flow.pack(), [0.0, 1e20])
    assert not late.certificate.holds
    assert any("the loss has underflowed" in reason for reason in late.certificate.failures())


@pytest.mark.parametrize(("seed", "end"), [(0, 100.0), (0, 300.0), (4, 200.0), (5, 30.0)])
def test_round_off_of_a_squared_loss_near_its_minimum_is_no_underflow(seed, end):
    random = np.random.default_rng(seed)
    data = (torch.tensor(random.normal(size=shape)).float() for shape in ((4, 7), (4,)))
    flow = gflow.DiagonalFlow(*data)
    path = gflow.integrate(flow, flow.start(1e-2), [0.0, end], rtol=1e-4)
    assert path.certificate.underflow is None


def test_a_short_way_in_logarithms_leads_far_from_the_end():
    target = torch.diag(torch.tensor([3.0, 2.5, 1.0])).double()
    flow = gflow.SpectralFlow(SquaredDistance(target), symmetric=True)
    start = flow.start(log_scale=-1000.0)
    end = start.clone()
    end[:3] = target.diagonal().log() + 1e-9
    assert underflow(flow, start, end) is None
