"""Transformations of inputs: values, and the edges of floating point."""

from collections.abc import Iterator

import numpy as np
import pytest

from gflow.data import load
from gflow.preparation import correlation, standardise, unit_rows
from tests.preparation.examples import refused


def tables() -> Iterator[np.ndarray]:
    """Yield matrices whose entries lie between the smallest and the largest floats."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = (rng.integers(2, 9), rng.integers(1, 5))
        middle, spread = rng.uniform(-320, 305), rng.uniform(0, 20)
        powers = np.clip(rng.normal(middle, spread, shape), -320, 305)
        yield rng.choice([-1.0, 0.0, 1.0], shape) * rng.uniform(1, 10, shape) * 10**powers


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
    ("x", "message"),
    [
        (np.array([[1.0, 2.0]]), "got 1 rows and 0 such columns"),
        (np.array([[1.0, 2.0], [1.0, 3.0]]), "got 2 rows and 1 such columns"),
        (np.ones((2, 0)), "got 2 rows and 0 such columns"),
    ],
)
def test_correlation_needs_two_rows_and_columns(x, message):
    refused(message, correlation, x)
