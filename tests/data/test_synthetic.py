"""Synthetic data: its distributions, its seeds, and the inputs that are refused."""

import numpy as np
import pytest

from gflow.data.synthetic import synthetic_low_rank, synthetic_regression, synthetic_sphere
from gflow.preparation import signs
from tests.preparation.examples import refused


def test_regression_without_noise_is_linear():
    data = synthetic_regression(30, 4, 2, noise=0.0, seed=3)
    _, residual, rank, _ = np.linalg.lstsq(data.inputs, data.targets)
    assert rank == 4
    assert residual.max() < 1e-25
    noisy = synthetic_regression(30, 4, 2, noise=0.5, seed=3)
    assert np.array_equal(data.inputs, noisy.inputs)
    assert 0.3 < (noisy.targets - data.targets).std() < 0.7


def test_low_rank_data_have_their_rank():
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
def test_synthetic_data_depend_on_the_seed(draw):
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
