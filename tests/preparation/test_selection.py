"""Rows selected by class and number."""

import numpy as np
import pytest

from gflow.data import load
from gflow.preparation import subset
from tests.preparation.examples import refused, three_classes


def test_subset_preserves_the_order_and_numbers_classes_as_given():
    data = subset(three_classes(), samples=3, classes=["c", "a"])
    assert data.inputs[:, 0].tolist() == [0, 2, 6]
    assert data.targets[:, 0].tolist() == [1, 0, 0]
    assert data.classes == ("c", "a")


def test_subset_of_all_rows_is_the_data():
    data = three_classes()
    assert subset(data) is data
    assert np.array_equal(subset(data, samples=5, classes=["a", "b", "c"]).targets, data.targets)
    assert subset(load("diabetes"), samples=7).inputs.shape == (7, 10)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"samples": 6}, "samples must be at most 5, the rows of it, got 6; use fewer"),
        ({"samples": 4, "classes": ["a", "c"]} | {"samples": 5}, "at most 4, .* in these classes"),
        ({"samples": 0}, "samples must be a whole number of at least 1, got 0"),
        ({"samples": 2.5}, "got 2.5"),
        ({"classes": ["a", "z"]}, "classes of it must be different ones of a, b, c, got z; choose"),
        ({"classes": ["a", "a"]}, "got a, a; choose"),
        ({"classes": []}, "got none; choose"),
    ],
)
def test_subset_errors(arguments, line):
    refused(line, subset, three_classes(), **arguments)


def test_subset_needs_classes_that_occur():
    refused("diabetes must have classes, got numbers", subset, load("diabetes"), classes=["0"])
    two_rows = subset(three_classes(), samples=2)
    refused(
        "it must have rows of the given classes, got none of b", subset, two_rows, classes=["b"]
    )
