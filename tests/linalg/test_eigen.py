"""Functions of eigenvalues, and the largest eigenvalues of an operator."""

import numpy as np
import pytest
import scipy.linalg
import torch

from gflow.linalg.eigen import effective_rank, largest_eigenvalues, sym_power, without_round_off
from tests.helpers import of_rank, randn, relative, times


@pytest.mark.parametrize("exponent", [0.2, 0.5, 1.0, 2.5])
def test_sym_power(exponent):
    B = randn(4, 4)
    A = B @ B.mT
    truth = scipy.linalg.fractional_matrix_power(A.numpy(), exponent)
    assert relative(sym_power(A, exponent), torch.tensor(np.real(truth))) <= 1e-12
    powers = sym_power(torch.stack([A, 2 * A]), exponent)
    assert relative(powers[1], 2**exponent * sym_power(A, exponent)) <= 1e-13


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_sym_power_does_not_amplify_round_off(rank):
    B = of_rank(rank, 4, 4)
    root = sym_power(sym_power(B @ B.mT, 0.2), 5.0)
    assert float((root - B @ B.mT).norm()) <= 1e-14
    assert torch.linalg.matrix_rank(sym_power(B @ B.mT, 0.2), rtol=1e-6) == rank


def test_without_round_off():
    values = torch.tensor([[2.0, 1e-15, -1e-17], [1e-15, 1e-16, 0.0], [0.0, 0.0, 0.0]]).double()
    expected = [[2.0, 0.0, 0.0], [1e-15, 1e-16, 0.0], [0.0, 0.0, 0.0]]
    assert torch.equal(
        without_round_off(values, 4),
        torch.tensor(expected, dtype=torch.float64).where(
            torch.tensor(expected, dtype=torch.float64) == 0, values
        ),
    )


def test_effective_rank():
    assert float(effective_rank(times(3.0, 3.0, 3.0))) == pytest.approx(3, rel=1e-14)
    assert float(effective_rank(times(5.0, 0.0))) == 1.0
    assert float(effective_rank(times(0.0, 0.0))) == 0.0
    p = np.array([0.7, 0.2, 0.1])
    assert float(effective_rank(10 * torch.tensor(p))) == pytest.approx(
        np.exp(-(p * np.log(p)).sum()), rel=1e-14
    )
    assert effective_rank(randn(2, 3, 4).abs()).shape == (2, 3)


def spectrum_of(lam, seed=0):
    V = torch.linalg.qr(randn(len(lam), len(lam), seed=seed))[0]
    return (V * lam) @ V.mT


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(
    "lam",
    [
        times(1.0, 2.0, 3.0),
        times(*np.linspace(0.0, 50.0, 60)),
        times(-100.0, *np.linspace(0.0, 1.0, 40)),  # the largest in size is not the largest
        times(*[0.0] * 9, 1e-8),
        times(-3.0, -2.0, -1.0),
        times(4.0, 4.0, 4.0),
        times(5.0, *[1.0] * 7),  # the Krylov space has fewer than three dimensions
        times(1e12, 1e12 * (1 - 1e-3), 1.0),
    ],
)
def test_largest_eigenvalues(lam, k):
    A = spectrum_of(lam)
    top = largest_eigenvalues(lambda v: A @ v, randn(len(lam), seed=3), k, tol=1e-10)
    scale = float(lam.abs().max())
    truth = lam.sort(descending=True).values[:k]
    assert float((top.values - truth).abs().max()) <= 1e-8 * scale
    assert top.products <= len(lam)
    V = top.vectors
    assert float((V @ V.mT - torch.eye(len(V)).double()).abs().max()) <= 1e-12
    rest = (A @ V[:k].mT).mT - top.values[:, None] * V[:k]
    assert float((rest.norm(dim=1) - top.residuals).abs().max()) <= 1e-12 * scale


def test_residuals_bound_the_error():
    lam = times(*np.linspace(0.0, 1.0, 80), 1.2, 1.5)
    A = spectrum_of(lam)
    for tol in (0.3, 0.1, 0.03):
        top = largest_eigenvalues(lambda v: A @ v, randn(len(lam), seed=3), 2, tol=tol)
        assert (top.residuals <= tol * top.values[0]).all()
        nearest = (lam[:, None] - top.values).abs().amin(dim=0)
        assert (nearest <= top.residuals).all()
        assert (top.values <= times(1.5, 1.2) + 1e-14).all()


def test_a_warm_start_saves_products_and_sees_a_crossing():
    """Two eigenvalues cross: the guard vector tracks the one that becomes larger."""
    Q = torch.linalg.qr(randn(60, 60, seed=1))[0]
    lam = torch.linspace(0, 1, 60, dtype=torch.float64)
    start, products = None, []
    for s in np.linspace(0.0, 1.0, 21):
        lam[-1], lam[-2] = 3.0 - s, 2.0 + s
        A = (Q * lam) @ Q.mT
        first = randn(60, seed=2) if start is None else start
        top = largest_eigenvalues(lambda v, A=A: A @ v, first, tol=1e-4)
        start = top.vectors
        products.append(top.products)
        assert float(top.values[0]) == pytest.approx(max(3.0 - s, 2.0 + s), rel=1e-6)
    assert max(products[1:]) <= 3
    assert products[0] >= 7


def test_largest_eigenvalues_of_zero():
    top = largest_eigenvalues(torch.zeros_like, randn(5))
    assert top.values.tolist() == [0.0]
    assert top.products == 1


def test_largest_eigenvalues_stop_at_their_budget():
    calls = []
    A = spectrum_of(times(*np.linspace(1.0, 1.001, 50)))
    top = largest_eigenvalues(
        lambda v: calls.append(1) or A @ v, randn(50), tol=1e-16, max_products=7
    )
    assert top.products == len(calls) == 7
    assert 1.0 <= float(top.values[0]) <= 1.001


def test_a_product_that_is_not_finite_gives_nan_and_a_start_for_the_next():
    A = spectrum_of(times(*np.linspace(0.0, 1.0, 20)))
    for broken in (torch.nan, torch.inf):
        top = largest_eigenvalues(lambda v, b=broken: b * v, randn(20, seed=3), 2)
        assert top.values.isnan().all()
        after = largest_eigenvalues(lambda v: A @ v, top.vectors)
        assert float(after.values[0]) == pytest.approx(1.0, rel=1e-8)
