"""Samples with their targets: what is checked, and the names of classes."""

import numpy as np
import pytest

from gflow.data.samples import Data, data_of
from gflow.errors import InputError


@pytest.mark.parametrize(
    ("inputs", "targets", "line"),
    [
        (np.ones(3), np.ones((3, 1)), r"inputs of it must be a matrix .* got shape \(3,\)"),
        (np.ones((3, 1)), np.ones(3), "targets of it must be a matrix"),
        (np.ones((0, 2)), np.ones((0, 1)), r"must not be empty, got shape \(0, 2\)"),
        (np.ones((3, 0)), np.ones((3, 1)), "at least one column, got none; add one"),
        (np.ones((3, 1)), np.ones((2, 1)), "one row a sample, got 3 and 2 rows; remove samples"),
        (np.array([[1, 2], [3, np.inf]]), np.ones((2, 1)), "got inf at row 1, column 1"),
        (np.ones((2, 1)), np.array([[np.nan], [np.nan]]), r"nan at row 0, column 0 .*2 such"),
    ],
)
def test_data_is_checked(inputs, targets, line):
    with pytest.raises(InputError, match=line):
        Data("it", inputs, targets, None, ())


def test_classes_are_named_in_alphabetical_order():
    data = data_of("it", np.eye(3), np.array(["b", "a", "b"]))
    assert data.classes == ("a", "b")
    assert data.targets.tolist() == [[1], [0], [1]]
    assert data.features == ("x0", "x1", "x2")


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (["a", "", "b"], "missing, got '' at row 1"),
        (["?", "a", "?"], "missing, got '\\?' at row 0 .*2 such rows"),
        (["1.5", "2", "3"], "numbers written as words, such as '1.5'"),
        (list(range(20)), "all 20 differ; save numbers for a regression as floating point"),
    ],
)
def test_labels_that_name_no_class_are_refused(labels, line):
    with pytest.raises(InputError, match=line):
        data_of("it", np.ones((len(labels), 1)), np.array(labels))


def test_whole_numbers_written_as_words_name_classes():
    assert data_of("it", np.eye(3), np.array(["10", "2", "10"])).classes == ("10", "2")
