"""Times that flow and descents have in common."""

import math

import pytest

from gflow.errors import InputError
from gflow.solvers import SolveOptions
from gflow.studies.matching import matched_times, require_linear_spacing, shared_times
from tests.helpers import times


def test_shared_times_are_equal_up_to_round_off():
    first, second = times(0.0, 0.1, 0.3 * (1 + 1e-13), 1.0), times(0.0, 0.2, 0.3, 0.9)
    assert shared_times(first, second) == ([0, 2], [0, 2])
    assert shared_times(times(1.0), times(2.0)) == ([], [])


def test_logarithmic_spacing_starts_at_the_first_step():
    (counts,) = matched_times(100.0, [1.0], 4, spacing="log")[1]
    assert counts == [0, 1, 3, 10, 32, 100]


def test_linear_spacing_is_required():
    require_linear_spacing("a study", SolveOptions())
    with pytest.raises(InputError, match="a study compares at equally spaced times, got log"):
        require_linear_spacing("a study", SolveOptions(spacing="log"))


@pytest.mark.parametrize("sizes", [[0.1], [0.3, 0.1], [0.7, 0.2, 0.013]])
def test_matched_times_are_steps_of_every_descent(sizes):
    times_, counts = matched_times(2.0, sizes, 20)
    assert times_ == sorted(set(times_))
    assert times_[0] == 0.0
    for step, steps in zip(sizes, counts, strict=True):
        assert steps[0] == 0
        assert steps[-1] == math.floor(2.0 / step + 1e-9)
        assert len(steps) <= 21
        for k in steps:
            assert min(abs(t - k * step) for t in times_) <= 2e-9
    assert len(times_) <= 1 + sum(len(s) - 1 for s in counts)


@pytest.mark.parametrize("step", [0.0, -0.1, 2.5, math.nan])
def test_invalid_matched_times_are_refused(step):
    with pytest.raises(InputError, match="positive and at most t_end = 2, got"):
        matched_times(2.0, [0.1, step], 10)


def test_huge_numbers_of_steps_are_refused():
    with pytest.raises(
        InputError, match="at most 1e\\+08 steps, but step size 1e-200 takes 1e\\+200"
    ):
        matched_times(1.0, [1e-200], 10)
