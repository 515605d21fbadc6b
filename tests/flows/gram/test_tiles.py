"""Gram matrices of kernel functions, stored or multiplied tile by tile."""

import itertools

import pytest
import torch

from gflow.errors import InputError
from gflow.flows import KernelFlow
from gflow.flows.gram import tiles
from gflow.kernels import two_layer_relu_gram
from tests.helpers import randn, relative, slow_pairs_except, times


def points(n, seed=0):
    x = randn(n, 4, seed=seed)
    x[1] = x[0]  # a duplicated row
    x[2] = 0.0  # a zero row
    return x


@pytest.mark.parametrize(
    ("shape", "rows"),
    slow_pairs_except(itertools.product([(11,), (11, 2)], [1024, 3]), ((11,), 3), ((11, 2), 1024)),
)
def test_a_kernel_function_is_its_matrices_or_products_by_tiles(shape, rows, monkeypatch):
    monkeypatch.setattr(tiles, "_TILE", rows)
    x, z, y = points(11), points(5, seed=1), randn(*shape, seed=2)
    H, H_test = two_layer_relu_gram(x), two_layer_relu_gram(z, x)
    stored = KernelFlow(H, y, H_test)
    from_function = KernelFlow.from_kernel(two_layer_relu_gram, x, y, z)
    assert relative(from_function.H, H) <= 1e-7  # off the diagonal the arc cosine rounds either way
    assert torch.equal(from_function.H, from_function.H.mT)
    assert torch.equal(from_function.H.diagonal(), H.diagonal())
    assert relative(from_function.H_test, H_test) <= 1e-7
    tiled = KernelFlow.from_kernel(two_layer_relu_gram, x, y, z, max_memory=600)
    assert not isinstance(tiled.H_test, torch.Tensor)
    ts, u0 = times(0.0, 0.5, 30.0), randn(*shape, seed=3)
    expected = stored.predict(ts, u0, method="exact")
    for flow in (from_function, tiled):
        result = flow.predict(ts, u0, method="krylov", rtol=1e-10)
        assert relative(result.train, expected.train) <= 1e-6
        assert relative(result.test, expected.test) <= 1e-6
    with pytest.raises(InputError, match="given as a product"):
        tiled.predict(ts, u0, method="exact")
    with pytest.raises(InputError, match="given as a product"):
        tiled.exact_descent([1], u0, 0.1)


def test_the_kernel_is_never_called_for_more_than_a_tile():
    shapes = []

    def kernel(x1, x2=None):
        shapes.append((len(x1), len(x1 if x2 is None else x2)))
        return two_layer_relu_gram(x1, x2)

    x, y = randn(50, 3), randn(50)
    flow = KernelFlow.from_kernel(kernel, x, y, x[:7], max_memory=8 * 8 * 6**2)
    assert relative(flow(0.0, 0 * y), two_layer_relu_gram(x) @ y) <= 1e-7
    flow.predict(times(1.0), 0 * y, method="krylov")
    assert max(max(shape) for shape in shapes) == 6


@pytest.mark.parametrize(
    ("kernel", "x", "memory", "message"),
    [
        (lambda a, b=None: torch.zeros(2, 2), randn(3, 2), 2**20, r"return a tensor.*\(2, 2\)"),
        (lambda a, b=None: 1.0, randn(3, 2), 2**20, "return a tensor.*float"),
        (two_layer_relu_gram, randn(3, 2), 10, "max_memory must be at least 64 bytes, got 10"),
        (two_layer_relu_gram, randn(0, 2), 2**20, r"x must be a tensor of points.*\(0, 2\)"),
        (two_layer_relu_gram, [1.0], 2**20, "x must be a tensor of numbers, got"),
        (lambda a, b=None: two_layer_relu_gram(a, b) / 0, randn(3, 2), 2**20, "kernel must be fin"),
        (two_layer_relu_gram, randn(4, 2), 2**20, "n = 4, got"),
    ],
)
def test_input_errors_of_kernel_functions(kernel, x, memory, message):
    with pytest.raises(InputError, match=message):
        KernelFlow.from_kernel(kernel, x, torch.ones(3).double(), max_memory=memory)
