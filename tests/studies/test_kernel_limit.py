"""Descent with a fixed kernel in closed form, against explicit steps."""

import pytest
import torch

from gflow.flows import KernelFlow
from gflow.kernels import two_layer_relu_gram
from gflow.studies.kernel_limit import kernel_descent, kernel_descent_test
from tests.helpers import randn, relative

N, D = 8, 4
X = torch.nn.functional.normalize(randn(N, D), dim=1)
Y = torch.sign(randn(N, seed=3))
X_TEST = torch.nn.functional.normalize(randn(5, D, seed=8), dim=1)
H = two_layer_relu_gram(X)


@pytest.mark.parametrize("step_size", [0.1, 0.7])
@pytest.mark.parametrize("k", [None, 3])
def test_powers_are_explicit_steps(step_size, k):
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


def test_predictions_at_test_points_with_a_singular_kernel():
    twice = torch.cat([X, X[:2]])
    flow = KernelFlow(two_layer_relu_gram(twice), torch.cat([Y, Y[:2]]))
    assert float(flow.eigenvalues[0]) == 0
    u, v = torch.zeros(N + 2).double(), torch.zeros(5).double()
    to_test = two_layer_relu_gram(X_TEST, twice)
    fast = kernel_descent_test(flow, to_test, u, v, 0.3, [50])[0]
    for _ in range(50):
        u, v = u - 0.3 * flow.H @ (u - flow.targets), v - 0.3 * to_test @ (u - flow.targets)
    assert relative(fast, v) <= 1e-12
