"""Options and step sizes of studies."""

import numpy as np
import pytest

from gflow.errors import InputError
from gflow.solvers import SolveOptions
from gflow.studies.arguments import distinct_sizes, study_options


def test_options_are_changed_by_keywords():
    assert study_options(SolveOptions(), {"rtol": np.float64(1e-4)}).rtol == 1e-4
    with pytest.raises(InputError, match="no option 'rtoll'; did you mean 'rtol'"):
        study_options(SolveOptions(), {"rtoll": 1e-4})
    with pytest.raises(InputError, match="options must be SolveOptions, got 'auto'; write"):
        study_options("auto", {})


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (0.1, r"step_sizes must be a sequence of numbers, got 0.1; write \[0.1\]"),
        ([0.1, 0.0], "each of step_sizes must be a positive number, got 0.0"),
        ([], "step_sizes must hold at least one number"),
        (["0.1"], "each of step_sizes must be a number, got '0.1'"),
    ],
)
def test_step_sizes_are_positive_numbers(sizes, message):
    assert distinct_sizes(np.array([0.1, 0.2, 0.1])) == [0.2, 0.1]
    with pytest.raises(InputError, match=message):
        distinct_sizes(sizes)
