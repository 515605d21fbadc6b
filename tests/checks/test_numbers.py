"""Checks of numbers: what they return, and the one-line errors of values that do not serve."""

import math

import numpy as np
import pytest
import torch

import gflow
from gflow.checks import (
    require_bool,
    require_count,
    require_fraction,
    require_number,
    require_numbers,
    require_positive,
    shown,
)
from gflow.errors import InputError

ONES = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("check", "arguments", "number"),
    [
        (require_number, ("x", -2), -2),
        (require_number, ("x", np.float64(0.5)), 0.5),
        (require_number, ("x", torch.tensor(3)), 3),
        (require_number, ("x", torch.tensor(0.5, requires_grad=True)), 0.5),
        (require_number, ("x", 10**400), math.inf),
        (require_numbers, ("ts", [0, np.int64(1), torch.tensor(2.5)]), [0.0, 1.0, 2.5]),
        (require_numbers, ("ts", np.arange(2)), [0.0, 1.0]),
        (require_numbers, ("ts", (t / 2 for t in range(3))), [0.0, 0.5, 1.0]),
        (require_count, ("depth", 1), 1),
        (require_count, ("depth", np.int64(1)), 1),
        (require_count, ("steps", 1e3), 1000),
        (require_count, ("steps", 0, 0), 0),
        (require_count, ("steps", torch.tensor(7)), 7),
        (require_positive, ("rate", 1), 1.0),
        (require_positive, ("rate", np.float32(0.25)), 0.25),
        (require_fraction, ("momentum", 0), 0.0),
        (require_fraction, ("momentum", 1 - 1e-16), 1 - 1e-16),
        (require_bool, ("dense", np.True_), True),
    ],
)
def test_numbers_of_all_kinds_come_back_as_plain_ones(check, arguments, number):
    value = check(*arguments)
    assert value == number
    assert type(value) is type(number)


POSITIVE = "rate must be a positive number, got "
FRACTION = "momentum must be at least 0 and below 1, got "
COUNT = "depth must be a whole number of at least 1, got "


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (require_number, ("x", "1e-6"), "x must be a number, got '1e-6'"),
        (require_number, ("x", None), "x must be a number, got None"),
        (require_number, ("x", True), "x must be a number, got True"),
        (require_number, ("x", 1j), "x must be a number, got complex"),
        (require_number, ("x", ONES), "x must be a number, got a tensor of shape (2, 3)"),
        (
            require_number,
            ("x", ONES[0, 0].to("meta")),
            "x must be a number, got a tensor of shape ()",
        ),
        (require_numbers, ("ts", 5), "ts must be a sequence of numbers, got 5; write [5]"),
        (
            require_numbers,
            ("ts", np.float64(5), "[0.0, {}]"),
            "ts must be a sequence of numbers, got 5.0; write [0.0, 5.0]",
        ),
        (require_numbers, ("ts", "0, 1"), "ts must be a sequence of numbers, got '0, 1'"),
        (require_numbers, ("ts", {0: 1}), "ts must be a sequence of numbers, got {0: 1}"),
        (
            require_numbers,
            ("ts", ONES),
            "ts must have one dimension, got a tensor of shape (2, 3); flatten it",
        ),
        (require_numbers, ("ts", []), "ts must hold at least one number, got none"),
        (require_numbers, ("ts", [0, "1"]), "each of ts must be a number, got '1'"),
        (
            require_numbers,
            ("ts", [0.0, math.nan]),
            "ts must be finite, got NaN or infinity; remove such entries",
        ),
        (require_count, ("depth", 0), COUNT + "0"),
        (require_count, ("depth", 1.5), COUNT + "1.5"),
        (require_count, ("depth", True), COUNT + "True"),
        (require_count, ("depth", "2"), COUNT + "'2'"),
        (require_count, ("depth", math.nan), COUNT + "nan"),
        (require_count, ("depth", None), COUNT + "None"),
        (require_count, ("steps", -1, 0), "steps must be a whole number of at least 0, got -1"),
        (require_positive, ("rate", 0.0), POSITIVE + "0.0"),
        (require_positive, ("rate", -1), POSITIVE + "-1"),
        (require_positive, ("rate", math.inf), POSITIVE + "inf"),
        (require_positive, ("rate", math.nan), POSITIVE + "nan"),
        (require_positive, ("rate", "0.1"), POSITIVE + "'0.1'"),
        (require_fraction, ("momentum", 1), FRACTION + "1"),
        (require_fraction, ("momentum", -0.1), FRACTION + "-0.1"),
        (require_fraction, ("momentum", math.nan), FRACTION + "nan"),
        (require_bool, ("dense", 1), "dense must be True or False, got 1"),
    ],
)
def test_other_values_raise_in_one_line(check, arguments, message):
    with pytest.raises(InputError) as caught:
        check(*arguments)
    assert str(caught.value) == message


def test_values_are_shown_in_one_line():
    assert shown(np.ones((2, 2))) == "an array of shape (2, 2)"
    assert shown([1, 2]) == "[1, 2]"
    assert shown(test_values_are_shown_in_one_line) == "function"
    assert len(shown("x" * 1000)) <= 80


@pytest.mark.parametrize(
    "make",
    [
        lambda X: gflow.EndToEndFlow(gflow.losses.SquaredDistance(X), 10**6),
        lambda X: gflow.kernels.ntk(X, depth=10**6),
        lambda X: gflow.kernels.nngp(X, depth=10**6),
        lambda X: gflow.kernels.conv_ntk(X.reshape(1, 2, 2, 1), depth=10**6),
    ],
)
def test_a_depth_that_no_time_suffices_for_is_refused(make):
    with pytest.raises(InputError, match="depth must be at most 10000, got 1000000"):
        make(torch.eye(2, dtype=torch.float64))
