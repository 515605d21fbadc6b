"""Preparation and synthetic data: values, edges of floating point, every error line."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from gflow.data import Data, load
from gflow.data.synthetic import synthetic_low_rank, synthetic_regression, synthetic_sphere
from gflow.errors import InputError
from gflow.preparation import (
    correlation,
    one_hot,
    regression_targets,
    signs,
    standardise,
    subset,
    unit_rows,
)


def tables() -> Iterator[np.ndarray]:
    """Matrices whose entries lie between the smallest and the largest floats."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = (rng.integers(2, 9), rng.integers(1, 5))
        middle, spread = rng.uniform(-320, 305), rng.uniform(0, 20)
        powers = np.clip(rng.normal(middle, spread, shape), -320, 305)
        yield rng.choice([-1.0, 0.0, 1.0], shape) * rng.uniform(1, 10, shape) * 10**powers


def refused(line, function, *args, **kwargs):
    with pytest.raises(InputError, match=line) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)


def three_classes() -> Data:
    return Data(
        "it",
        np.arange(10.0).reshape(5, 2),
        np.array([[0.0], [2.0], [1.0], [2.0], [0.0]]),
        ("a", "b", "c"),
        ("x0", "x1"),
    )


# -- subset -----------------------------------------------------------------------


def test_subset_keeps_order_and_numbers_classes_as_asked():
    data = subset(three_classes(), samples=3, classes=["c", "a"])
    assert data.inputs[:, 0].tolist() == [0, 2, 6]
    assert data.targets[:, 0].tolist() == [1, 0, 0]
    assert data.classes == ("c", "a")


def test_subset_of_everything_is_everything():
    data = three_classes()
    assert subset(data) is data
    assert np.array_equal(subset(data, samples=5, classes=["a", "b", "c"]).targets, data.targets)
    assert subset(load("diabetes"), samples=7).inputs.shape == (7, 10)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"samples": 6}, "samples must be at most 5, the rows of it, got 6; ask for fewer"),
        ({"samples": 4, "classes": ["a", "c"]} | {"samples": 5}, "at most 4, .* in these classes"),
        ({"samples": 0}, "samples must be a whole number of at least 1, got 0"),
        ({"samples": 2.5}, "got 2.5"),
        ({"classes": ["a", "z"]}, "classes of it must be different ones of a, b, c, got z; choose"),
        ({"classes": ["a", "a"]}, "got a, a; choose"),
        ({"classes": []}, "got none; choose"),
    ],
)
def test_subset_errors(asked, line):
    refused(line, subset, three_classes(), **asked)


def test_subset_needs_classes_that_occur():
    refused("diabetes must have classes, got numbers", subset, load("diabetes"), classes=["0"])
    few = subset(three_classes(), samples=2)
    refused("it must have rows of the classes asked for, got none of b", subset, few, classes=["b"])


# -- inputs -----------------------------------------------------------------------


def test_standardise_against_numpy():
    x = load("wine").inputs
    np.testing.assert_allclose(standardise(x), (x - x.mean(0)) / x.std(0), atol=1e-12)


def test_standardise_at_any_scale():
    for x in tables():
        with np.errstate(all="raise", under="ignore"):
            z = standardise(x)
        np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
        constant = np.ptp(x, axis=0) <= 1e-13 * abs(x).max(0)
        assert (z[:, constant] == 0).all()
        np.testing.assert_allclose(z[:, ~constant].std(0), 1, atol=1e-9)


def test_constant_columns_become_zero():
    x = np.array([[0.1, 1e300, 0.0, 5e-324], [0.1, -1e300, 0.0, 0.0], [0.1, 1e300, 0.0, 0.0]])
    z = standardise(x)
    assert (z[:, [0, 2]] == 0).all()
    np.testing.assert_allclose(z[:, [1, 3]].std(0), 1)
    assert (standardise(np.ones((1, 3))) == 0).all()


def test_unit_rows_at_any_scale():
    for x in tables():
        x[:, 0] = np.where((x == 0).all(axis=1), 1.0, x[:, 0])
        np.testing.assert_allclose(np.linalg.norm(unit_rows(x), axis=1), 1, rtol=1e-12)


def test_tables_are_checked():
    for function in (standardise, unit_rows, correlation):
        refused(r"must be a matrix .* got shape \(3,\)", function, np.ones(3))
        refused("got nan at row 0, column 1", function, np.array([[1.0, np.nan]]))
        refused("must not be empty", function, np.ones((0, 3)))
    zero_row = np.array([[1.0, 0.0], [0.0, 0.0]])
    refused("every row must be nonzero .* row 1 .*1 such", unit_rows, zero_row)


def test_correlation_against_numpy():
    x = load("breast_cancer").inputs
    C = correlation(x)
    np.testing.assert_allclose(C, np.corrcoef(x.T), atol=1e-12)
    assert np.array_equal(C, C.T)
    assert (C.diagonal() == 1).all()
    assert np.linalg.eigvalsh(C).min() > -1e-12
    pixels = load("digits").inputs
    assert correlation(pixels).shape == (61, 61)  # three pixels are always blank


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (np.array([[1.0, 2.0]]), "got 1 rows and 0 such columns"),
        (np.array([[1.0, 2.0], [1.0, 3.0]]), "got 2 rows and 1 such columns"),
        (np.ones((2, 0)), "got 2 rows and 0 such columns"),
    ],
)
def test_correlation_needs_two(x, got):
    refused(got, correlation, x)


# -- targets ----------------------------------------------------------------------


def test_one_hot():
    hot = one_hot(three_classes())
    assert hot.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert np.array_equal(one_hot(load("digits")).argmax(1)[:, None], load("digits").targets)


def test_one_hot_is_bounded(monkeypatch):
    monkeypatch.setattr("gflow.preparation.MAX_BYTES", 100)
    refused("at most 100 bytes, got 5 samples of 3 classes", one_hot, three_classes())


def test_signs():
    assert signs(subset(three_classes(), classes=["a", "c"]))[:, 0].tolist() == [-1, 1, 1, -1]
    assert signs(subset(three_classes(), classes=["c", "a"]))[:, 0].tolist() == [1, -1, -1, 1]


def test_signs_say_how_to_choose():
    refused("exactly two classes, got 3 in it: a, b, c; .*classes=a,b$", signs, three_classes())
    refused("got 1 in it: a; ", signs, subset(three_classes(), classes=["a"]))
    refused("got 10 in digits: 0, 1, .*example classes=0,1", signs, load("digits"))
    one = subset(three_classes(), samples=1, classes=["a", "c"])
    refused("rows of both classes, a and c, got only a in it; ask for more", signs, one)
    many = Data(
        "it", np.ones((30, 1)), np.arange(30.0)[:, None], tuple(map(str, range(30))), ("x",)
    )
    refused("18, 19, ...; choose", signs, many)


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


# -- synthetic --------------------------------------------------------------------


def test_regression_without_noise_is_linear():
    data = synthetic_regression(30, 4, 2, noise=0.0, seed=3)
    _, residual, rank, _ = np.linalg.lstsq(data.inputs, data.targets)
    assert rank == 4
    assert residual.max() < 1e-25
    noisy = synthetic_regression(30, 4, 2, noise=0.5, seed=3)
    assert np.array_equal(data.inputs, noisy.inputs)
    assert 0.3 < (noisy.targets - data.targets).std() < 0.7


def test_low_rank():
    M = synthetic_low_rank(12, 3, seed=1)
    assert np.array_equal(M, M.T)
    np.testing.assert_allclose(M.diagonal(), 1)
    eigenvalues = np.linalg.eigvalsh(M)
    assert abs(eigenvalues[:9]).max() < 1e-12
    assert eigenvalues[9] > 0.1


def test_sphere():
    data = synthetic_sphere(200, 5, seed=1)
    np.testing.assert_allclose(np.linalg.norm(data.inputs, axis=1), 1)
    assert 50 < data.targets.sum() < 150
    w, *_ = np.linalg.lstsq(data.inputs, signs(data)[:, 0])
    assert (np.sign(data.inputs @ w) == signs(data)[:, 0]).mean() > 0.9


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: synthetic_regression(5, 2, 1, 0.1, seed).targets,
        lambda seed: synthetic_low_rank(5, 2, seed),
        lambda seed: synthetic_sphere(5, 2, seed).inputs,
    ],
)
def test_the_seed_decides(draw):
    assert np.array_equal(draw(4), draw(4))
    assert not np.array_equal(draw(4), draw(5))


def test_synthetic_errors():
    refused("samples must be a whole number of at least 1, got 0", synthetic_regression, 0, 2, 1)
    refused("outputs must be .* got -1", synthetic_regression, 2, 2, -1)
    refused("noise must be a finite .* got -0.1", synthetic_regression, 2, 2, 1, noise=-0.1)
    refused("noise must be a finite .* got nan", synthetic_regression, 2, 2, 1, noise=float("nan"))
    refused("rank must be at most the size, 3, got 4", synthetic_low_rank, 3, 4)
    refused("seed must be a whole number of at least 0, got -1", synthetic_sphere, 3, 4, seed=-1)
    refused("at most 2147483648 bytes, got sizes", synthetic_sphere, 10**9, 10)
    refused("at most 2147483648 bytes, got sizes", synthetic_low_rank, 10**6, 1)
    refused("at most 2147483648 bytes, got sizes", synthetic_regression, 1, 10**5, 10**5)
