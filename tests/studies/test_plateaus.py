"""Plateaus of paths whose jumps are known, and those of diagonal networks."""

import math

import numpy as np
import pytest
import torch

import gflow
from gflow.baselines import saddle_sequence
from gflow.errors import InputError
from gflow.studies import plateaus
from tests.helpers import randn


def test_independent_modes_jump_at_their_half_times():
    """W = UUᵀ and diag(3, 2, 1): w_j = m_j/(1 + (m_j/ε − 1)e^{−4 m_j t})."""
    target = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    epsilon = 1e-20
    flow = gflow.FactorFlow(gflow.losses.SquaredDistance(target))
    ts = torch.linspace(0, 16, 401, dtype=torch.float64)
    start = math.sqrt(epsilon) * torch.eye(3, dtype=torch.float64)
    path = gflow.integrate(flow, start, ts, rtol=1e-6, atol=1e-15)
    found = plateaus(path, shortest=0.02)
    assert list(found.losses) == pytest.approx([7.0, 2.5, 0.5, 0.0], abs=1e-2)
    assert found.active == ((), (0,), (0, 1), (0, 1, 2))
    halves = [math.log(m / epsilon - 1) / (4 * m) for m in (3.0, 2.0, 1.0)]
    assert [found.half_times[i] for i in range(3)] == pytest.approx(halves, abs=5e-3)
    # The loss is half-way a little earlier: (m − w)² is half at w = m(1 − 1/√2).
    crossing = [
        h - math.log(math.sqrt(2) + 1) / (4 * m) for h, m in zip(halves, (3, 2, 1), strict=True)
    ]
    assert list(found.times) == pytest.approx(crossing, abs=1e-2)
    halved = plateaus(path, shortest=0.02, unit=2.0)
    assert halved.times[0] == pytest.approx(found.times[0] / 2)
    ds = halved.to_dataset()
    np.testing.assert_allclose(ds["jump_time"], found.times)
    assert ds["active_modes"].values.tolist() == [0, 1, 2, 3]
    assert "jumps at" in repr(found)
    assert found.plot().get_title().startswith("3 jumps between plateaus, at t = ")


def test_jumps_of_a_diagonal_network_are_those_of_the_saddles():
    """An entry that is switched off again is in both."""
    X, y = randn(6, 10, seed=21), randn(6, seed=22)
    saddles = saddle_sequence(X, y)
    flow = gflow.DiagonalFlow(X, y)
    log_alpha, end = -1000 * math.log(10), 0.5 * float(saddles.times[3] + saddles.times[4])
    ts = torch.linspace(0, -0.5 * end * log_alpha, 401, dtype=torch.float64)
    path = gflow.integrate(flow, flow.start(log_scale=log_alpha), ts)
    found = plateaus(path, unit=-log_alpha / 2, flat=0.003, shortest=2e-3)
    expected = saddles.times[saddles.times < end].tolist()
    assert list(found.times) == pytest.approx(expected, abs=0.005 * end)
    for weights, active, loss in zip(saddles.weights, found.active, found.losses, strict=False):
        assert set(active) <= set(torch.nonzero(weights)[:, 0].tolist())
        assert loss == pytest.approx(float(gflow_loss(X, y, weights)), rel=0.02, abs=1e-3)


def gflow_loss(X, y, w):
    return (X @ w - y).square().sum() / (2 * len(y))


def test_saddles_end_at_a_minimum_and_keep_their_conditions():
    X, y = randn(6, 10, seed=1), randn(6, seed=2)
    found = saddle_sequence(X, y)
    assert bool((found.losses.diff() < 1e-15).all())
    assert bool((found.times.diff() > 0).all())
    assert float(found.losses[-1]) <= 1e-20
    for w in found.weights[1:]:
        slope = X.T @ (X @ w - y)
        assert float((slope * w).abs().max()) <= 1e-9  # stationary in the entries that are on
    assert len(saddle_sequence(X, y, 2).times) == 2


def test_paths_without_modes_and_other_arguments():
    flow, start = gflow.KernelFlow.example()
    path = gflow.integrate(flow, start, torch.linspace(0, 1, 11).double())
    found = plateaus(path, flat=0.9)
    assert found.active == ((),)
    assert found.times == ()
    assert not found.half_times
    with pytest.raises(InputError, match="needs a trajectory, got FactorFlow"):
        plateaus(gflow.FactorFlow.example()[0])
    ensemble = gflow.integrate(flow, torch.stack([start, start]), [0.0, 1.0])
    with pytest.raises(InputError, match="the path of one start"):
        plateaus(ensemble)
    with pytest.raises(InputError, match=r"targets \(n,\)"):
        saddle_sequence(randn(3, 2), randn(2))
