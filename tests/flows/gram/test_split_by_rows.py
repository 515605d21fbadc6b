"""Gram matrices split by rows, on a team of one process; tests/distributed uses several."""

import contextlib

import pytest

from gflow.errors import InputError
from gflow.flows.gram.split_by_rows import absolute_product, shared_gram
from gflow.kernels import two_layer_relu_gram
from tests.helpers import randn, relative


class TeamOfOne:
    """The operations of a team, without other processes."""

    collective = contextlib.nullcontext

    def rows(self, n):
        return slice(0, n)

    def minimum(self, values):
        return values

    def require_equal(self, what, tensors):
        pass

    def concatenation(self, function, n, like):
        return function


@pytest.mark.parametrize("max_memory", [2**20, 600])
def test_products_are_those_of_the_matrices(max_memory):
    x, z, y = randn(9, 4), randn(5, 4, seed=1), randn(9, seed=2)
    H, H_test = shared_gram(TeamOfOne(), two_layer_relu_gram, x, y, z, max_memory)
    assert (H.shape, H_test.shape) == ((9, 9), (5, 9))
    assert H.has_entries == (max_memory == 2**20)
    for v in (randn(9, seed=3), randn(9, 2, seed=3)):
        assert relative(H(v), two_layer_relu_gram(x) @ v) <= 1e-7
        assert relative(H_test(v), two_layer_relu_gram(z, x) @ v) <= 1e-7
    if H.has_entries:
        assert relative(H.entries, two_layer_relu_gram(x)) <= 1e-7
        v = randn(9, seed=3)
        assert relative(H.absolute(v), two_layer_relu_gram(x).abs() @ v) <= 1e-7


def test_without_test_points_there_is_no_cross_matrix():
    x = randn(4, 3)
    assert shared_gram(TeamOfOne(), two_layer_relu_gram, x, randn(4), None, 2**20)[1] is None


def test_targets_of_another_precision_are_refused():
    x, y = randn(4, 3), randn(4).float()
    with pytest.raises(InputError, match="targets must have the dtype and device of H"):
        shared_gram(TeamOfOne(), two_layer_relu_gram, x, y, None, 2**20)


def test_absolute_product():
    H, x = randn(600, 7), randn(7, 2, seed=1)
    assert relative(absolute_product(H, x), H.abs() @ x) <= 1e-15
