"""Targets of data with and without classes."""

import numpy as np

from gflow.data import Data, load
from gflow.preparation import one_hot, regression_targets, signs, subset
from tests.preparation.examples import refused, three_classes


def test_one_hot():
    hot = one_hot(three_classes())
    assert hot.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert np.array_equal(one_hot(load("digits")).argmax(1)[:, None], load("digits").targets)


def test_one_hot_has_a_size_limit(monkeypatch):
    monkeypatch.setattr("gflow.preparation.targets.MAX_BYTES", 100)
    refused("at most 100 bytes, got 5 samples of 3 classes", one_hot, three_classes())


def test_signs():
    assert signs(subset(three_classes(), classes=["a", "c"]))[:, 0].tolist() == [-1, 1, 1, -1]
    assert signs(subset(three_classes(), classes=["c", "a"]))[:, 0].tolist() == [1, -1, -1, 1]


def test_errors_of_signs_explain_how_to_choose_classes():
    refused("exactly two classes, got 3 in it: a, b, c; .*classes=a,b$", signs, three_classes())
    refused("got 1 in it: a; ", signs, subset(three_classes(), classes=["a"]))
    refused("got 10 in digits: 0, 1, .*example classes=0,1", signs, load("digits"))
    single = subset(three_classes(), samples=1, classes=["a", "c"])
    refused("rows of both classes, a and c, got only a in it; use more", signs, single)
    many_classes = Data(
        "it", np.ones((30, 1)), np.arange(30.0)[:, None], tuple(map(str, range(30))), ("x",)
    )
    refused("18, 19, ...; choose", signs, many_classes)


def test_targets_without_classes():
    refused("diabetes must have classes, got numbers as targets", signs, load("diabetes"))
    refused("china must have classes, got no targets; .* words in a .csv", one_hot, load("china"))
    refused("a regression needs targets, got none in china", regression_targets, load("china"))


def test_regression_targets():
    for name in ("linnerud", "diabetes", "digits"):
        y = regression_targets(load(name))
        np.testing.assert_allclose(y.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(regression_targets(load("linnerud")).std(0), 1)
    y = regression_targets(three_classes())
    np.testing.assert_allclose(y[0], [0.6, -0.2, -0.4])


def test_equal_targets_of_a_regression_are_refused():
    line = "must vary, but all 2 samples of it have the same"
    refused(line, regression_targets, subset(three_classes(), classes=["a"]))
    refused(line, regression_targets, Data("it", np.eye(2), np.ones((2, 3)), None, ("a", "b")))
