"""Data sets of openml.org: classes, categories and every error message; no network."""

from __future__ import annotations

from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets
from scipy.sparse import csr_matrix
from sklearn.utils import Bunch

from gflow.data.named import load
from gflow.errors import InputError


def fetch(result):
    def fetch_openml(name, *, as_frame, parser):
        assert (name, as_frame, parser) == ("thing", False, "liac-arff")
        if isinstance(result, Exception):
            raise result
        return Bunch(feature_names=["a", "b"], **{"categories": {}} | result)

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
        (IndexError("index -1 is out of bounds"), "check the name"),  # a missing label
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


def test_categories_are_columns_of_0_and_1(monkeypatch):
    """The codes of sklearn are positions in the list of categories."""
    data = {
        "data": np.array([[2.0, 7.5], [0.0, 8.5], [2.0, 9.5]]),
        "target": None,
        "categories": {"a": ["red", "green", "blue"], "unused": ["x"]},
    }
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch(data))
    loaded = load("openml:thing")
    assert loaded.inputs.tolist() == [[0, 0, 1, 7.5], [1, 0, 0, 8.5], [0, 0, 1, 9.5]]
    assert loaded.features == ("a=red", "a=green", "a=blue", "b")
    data["data"][1, 0] = np.nan
    with pytest.raises(InputError, match="must be finite, got nan at row 1, column 0"):
        load("openml:thing")
    monkeypatch.setattr("gflow.data.openml.MAX_BYTES", 50)
    with pytest.raises(InputError, match="3 samples of 4 columns, one for each category; choose"):
        load("openml:thing")


def test_a_missing_label_is_refused(monkeypatch):
    labels = np.array(["yes", None, "no"], dtype=object)
    monkeypatch.setattr(
        sklearn.datasets, "fetch_openml", fetch({"data": np.ones((3, 2)), "target": labels})
    )
    with pytest.raises(InputError, match="missing, got 'None' at row 1"):
        load("openml:thing")
