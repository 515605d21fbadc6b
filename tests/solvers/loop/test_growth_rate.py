"""The rate at which a perturbation may grow, against matrices with known eigenvalues."""

import numpy as np
import pytest
import torch

import gflow
from gflow.solvers.loop.growth_rate import growth_rate, needs_exact, random_vectors
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


def test_a_mode_that_is_orthogonal_to_all_others_is_found():
    rates = torch.tensor([-5.0, -4.0, 0.5], dtype=torch.float64)
    y = torch.tensor([[1.0, 1.0, 1e-14]], dtype=torch.float64)
    e1 = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    vectors = torch.stack([e1, 0 * e1])[None]  # the mode that was followed, at rest by now
    f = torch.tensor([[0.0, 1e-9, 1e-20]], dtype=torch.float64)
    growth = growth_rate(lambda s: f + rates * (s - y), y, f, vectors)
    assert growth.rate[0] == pytest.approx(0.5, rel=1e-5)
    assert growth.vectors[0, 0, 2].abs() == pytest.approx(1.0, rel=1e-6)


def test_exact_products_show_what_differences_in_float32_hide():
    J = turned([-5000.0, 3.0])[0].float()
    y = randn(1, 2, seed=1).float()
    vectors = random_vectors(y, 0)
    differences = growth_rate(lambda s: s @ J, y, y @ J, vectors)
    exact = growth_rate(lambda s: s @ J, y, y @ J, vectors, product=lambda v: v @ J)
    assert differences.rate[0] == 0.0
    assert differences.blind[0] > 3.0
    assert exact.rate[0] == pytest.approx(3.0, rel=1e-2)


def test_exact_products_are_needed_where_a_hidden_mode_could_grow():
    factor, _ = gflow.FactorFlow.example()
    reduced, _ = gflow.EndToEndFlow.example()
    blind = np.array([np.nan, 0.01, 1.0])
    assert needs_exact(factor, blind, 10.0).tolist() == [False, False, True]
    assert not needs_exact(reduced, blind, 10.0).any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_mode_slower_than_round_off_of_the_fastest_is_found_as_it_is_followed(seed):
    rates = torch.tensor([-935000.0, -0.0065, 0.387])
    Q = torch.linalg.qr(randn(3, 3, seed=seed))[0].float()
    vectors, y = random_vectors(torch.ones(1, 3), 0), torch.ones(1, 3)

    def J(v):
        return (v @ Q * rates) @ Q.mT

    for i in range(3):
        growth = growth_rate(J, y, J(y), vectors, seed=i, product=J)
        vectors = growth.vectors
    assert growth.rate[0] == pytest.approx(0.387, rel=0.02)


def test_nothing_grows_in_a_valley_with_exact_products():
    rates = -torch.logspace(-4, 6, 6)
    Q = torch.linalg.qr(randn(6, 6, seed=3))[0].float()
    vectors, y = random_vectors(torch.ones(1, 6), 0), torch.ones(1, 6)

    def J(v):
        return (v @ Q * rates) @ Q.mT

    for i in range(20):
        growth = growth_rate(J, y, J(y), vectors, seed=i, product=J)
        vectors = growth.vectors
        assert growth.rate[0] < 1e-3


@pytest.mark.parametrize("members", [1, 3])
def test_what_a_mode_keeps_is_the_overlap_with_the_last_one(members):
    J, _ = turned([-30.0, 2.0, 1.0, -4.0, 0.5, -1.0])
    y, vectors = randn(members, 6, seed=1), random_vectors(randn(members, 6), 3)
    f = y @ J
    f[members - 1] = 0.0  # at rest
    growth = growth_rate(lambda s: s @ J - y @ J + f, y, f, vectors, 6)
    overlap = (growth.vectors[:, 0] * vectors[:, 0]).sum(1).abs()
    assert growth.kept == pytest.approx(overlap.numpy(), abs=1e-12)
    assert 0 < growth.kept.max() < 1
    assert growth.rate.shape == growth.kept.shape == (members,)
    assert growth.rate[members - 1] == 0  # exactly at rest nothing leaves
    assert growth.rate[: members - 1] == pytest.approx(2.0, rel=1e-4)
