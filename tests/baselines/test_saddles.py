"""Saddles of diagonal networks in any units."""

import pytest
import torch

from gflow.baselines import saddle_sequence
from gflow.errors import InputError
from tests.helpers import randn, relative

X, Y = randn(6, 10, seed=4), randn(6, seed=3)


@pytest.mark.parametrize(
    ("of_X", "of_y"), [(1e200, 1.0), (1e-200, 1.0), (1.0, 1e150), (1e-140, 1e-140), (1e140, 1e-140)]
)
def test_units_change_times_and_weights_in_proportion(of_X, of_y):
    found, expected = saddle_sequence(of_X * X, of_y * Y), saddle_sequence(X, Y)
    assert relative(found.times * of_X * of_y, expected.times) <= 1e-10
    assert relative(found.weights * (of_X / of_y), expected.weights) <= 1e-10


def test_weights_of_small_inputs_are_learned_last():
    """s_j meets ±1 at n/|x_j y_j|."""
    sizes = torch.tensor([1.0, 1e-6, 1e-12], dtype=torch.float64)
    found = saddle_sequence(torch.diag(sizes), torch.ones(3).double())
    assert found.times.tolist() == pytest.approx([3.0, 3e6, 3e12], rel=1e-9)
    assert (found.weights[-1] * sizes).tolist() == pytest.approx([1.0] * 3, rel=1e-9)


def test_a_graph_or_numbers_that_overflow_do_no_harm():
    assert torch.equal(
        saddle_sequence(X.clone().requires_grad_(), Y).times, (saddle_sequence(X, Y).times)
    )
    with pytest.raises(InputError, match="must fit in float64, but overflow") as info:
        saddle_sequence(1e-200 * X, 1e-200 * Y)
    assert "\n" not in str(info.value)
