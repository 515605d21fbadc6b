import pytest
import torch

from gflow.checks import require_not_negative, require_positive
from gflow.errors import InputError
from gflow.flows.objective.groups import by_layer, by_parameter

NAMES = ["0.weight", "0.bias", "10.weight", "10.bias"]


def numbers(values, default=0.0):
    return list(by_parameter("rates", values, NAMES, default, require_not_negative).values())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (None, [7.0, 7.0, 7.0, 7.0]),
        (2, [2.0, 2.0, 2.0, 2.0]),
        ({}, [7.0, 7.0, 7.0, 7.0]),
        ({"1": 3.0, "0": 2.0}, None),
        ({"10": 3.0}, [7.0, 7.0, 3.0, 3.0]),
        ({"*.weight": 1.0, "0.weight": 2.0}, [2.0, 7.0, 1.0, 7.0]),
        ({"0.weight": 2.0, "*": 1.0}, [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_last_key_that_fits_counts(values, expected):
    if expected is None:
        with pytest.raises(InputError, match=r"rates must be by the name of .* got '1'.*fits none"):
            numbers(values, 7.0)
    else:
        assert numbers(values, 7.0) == expected


@pytest.mark.parametrize("value", [-1.0, float("nan"), "much", None, True])
def test_numbers_are_checked(value):
    with pytest.raises(InputError, match="rates of '0' must be a number of at least 0"):
        numbers({"0": value})


def test_a_key_is_text():
    with pytest.raises(InputError, match="fits none"):
        numbers({0: 1.0})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (2, [2.0, 2.0, 2.0, 2.0]),
        ([3, 0.1], [3.0, 3.0, 0.1, 0.1]),
        (torch.tensor([3.0, 0.5]), [3.0, 3.0, 0.5, 0.5]),
        ({"10": 0.1}, [1.0, 1.0, 0.1, 0.1]),
    ],
)
def test_scales_by_layer(values, expected):
    assert list(by_layer("scales", values, NAMES, require_positive).values()) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], r"scales must be one number, or one for each of the 2 layers \('0', '10'\), got 1"),
        ([1.0, 0.0], "scales of layer '10' must be a positive number, got 0.0"),
        ([1.0, "a"], "scales of layer '10' must be a positive number, got 'a'"),
        ("1,2", "scales must be a positive number, got '1,2'"),
        ({"5": 1.0}, "fits none of"),
    ],
)
def test_scales_that_do_not_fit(values, message):
    with pytest.raises(InputError, match=message):
        by_layer("scales", values, NAMES, require_positive)
