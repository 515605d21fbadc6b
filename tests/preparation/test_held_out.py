import warnings

import numpy as np
import pytest

from gflow.data import load
from gflow.errors import InputError
from gflow.preparation import split_off, standardise, subset


def test_held_out_rows_follow_those_to_train_on():
    data = load("digits")
    for samples, start in ((30, 30), (None, 1797 - 8)):
        train, test = split_off(data, samples, 8)
        np.testing.assert_array_equal(train.inputs, data.inputs[:start])
        np.testing.assert_array_equal(test.inputs, data.inputs[start : start + 8])
        np.testing.assert_array_equal(test.targets, data.targets[start : start + 8])
        assert train.classes == test.classes == data.classes


@pytest.mark.parametrize(("samples", "held_out"), [(1797, 1), (None, 1797), (1700, 98)])
def test_too_few_rows_are_refused(samples, held_out):
    with pytest.raises(InputError, match="at most the 1797 rows of digits together"):
        split_off(load("digits"), samples, held_out)


def test_classes_that_are_held_out_whole_are_named():
    with pytest.warns(UserWarning, match="none of the held-out classes virginica"):
        split_off(load("iris"), 100, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_off(subset(load("iris"), classes=["setosa"]), 20, 20)


def test_held_out_rows_are_scaled_as_those_to_train_on():
    rng = np.random.default_rng(0)
    known, other = 3 + 2 * rng.normal(size=(20, 3)), rng.normal(size=(5, 3))
    known[:, 2] = other[:, 2] = 1.0
    expected = (other - known.mean(0)) / np.where(known.std(0) > 1e-12, known.std(0), np.inf)
    np.testing.assert_allclose(standardise(other, known), expected, atol=1e-13)
    np.testing.assert_allclose(standardise(known, known), standardise(known), atol=1e-14)
    with pytest.raises(InputError, match="same columns"):
        standardise(known, known[:, :2])
