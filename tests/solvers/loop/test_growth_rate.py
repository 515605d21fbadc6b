"""The rate at which a perturbation may grow, against matrices with known eigenvalues."""

import pytest
import torch

from gflow.solvers.loop.growth_rate import growth_rate, random_vectors
from tests.helpers import randn


def turned(rates, seed=0):
    Q = torch.linalg.qr(randn(len(rates), len(rates), seed=seed))[0]
    return (Q * torch.as_tensor(rates, dtype=torch.float64)) @ Q.mT, Q


def followed(J, y, estimates, first=12):
    """Rates of estimates that start from each other."""
    vectors, rates = random_vectors(y, 0), []
    for i in range(estimates):
        growth = growth_rate(lambda s: s @ J, y, y @ J, vectors, first if i == 0 else 4, seed=i)
        vectors = growth.vectors
        rates.append(growth.rate)
    return rates, growth


@pytest.mark.parametrize("rates", [[3.0], [-300.0, 1.0], [-1e4, -1.0, 0.5, -30.0]])
def test_small_spectra_are_known_at_once(rates):
    J, Q = turned(rates)
    y = randn(2, len(rates), seed=1)
    (rate,), growth = followed(J, y, 1)
    assert rate == pytest.approx([max(rates)] * 2, rel=1e-3)  # √eps of the fastest rate
    mode = Q[:, rates.index(max(rates))]
    assert (growth.vectors[:, 0] @ mode).abs().min() > 1 - 1e-6


def test_a_stiff_spectrum_is_approached_from_below():
    spectrum = -torch.logspace(-3, 2, 100, dtype=torch.float64)
    spectrum[5] = 1.0
    rates, growth = followed(turned(spectrum)[0], randn(1, 100, seed=1), 60)
    assert all(rate[0] <= 1 + 1e-6 for rate in rates)
    assert rates[-1][0] > 0.99
    assert growth.kept[0] > 0.99


def test_where_the_mode_saturates_its_successor_is_found():
    y = randn(1, 30, seed=1)
    spectrum = [-float(i) for i in range(30)]
    spectrum[4], spectrum[20] = 2.0, 1.0
    J, Q = turned(spectrum)
    _, growth = followed(J, y, 8)
    saturated = J - 6.0 * torch.outer(Q[:, 4], Q[:, 4])
    vectors = growth.vectors
    for i in range(12):
        growth = growth_rate(lambda s: s @ saturated, y, y @ saturated, vectors, seed=i)
        vectors = growth.vectors
    assert growth.rate[0] == pytest.approx(1.0, rel=1e-2)


def test_nothing_grows_in_a_valley_and_round_off_is_no_evidence():
    J, _ = turned([-1e9, -1.0, -1e-3])
    assert followed(J, randn(1, 3, seed=1), 1)[0][0][0] == 0


def test_what_cannot_be_measured_is_nan_and_leaves_the_others_alone():
    J, _ = turned([-3.0, 1.0])
    y = torch.tensor([[1.0, 1.0], [torch.inf, 0.0]], dtype=torch.float64)
    growth = growth_rate(lambda s: s @ J, y, y @ J, random_vectors(y, 0))
    assert growth.rate[0] == pytest.approx(1.0, rel=1e-5)
    assert not growth.rate[1] > 0
    assert torch.isfinite(growth.vectors).all()
