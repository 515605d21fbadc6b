"""A fitted power recovers the one that made the data, and its interval covers it."""

import math

import numpy as np
import pytest
import torch

from gflow.studies.power_law import fit_power

WIDTHS = [128, 512, 2048, 8192]


def sample(slope, seeds, noise, seed):
    draw = np.random.default_rng(seed)
    rows = [3.0 * m**slope * np.exp(noise * draw.standard_normal(seeds)) for m in WIDTHS]
    return torch.tensor(np.stack(rows))


@pytest.mark.parametrize("slope", [-0.5, -1.0, 0.25])
def test_recovers_a_power_without_noise(slope):
    law = fit_power(WIDTHS, sample(slope, 3, 0.0, 0))
    assert law.slope == pytest.approx(slope, abs=1e-12)
    assert law.constant == pytest.approx(3.0, rel=1e-10)
    assert law.interval == pytest.approx((slope, slope), abs=1e-12)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    inside = 0
    for seed in range(100):
        low, high = fit_power(WIDTHS, sample(-0.5, 15, 0.4, seed)).interval
        inside += low <= -0.5 <= high
    assert 85 <= inside <= 100


def test_one_seed_has_no_interval():
    assert fit_power(WIDTHS, sample(-0.5, 1, 0.1, 0)).interval is None


def test_seeds_that_diverged_are_left_out():
    values = sample(-0.5, 3, 0.0, 0)
    values[1, 2] = math.nan
    assert fit_power(WIDTHS, values).slope == pytest.approx(-0.5, abs=1e-12)


@pytest.mark.parametrize("fault", ["one width", "the same width", "zero", "all diverged"])
def test_no_fit_where_there_is_none(fault):
    widths, values = list(WIDTHS), sample(-0.5, 3, 0.1, 0)
    if fault == "one width":
        widths, values = widths[:1], values[:1]
    elif fault == "the same width":
        widths = [8, 8, 8, 8]
    else:
        values[2] = 0.0 if fault == "zero" else math.nan
    assert fit_power(widths, values) is None
