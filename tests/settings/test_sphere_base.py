"""Points on the unit sphere: drawn by a seed, or the first samples of a data set."""

import numpy as np

from gflow.data import load
from gflow.preparation import unit_rows
from gflow.scenario import validate


def make(**keys):
    return validate({"setting": "kernel", "t_end": 1.0, "inputs": 3, **keys}, "a test")


def test_synthetic_points_lie_on_the_sphere_and_depend_on_the_seed():
    points = make(data="synthetic", seed=1).points_on_sphere(7)
    assert points.inputs.shape == (7, 3)
    np.testing.assert_allclose(unit_rows(points.inputs), points.inputs, rtol=0, atol=1e-14)
    other = make(data="synthetic", seed=2).points_on_sphere(7)
    assert not np.array_equal(points.inputs, other.inputs)


def test_samples_of_a_data_set_are_its_first_ones_of_the_classes():
    points = make(data="digits", classes=["3", "8"]).points_on_sphere(9)
    digits = load("digits")
    expected = digits.inputs[np.isin(digits.targets.ravel(), [3, 8])][:9]
    np.testing.assert_array_equal(points.inputs, expected)
