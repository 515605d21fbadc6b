"""The dual variable of a diagonal network: every weight to rtol while it jumps, from any start."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import gflow

RNG = np.random.default_rng(0)
X, TARGETS = RNG.normal(size=(4, 7)), RNG.normal(size=4)
LOG_SCALES = [-20.0, -200.0, math.log(1e-300) * 10 / 3]


def flow():
    return gflow.DiagonalFlow(torch.tensor(X), torch.tensor(TARGETS))


def times(log_scale):
    return -log_scale * np.linspace(0, 6, 301)


@functools.cache
def radau(log_scale):
    """w at the times, by an implicit method with the exact Jacobian at rtol 1e-12."""

    def squares(nu):
        return np.exp(nu @ X + 2 * log_scale), np.exp(-nu @ X + 2 * log_scale)

    def velocity(t, nu):
        return TARGETS - X @ np.subtract(*squares(nu))  # 4/n = 1

    def jacobian(t, nu):
        return -(X * sum(squares(nu))) @ X.T

    ts = times(log_scale)
    with np.errstate(all="ignore"):  # of trial states
        solved = solve_ivp(
            velocity, (0, ts[-1]), np.zeros(4), "Radau", ts, rtol=1e-12, atol=1e-11, jac=jacobian
        )
    return np.stack([np.subtract(*squares(nu)) for nu in solved.y.T])


def largest_error(path, truth):
    w = path.flow.end_to_end(path.ys).numpy().reshape(len(truth), -1, 7)
    size = np.linalg.norm(truth, axis=1)
    grown = size > 1e-3
    return np.max(np.linalg.norm(w - truth[:, None], axis=2)[grown].T / size[grown])


@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_weights_are_right_to_rtol_while_they_jump(log_scale):
    truth, start = radau(log_scale), flow().start(log_scale=log_scale)
    for rtol in (1e-4, 1e-6):
        path = gflow.integrate(flow(), start, times(log_scale), rtol=rtol, dense=True)
        assert path.certificate.holds
        assert largest_error(path, truth) <= 10 * rtol


def test_those_of_an_ensemble_are_and_its_log_scales_do_not_grow():
    log_scale, first = LOG_SCALES[-1], 125  # times until the first jumps are over
    starts = flow().start(log_scale=log_scale).expand(2, -1).clone()
    path = gflow.integrate(flow(), starts, times(log_scale)[:first], rtol=1e-4, dense=True)
    assert path.certificate.holds
    assert path.certificate.amplification < 2
    assert largest_error(path, radau(log_scale)[:first]) <= 30e-4  # by rock4


@pytest.mark.parametrize("method", ["dopri5", "scipy:LSODA"])
def test_libraries_measure_errors_in_the_exponent(method):
    log_scale = -50.0
    path = gflow.integrate(
        flow(), flow().start(log_scale=log_scale), times(log_scale), method, rtol=1e-5
    )
    assert largest_error(path, radau(log_scale)) <= 10e-5


@pytest.mark.parametrize("method", ["auto", "bdf", "tsit5", "rock4"])
def test_the_end_of_a_path_is_reached_where_nu_is_thousands(method):
    """Round-off of ν is far above what rtol of an exponent allows, where the flow is at rest."""
    alone = gflow.DiagonalFlow(torch.eye(2).double(), torch.tensor([2.0, -1.0]).double())
    ts = torch.linspace(0, 3000, 31).double()
    path = gflow.integrate(alone, alone.start(log_scale=LOG_SCALES[-1]), ts, method, rtol=1e-3)
    assert path.certificate.holds
    assert path.ys.isfinite().all()
