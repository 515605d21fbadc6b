"""Oscillating descent against plain descent, and a closed form of its oscillation."""

import numpy as np
import pytest
import torch

import gflow
from gflow.flows import FactorFlow
from gflow.flows.sharpness import sharpness
from gflow.studies.oscillation import moving_mean, oscillating_descent
from tests.helpers import randn, relative


def test_oscillating_descent_agrees_with_descent():
    flow, y0 = FactorFlow.example()
    steps = [0, 1, 4, 9]
    measured, gd = oscillating_descent(flow, y0, 0.05, steps), gflow.descend(flow, y0, 0.05, 9)
    assert torch.equal(measured.descent.ys, gd.ys[steps])
    assert relative(measured.losses, gd.losses) <= 1e-14
    assert measured.step_ts.tolist() == pytest.approx(gd.ts.tolist())
    for k, value in zip(steps, measured.sharpness, strict=True):
        top = sharpness(flow, gd.ys[k], tol=1e-9).values
        assert float(value) == pytest.approx(float(top), rel=5e-3)


def bowl():
    """½(4θ_1² + θ_2²) from (1, 1)."""
    module = torch.nn.Linear(2, 1, bias=False).double()
    X = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    criterion = lambda u, y: 0.5 * (u - y).square().sum()  # noqa: E731
    flow = gflow.NetworkFlow(module, criterion, X, torch.zeros(2, 1).double())
    return flow, torch.ones(2, dtype=torch.float64)


def test_oscillation_is_the_alternating_part():
    # θ_k = q^k·θ_0 along each axis: δ_k = θ_k(2 − q − 1/q)/4.
    flow, y0 = bowl()
    measured = oscillating_descent(flow, y0, 0.48, [0, 3, 4, 10])
    q = 1 - 0.48 * torch.tensor([4.0, 1.0], dtype=torch.float64)
    states = q ** torch.arange(11)[:, None]
    delta = (states * (2 - q - 1 / q) / 4)[1:-1]
    assert relative(measured.variances[1:-1], delta.square().sum(1)) <= 1e-12
    sign = float(torch.sign(measured.oscillation[1] * delta[0, 0]))
    assert relative(sign * measured.oscillation[1:-1], delta[:, 0]) <= 1e-6
    assert measured.oscillation[[0, -1]].isnan().all()
    assert (measured.oscillation[1:-2] * measured.oscillation[2:-1] < 0).all()


def test_oscillating_descent_ends_where_descent_diverges():
    flow, y0 = bowl()
    measured = oscillating_descent(flow, y0, 0.6, [0, 2, 10, 100, 200])
    assert 10 <= measured.descent.diverged_at < 100
    assert measured.descent.steps.tolist() == [0, 2, 10]
    assert torch.isfinite(measured.descent.ys).all()
    assert len(measured.sharpness) == len(measured.descent.steps)
    assert len(measured.losses) == len(measured.variances) == len(measured.step_ts)


def test_moving_mean_is_the_mean_of_the_window():
    values = randn(30)
    values[0] = values[-1] = torch.nan
    measured = moving_mean(values, 4).numpy()
    for k in range(1, 29):
        reach = min(4, k, 29 - k)
        window = values[k - reach : k + reach + 1].numpy()
        assert measured[k] == pytest.approx(np.nanmean(window), abs=1e-14)
    assert np.isnan(measured[[0, -1]]).all()
