"""Greedy learning of small modes, and in any units."""

import pytest
import torch

from gflow.baselines import greedy_low_rank
from gflow.errors import InputError
from gflow.losses import MatrixCompletion, MatrixSensing, SquaredDistance
from tests.helpers import of_rank, randn, relative

W = of_rank(2, 5, 5, seed=3)
W = W @ W.mT


@pytest.mark.parametrize("small", [1e-3, 1e-5, 3e-6])
def test_a_small_mode_is_followed_to_rest(small):
    target = torch.diag(torch.tensor([1.0, small]).double())
    found = greedy_low_rank(SquaredDistance(target), 2)
    assert len(found.solutions) == 3
    assert found.solutions[1].diagonal().tolist() == pytest.approx([1.0, 0.0], abs=1e-7)
    assert found.solutions[2].diagonal().tolist() == pytest.approx([1.0, small], rel=1e-7)
    assert found.eigenvalues[2] <= 1e-6 * small


def test_modes_of_three_sizes_are_learned_one_after_another():
    sizes = torch.tensor([2.0, 1e-4, 1e-5]).double()
    found = greedy_low_rank(SquaredDistance(torch.diag(sizes)), 3)
    for rank, solution in enumerate(found.solutions):
        expected = torch.where(torch.arange(3) < rank, sizes, 0.0)
        assert torch.allclose(solution.diagonal(), expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("unit", [1e-100, 1e-20, 1e20, 1e100])
def test_units_of_the_target_change_solutions_in_proportion(unit):
    mask = randn(5, 5, seed=1) + randn(5, 5, seed=1).mT > -0.5
    found, expected = (greedy_low_rank(MatrixCompletion(u * W, mask), 2) for u in (unit, 1.0))
    assert len(found.solutions) == len(expected.solutions) == 3
    for solution, other in zip(found.solutions[1:], expected.solutions[1:], strict=True):
        assert relative(solution / unit, other) <= 1e-6


@pytest.mark.parametrize("unit", [1e-8, 1e4])
def test_units_of_measurements_do_not_change_solutions(unit):
    A = randn(12, 5, 5, seed=2)
    A = A + A.mT
    b = torch.einsum("mij,ij->m", A, W)
    found, expected = (greedy_low_rank(MatrixSensing(u * A, u * b), 2) for u in (unit, 1.0))
    for solution, other in zip(found.solutions[1:], expected.solutions[1:], strict=True):
        assert relative(solution, other) <= 1e-6


@pytest.mark.parametrize(
    ("epsilon", "message"), [(1e-300, "does not underflow in torch.float64"), (10.0, "below 1")]
)
def test_an_epsilon_without_use_is_refused_in_one_line(epsilon, message):
    with pytest.raises(InputError, match=rf"epsilon must .*{message}") as info:
        greedy_low_rank(SquaredDistance(torch.eye(2).double()), 2, epsilon=epsilon)
    assert "\n" not in str(info.value)


def test_losses_of_half_precision_are_refused():
    with pytest.raises(InputError, match=r"must be float32 or float64, got torch.float16"):
        greedy_low_rank(SquaredDistance(torch.eye(2).half()), 2)
