"""The networks of one width: their start, their descent, and the descent of their kernel."""

import pytest
import torch

from gflow.flows import KernelFlow
from gflow.kernels import two_layer_relu_gram
from gflow.solvers import SolveOptions
from gflow.studies.width_experiment import (
    WidthExperiment,
    random_networks,
    train,
)
from tests.helpers import randn

N, D = 8, 4
X = torch.nn.functional.normalize(randn(N, D), dim=1)
Y = torch.sign(randn(N, seed=3))
X_TEST = torch.nn.functional.normalize(randn(5, D, seed=8), dim=1)
H = two_layer_relu_gram(X)


def experiment(step_size, epochs):
    kernel = KernelFlow(H, Y)
    return WidthExperiment(
        kernel, None, step_size, epochs, SolveOptions(), lambda name, t_end: None
    )


def test_networks_are_random_and_reproducible():
    flow, W = random_networks(X, Y, 5000, [4, 7])
    again, _ = random_networks(X, Y, 5000, [7])
    assert torch.equal(flow.signs[1], again.signs[0])
    assert not torch.equal(W[0], W[1])
    assert set(flow.signs.flatten().tolist()) == {-1.0, 1.0}
    assert abs(float(flow.signs.mean())) < 0.05
    assert abs(float(W.mean())) < 0.02
    assert float(W.var()) == pytest.approx(1, abs=0.03)
    flow, _ = random_networks(X, torch.zeros(N, 3).double(), 6, [0])
    assert flow.signs.shape == (1, 6, 3)


def test_a_single_seed_can_diverge():
    """Between the stability limits of narrow networks, computed from their kernels."""
    flow, W = random_networks(X, Y, 4, range(6))
    sharpness = torch.linalg.eigvalsh(flow.gram(W))[:, -1]
    step = 2.6 / float(sharpness.median())
    measured, diverged = train(experiment(step, (0, 1, 400)), flow, W, "")
    diverges = [at is not None for at in diverged]
    assert 0 < sum(diverges) < 6
    for j in range(6):
        assert bool(torch.isfinite(measured["parameter_distance"][j]).all()) != diverges[j]


def test_groups_of_seeds_in_descent_change_nothing(monkeypatch):
    flow, W = random_networks(X, Y, 16, range(3))
    together, _ = train(experiment(0.1, (0, 1, 9)), flow, W, "")
    monkeypatch.setattr("gflow.studies.width_experiment._GROUP_SIZE", 1)
    alone, diverged = train(experiment(0.1, (0, 1, 9)), flow, W, "")
    assert diverged == [None] * 3
    for name, values in together.items():
        assert float((alone[name] - values).abs().max()) <= 1e-12, name
