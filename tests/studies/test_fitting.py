"""A fitted power recovers the one that made the data, and its interval has its coverage."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from gflow.studies.fitting import fit_order, fit_power

WIDTHS = [128, 512, 2048, 8192]


def sample(slope, seeds, noise, seed):
    draw = np.random.default_rng(seed)
    rows = [3.0 * m**slope * np.exp(noise * draw.standard_normal(seeds)) for m in WIDTHS]
    return torch.tensor(np.stack(rows))


@pytest.mark.parametrize("order", [1.0, 2.0, 3.7])
def test_fit_of_a_pure_power(order):
    sizes = np.array([0.4, 0.2, 0.1, 0.05])
    fit = fit_order(sizes, 3 * sizes**order, [True] * 4, 1e-20)
    assert fit.order == pytest.approx(order, rel=1e-12)
    assert fit.order_interval == pytest.approx((order, order), abs=1e-10)
    assert fit.fitted == (True,) * 4
    assert fit.refusal is None


def test_fit_uses_the_asymptotic_range_only():
    sizes = np.array([0.8, 0.4, 0.2, 0.1, 0.05, 0.025])
    gaps = sizes * (1 + 8 * sizes**3)
    fit = fit_order(sizes, gaps, [True] * 6, 1e-12)
    assert fit.fitted == (False, False, True, True, True, True)
    assert fit.order == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("count", [8, 30])
def test_confidence_interval_has_its_coverage(count):
    rng = np.random.default_rng(0)
    sizes = 0.5 ** np.arange(count)
    inside = 0
    for _ in range(400):
        gaps = sizes * np.exp(0.003 * rng.standard_normal(count))
        fit = fit_order(sizes, gaps, [True] * count, 1e-30)
        assert all(fit.fitted)
        low, high = fit.order_interval
        inside += low <= 1.0 <= high
    assert 0.92 <= inside / 400 <= 0.98


@pytest.mark.parametrize(("count", "factor"), [(3, 12.706), (12, 2.228), (22, 2.086)])
def test_interval_uses_students_t(count, factor):
    """Quantiles of Student's t from a printed table, at count - 2 degrees of freedom."""
    sizes = 0.5 ** np.arange(count)
    noise = 0.01 * np.sin(np.arange(count))
    fit = fit_order(sizes, sizes * np.exp(noise), [True] * count, 1e-30)
    regression = scipy.stats.linregress(np.log(sizes), np.log(sizes) + noise)
    low, high = fit.order_interval
    assert (high - low) / 2 == pytest.approx(factor * regression.stderr, rel=1e-9)


def test_fit_refuses_data_without_a_power():
    sizes = np.array([0.4, 0.2, 0.1, 0.05])
    fit = fit_order(sizes, [1.0, 0.3, 0.2, 0.01], [True] * 4, 1e-12)
    assert "no asymptotic range" in fit.refusal
    assert not any(fit.fitted)
    assert fit.order is fit.order_interval is None


@pytest.mark.parametrize("slope", [-0.5, -1.0, 0.25])
def test_recovers_a_power_without_noise(slope):
    law = fit_power(WIDTHS, sample(slope, 3, 0.0, 0))
    assert law.slope == pytest.approx(slope, abs=1e-12)
    assert law.constant == pytest.approx(3.0, rel=1e-10)
    assert law.interval == pytest.approx((slope, slope), abs=1e-12)


def test_interval_of_a_power_has_its_coverage():
    inside = 0
    for seed in range(100):
        low, high = fit_power(WIDTHS, sample(-0.5, 15, 0.4, seed)).interval
        inside += low <= -0.5 <= high
    assert 85 <= inside <= 100


def test_one_seed_has_no_interval():
    assert fit_power(WIDTHS, sample(-0.5, 1, 0.1, 0)).interval is None


def test_seeds_that_diverged_are_omitted():
    values = sample(-0.5, 3, 0.0, 0)
    values[1, 2] = math.nan
    assert fit_power(WIDTHS, values).slope == pytest.approx(-0.5, abs=1e-12)


@pytest.mark.parametrize("fault", ["one width", "the same width", "zero", "all diverged"])
def test_data_without_a_power_have_no_fit(fault):
    widths, values = list(WIDTHS), sample(-0.5, 3, 0.1, 0)
    if fault == "one width":
        widths, values = widths[:1], values[:1]
    elif fault == "the same width":
        widths = [8, 8, 8, 8]
    else:
        values[2] = 0.0 if fault == "zero" else math.nan
    assert fit_power(widths, values) is None


@pytest.mark.parametrize("order", [1.0, 2.0])
@pytest.mark.parametrize("correction", [-0.3, 0.3, 1.0])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("ratio", [0.5, 0.7, 0.3])
def test_drifting_orders_are_within_the_interval_or_refused(order, correction, power, ratio):
    """gap = h^p(1 + c·h^q): the truth is beyond the local orders, which approach it."""
    for count, largest in ((4, 0.4), (5, 0.4), (5, 0.1), (8, 0.4)):
        sizes = largest * ratio ** np.arange(count)
        fit = fit_order(sizes, sizes**order * (1 + correction * sizes**power), [True] * count, 0.0)
        if fit.order is not None:
            low, high = fit.order_interval
            assert low <= order <= high


def test_a_delay_behind_a_plateau_has_order_one_in_its_interval():
    """Descent is late by ln(1/b)/2 steps: w(t) moves from 0 to 1 as a logistic function of t."""
    t = np.linspace(-30, 30, 4001)
    for logs in (5.0, 13.8, 23.0, 100.0, 1000.0):
        for largest in (0.4, 0.1, 0.02, 1e-3):
            sizes = largest * 0.5 ** np.arange(5)
            gaps = [np.abs(_logistic(t) - _logistic(t - logs * h / 2)).max() for h in sizes]
            fit = fit_order(sizes, gaps, [True] * 5, 1e-9, extent=1.0)
            if fit.order is not None:
                low, high = fit.order_interval
                assert low <= 1 <= high
            elif logs * largest < 1:
                raise AssertionError(fit.refusal)
            else:
                assert fit.refusal.endswith("smaller steps")


def _logistic(t):
    return 1 / (1 + np.exp(-t))


def test_gaps_that_do_not_fall_have_no_order():
    sizes = np.array([0.4, 0.2, 0.1, 0.05])
    for gaps in ([1.0, 1.0, 1.0, 1.0], [0.99, 1.0, 0.99, 1.0]):
        assert "does not fall" in fit_order(sizes, gaps, [True] * 4, 1e-12).refusal


def test_the_error_of_the_solver_is_in_the_interval():
    """The smallest gap may be 3 % solver error, which bends the line."""
    sizes = np.array([0.4, 0.2, 0.1, 0.05])
    error = sizes[-1] / 31
    for sign in (-1, 1):
        low, high = fit_order(sizes, sizes + sign * error, [True] * 4, error).order_interval
        assert low <= 1 <= high


def test_slopes_that_change_with_the_width_are_in_the_interval():
    values = torch.tensor([[1.0, 1.001], [0.5, 0.501], [0.3, 0.301], [0.25, 0.2501]]).double()
    low, high = fit_power(WIDTHS, values).interval
    assert low <= math.log(0.5) / math.log(4) + 1e-3
    assert high >= math.log(0.25 / 0.3) / math.log(4) - 2e-3


def test_an_escape_from_a_plateau_has_order_1_in_its_interval():
    """The gaps of the flow of (w² − 1)²/4 from 1e-6 to t = 30, in steps of 0.4 … 0.025."""
    gaps = [0.69303, 0.43365, 0.22515, 0.12045, 0.061411]
    fit = fit_order([0.4, 0.2, 0.1, 0.05, 0.025], gaps, [True] * 5, 5e-11, 1.0)
    assert fit.order is None or fit.order_interval[0] <= 1 <= fit.order_interval[1]
