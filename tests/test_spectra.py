import numpy as np
import pytest
import scipy.linalg
import torch

from gflow.spectra import effective_rank, largest_eigenvalue, sym_power, without_round_off
from tests.helpers import of_rank, randn, relative, times


@pytest.mark.parametrize("exponent", [0.2, 0.5, 1.0, 2.5])
def test_sym_power(exponent):
    B = randn(4, 4)
    A = B @ B.mT
    truth = scipy.linalg.fractional_matrix_power(A.numpy(), exponent)
    assert relative(sym_power(A, exponent), torch.tensor(np.real(truth))) <= 1e-12
    both = sym_power(torch.stack([A, 2 * A]), exponent)
    assert relative(both[1], 2**exponent * sym_power(A, exponent)) <= 1e-13


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_sym_power_does_not_amplify_round_off(rank):
    B = of_rank(rank, 4, 4)
    root = sym_power(sym_power(B @ B.mT, 0.2), 5.0)
    assert float((root - B @ B.mT).norm()) <= 1e-14
    assert torch.linalg.matrix_rank(sym_power(B @ B.mT, 0.2), rtol=1e-6) == rank


def test_without_round_off():
    values = torch.tensor([[2.0, 1e-15, -1e-17], [1e-15, 1e-16, 0.0], [0.0, 0.0, 0.0]]).double()
    kept = [[2.0, 0.0, 0.0], [1e-15, 1e-16, 0.0], [0.0, 0.0, 0.0]]
    assert torch.equal(
        without_round_off(values, 4),
        torch.tensor(kept, dtype=torch.float64).where(
            torch.tensor(kept, dtype=torch.float64) == 0, values
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


@pytest.mark.parametrize(
    "lam",
    [
        times(1.0, 2.0, 3.0),
        times(*np.linspace(0.0, 50.0, 60)),
        times(-100.0, *np.linspace(0.0, 1.0, 40)),  # the largest in size is not the largest
        times(*[0.0] * 9, 1e-8),
        times(-3.0, -2.0, -1.0),
        times(4.0, 4.0, 4.0),
        times(1e12, 1e12 * (1 - 1e-3), 1.0),
    ],
)
def test_largest_eigenvalue(lam):
    A = spectrum_of(lam)
    value, products = largest_eigenvalue(lambda v: A @ v, randn(len(lam), seed=3), tol=1e-10)
    assert value == pytest.approx(float(lam.max()), rel=1e-8, abs=1e-14 * float(lam.abs().max()))
    assert products <= len(lam)


def test_largest_eigenvalue_of_zero_and_of_any_shape():
    value, products = largest_eigenvalue(torch.zeros_like, randn(3, 4))
    assert (value, products) == (0.0, 1)
    A = spectrum_of(times(*range(1, 13)))
    value, _ = largest_eigenvalue(lambda v: (A @ v.flatten()).reshape(3, 4), randn(3, 4), tol=1e-12)
    assert value == pytest.approx(12.0, rel=1e-12)


def test_largest_eigenvalue_stops_at_its_budget():
    calls = []
    A = spectrum_of(times(*np.linspace(1.0, 1.001, 50)))
    value, products = largest_eigenvalue(
        lambda v: calls.append(1) or A @ v, randn(50), tol=1e-16, max_products=7
    )
    assert products == len(calls) == 7
    assert 1.0 <= value <= 1.001
