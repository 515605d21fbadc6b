"""Closed form, learning times and bound from the eigendecomposition."""

import torch

from gflow.flows import KernelFlow
from tests.helpers import gram, randn, relative, times


def test_bound():
    flow = KernelFlow(gram(5, 8), randn(5, seed=1))
    u0 = randn(5, seed=2)
    ts = times(0.0, 0.5, 2.0, 10.0, 1e3, 1e6)
    us = flow.exact(ts, u0)
    assert flow.bound_holds(ts, us, u0).all()
    lam = torch.linalg.eigvalsh(flow.H)[0]
    truth = torch.exp(-2 * lam * ts) * (u0 - flow.targets).square().sum()
    assert relative(flow.residual_bound(ts, u0), truth) <= 1e-12
    slower = flow.targets + (us - flow.targets) * 1.01
    assert flow.bound_holds(ts, us, u0)[1:3].all()
    along = torch.linalg.eigh(flow.H)[1][:, 0]  # the bound is attained here
    tight = flow.exact(ts, flow.targets + along)
    assert flow.bound_holds(ts, tight, flow.targets + along).all()
    late = flow.targets + 1.01 * (tight - flow.targets)
    assert not flow.bound_holds(ts, late, flow.targets + along)[:3].any()
    assert slower.shape == us.shape


def test_slack_of_the_bound():
    flow = KernelFlow(gram(5, 8), randn(5, seed=1))
    ts, u0 = times(0.0, 0.5, 2.0, 10.0), randn(5, seed=2)
    slack = flow.bound_slack(ts, flow.exact(ts, u0), u0)
    assert abs(float(slack[0])) <= 1e-14
    assert (slack[1:] > 0).all()
    along = flow.targets + torch.linalg.eigh(flow.H)[1][:, 0]
    assert flow.bound_slack(ts, flow.exact(ts, along), along).abs().max() <= 1e-13


def test_learning_times_energies_and_dimension():
    lam = times(0.0, 0.5, 2.0, 8.0)
    V = torch.linalg.qr(randn(4, 4))[0]
    H = V @ torch.diag(lam) @ V.mT
    weights = times(1.0, 2.0, 3.0, 4.0)
    flow = KernelFlow(0.5 * (H + H.mT), V @ weights)
    u0 = torch.zeros(4).double()
    assert relative(flow.learning_times[:3], times(0.125, 0.5, 2.0)) <= 1e-14
    assert flow.learning_times[3] == float("inf")
    assert relative(flow.target_energy(u0), times(16.0, 9.0, 4.0, 1.0) / 30) <= 1e-14
    assert not flow.target_energy(flow.targets).any()
    ts = times(0.0, 0.3, 5.0)
    expected = torch.stack(
        [torch.trace(H @ torch.linalg.inv(H + torch.eye(4).double() / t)) for t in ts[1:]]
    )
    assert relative(flow.effective_dimension(ts)[1:], expected) <= 1e-13
    assert flow.effective_dimension([0.0]) == 0
    two_outputs = KernelFlow(flow.H, torch.stack([V @ weights, V @ weights.flip(0)], dim=1))
    energies = times(17.0, 13.0, 13.0, 17.0) / 60
    assert relative(two_outputs.target_energy(torch.zeros(4, 2).double()), energies) <= 1e-14
