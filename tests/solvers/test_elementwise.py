"""The helpers give equal results on arrays and on single entries, NaN and infinity included."""

import itertools

import numpy as np
import pytest

from gflow.solvers import elementwise as ew

SPECIAL = [-np.inf, -1.0, 0.0, 2.0, np.inf, np.nan]
PAIRS = np.array(list(itertools.product(SPECIAL, repeat=2)))


@pytest.mark.parametrize("function", [ew.maximum, ew.minimum])
def test_maximum_and_minimum_of_two(function):
    together = function(PAIRS[:, 0], PAIRS[:, 1])
    one_by_one = [function(a, b) for a, b in PAIRS]
    np.testing.assert_array_equal(together, one_by_one)
    np.testing.assert_array_equal(together, getattr(np, function.__name__)(*PAIRS.T))


@pytest.mark.parametrize(
    ("function", "numpy"), [(ew.is_finite, np.isfinite), (ew.is_nan, np.isnan)]
)
def test_finite_and_nan(function, numpy):
    values = np.array(SPECIAL)
    assert function(values).tolist() == numpy(values).tolist()
    assert [bool(function(v)) for v in values] == numpy(values).tolist()


def test_where():
    mask, yes, no = np.array([True, False]), np.array([1.0, 2.0]), np.array([3.0, 4.0])
    assert ew.where(mask, yes, no).tolist() == [1.0, 4.0]
    assert [ew.where(m, y, n) for m, y, n in zip(mask, yes, no, strict=True)] == [1.0, 4.0]


@pytest.mark.parametrize("mask", [[True, True], [True, False], [False, False]])
def test_any_and_all(mask):
    assert ew.any_true(np.array(mask)) is any(mask)
    assert bool(ew.all_true(np.array(mask))) is all(mask)
    for value in mask:
        assert ew.any_true(np.bool_(value)) is ew.all_true(np.bool_(value)) is value


def test_largest():
    assert ew.max_of(np.array([1.0, 3.0, 2.0])) == ew.max_of(np.float64(3.0)) == 3.0
    assert np.isnan(ew.max_of(np.array([1.0, np.nan])))


def test_selected_entries_and_rows():
    rows, mask = np.array([2, 5, 7]), np.array([True, False, True])
    assert [v.tolist() for v in ew.select(mask, rows, 10 * rows)] == [[2, 7], [20, 70]]
    assert ew.select_rows(rows, mask).tolist() == [2, 7]
    assert ew.select(np.True_, 4.0) == (4.0,)
    assert ew.select_rows(0, np.True_).tolist() == [0]
    assert ew.select_rows(0, np.False_).tolist() == []
