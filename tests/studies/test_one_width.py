"""The networks of one width: their start, their descent, and the descent of their kernel."""

import pytest
import torch

from gflow.flows import KernelFlow
from gflow.kernels import two_layer_relu_gram
from gflow.solvers import SolveOptions
from gflow.studies.one_width import (
    WidthExperiment,
    kernel_descent,
    kernel_descent_test,
    random_networks,
    train,
)
from tests.helpers import randn, relative

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


@pytest.mark.parametrize("step_size", [0.1, 0.7])
@pytest.mark.parametrize("k", [None, 3])
def test_kernel_descent_by_powers_is_k_explicit_steps(step_size, k):
    shape = (N,) if k is None else (N, k)
    y, u, v = randn(*shape, seed=4), randn(*shape, seed=5), randn(5, *shape[1:], seed=6)
    to_test, counts, flow = two_layer_relu_gram(X_TEST, X), [0, 1, 2, 7], KernelFlow(H, y)
    fast = kernel_descent(flow, u, step_size, counts)
    fast_test = kernel_descent_test(flow, to_test, u, v, step_size, counts)
    for step in range(8):
        if step in counts:
            i = counts.index(step)
            assert relative(fast[i], u) <= 1e-13
            assert relative(fast_test[i], v) <= 1e-12
        u, v = u - step_size * H @ (u - y), v - step_size * to_test @ (u - y)


def test_kernel_descent_at_test_points_with_a_singular_kernel():
    twice = torch.cat([X, X[:2]])
    flow = KernelFlow(two_layer_relu_gram(twice), torch.cat([Y, Y[:2]]))
    assert float(flow.eigenvalues[0]) == 0
    u, v = torch.zeros(N + 2).double(), torch.zeros(5).double()
    to_test = two_layer_relu_gram(X_TEST, twice)
    fast = kernel_descent_test(flow, to_test, u, v, 0.3, [50])[0]
    for _ in range(50):
        u, v = u - 0.3 * flow.H @ (u - flow.targets), v - 0.3 * to_test @ (u - flow.targets)
    assert relative(fast, v) <= 1e-12


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


def test_one_seed_may_diverge_alone():
    """Between the stability limits of narrow networks, found from their own kernels."""
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
    monkeypatch.setattr("gflow.studies.one_width._GROUP_SIZE", 1)
    alone, diverged = train(experiment(0.1, (0, 1, 9)), flow, W, "")
    assert diverged == [None] * 3
    for name, values in together.items():
        assert float((alone[name] - values).abs().max()) <= 1e-12, name
