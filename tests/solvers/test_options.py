"""Validation of the options of a solve, and their change by keywords."""

import dataclasses
import math

import pytest

from gflow.errors import InputError
from gflow.solvers import SolveOptions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rtol": 0.0}, "rtol must be positive .*got 0.0"),
        ({"rtol": math.nan}, "rtol must be positive"),
        ({"rtol": math.inf}, "rtol must be positive"),
        ({"rtol": 1e300}, "rtol must be at most 1, .* got 1e.300"),
        ({"atol": -1.0}, "atol at least 0, .*got .*-1.0"),
        ({"atol": math.inf}, "atol at least 0, .*got .*inf"),
        ({"max_evals": 0}, "max_evals must be at least 1, got 0"),
        ({"max_evals": math.nan}, "max_evals must be at least 1, got nan"),
        ({"points": 0}, "points must be a whole number of at least 1, got 0"),
        ({"points": 2.5}, "points must be a whole number of at least 1, got 2.5"),
        ({"spacing": "cubic"}, "spacing must be 'linear' or 'log', got 'cubic'"),
    ],
)
def test_values_out_of_range_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        SolveOptions(**change)
    with pytest.raises(InputError, match=message):
        SolveOptions().with_(**change)


def test_changes_leave_the_original_as_it_is():
    options = SolveOptions(rtol=1e-4)
    changed = options.with_(method="rkc2", points=5)
    assert changed == SolveOptions("rkc2", rtol=1e-4, points=5)
    assert options == SolveOptions(rtol=1e-4)
    assert options.with_() == options
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.rtol = 1.0
    with pytest.raises(InputError, match="no option 'rtoll'; did you mean 'rtol'"):
        options.with_(rtoll=1e-3)


def test_options_of_a_finer_solve():
    options = SolveOptions("rkc2", 1e-4, 1e-7, 1000, True, math.inf, 60, "log")
    assert options.tighter(10.0) == SolveOptions(
        "rkc2", 1e-5, 1e-8, 10_000, False, math.inf, 60, "log"
    )
    assert options.tighter(10.0, 5e-5).rtol == 5e-5
