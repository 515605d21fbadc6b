"""Points on the unit sphere: drawn by a seed, or the first samples of a data set."""

import numpy as np
import pytest

from gflow.data import load
from gflow.errors import InputError
from gflow.preparation import unit_rows
from gflow.scenario import validate


def make(**keys):
    return validate({"setting": "kernel", "t_end": 1.0, "inputs": 3, **keys}, "a test")


def test_synthetic_points_lie_on_the_sphere_and_depend_on_the_seed():
    keys = {"data": "synthetic", "samples": 4, "test_samples": 3}
    points, train = make(**keys, seed=1).points_on_sphere(300, 1)
    assert train == 4
    assert points.inputs.shape == (7, 3)
    np.testing.assert_allclose(unit_rows(points.inputs), points.inputs, rtol=0, atol=1e-14)
    other, _ = make(**keys, seed=2).points_on_sphere(300, 1)
    assert not np.array_equal(points.inputs, other.inputs)


def test_samples_of_a_data_set_are_its_first_ones_of_the_classes():
    keys = {"data": "digits", "classes": ["3", "8"], "samples": 6, "test_samples": 3}
    points, train = make(**keys).points_on_sphere(300, 1)
    digits = load("digits")
    expected = digits.inputs[np.isin(digits.targets.ravel(), [3, 8])][:9]
    assert train == 6
    np.testing.assert_array_equal(points.inputs, expected)


@pytest.mark.parametrize(
    ("keys", "held_out", "train", "rows"),
    [
        ({}, 1, 90, 150),  # 300 of 500, of 150
        ({}, 0, 150, 150),
        ({"samples": 400, "fewer_samples": True}, 1, 100, 150),
        ({"samples": 150, "fewer_samples": True, "classes": ["setosa"]}, 0, 50, 50),
    ],
)
def test_a_number_of_the_scenario_does_not_refuse_small_data(keys, held_out, train, rows):
    with pytest.warns(UserWarning, match=f"{train} of them are for training, {rows - train} for"):
        points, found = make(data="iris", **keys).points_on_sphere(300, held_out)
    assert (found, len(points.inputs)) == (train, rows)


@pytest.mark.parametrize(("samples", "held_out", "most"), [(150, 1, 149), (151, 0, 150)])
def test_a_number_of_the_user_is_not_changed(samples, held_out, most):
    scenario = make(data="iris", samples=samples)
    with pytest.raises(InputError, match=f"samples must be at most {most}, the rows of iris.*use"):
        scenario.points_on_sphere(300, held_out)
    points, train = make(data="iris", samples=140).points_on_sphere(300, held_out)
    assert (train, len(points.inputs)) == (140, 150)


def test_a_test_needs_a_sample_of_its_own(tmp_path):
    (tmp_path / "one.csv").write_text("1.5,2\n")
    with pytest.raises(InputError, match=r"one.csv must have at least 2 samples, .*, got 1; add"):
        make(data=str(tmp_path / "one.csv")).points_on_sphere(300, 1)
