"""A path that has converged is at its end, however long the time; one at a saddle leaves it."""

import math

import pytest
import torch

import gflow
from gflow.losses import SquaredDistance
from tests.helpers import slow_except, times
from tests.solvers.loop.cases import GFLOW_METHODS, LONE_METHODS

TARGET = torch.diag(times(3.0, 1.0))
DEEP = gflow.EndToEndFlow(SquaredDistance(TARGET), 3)
LAYERS = gflow.LayerwiseFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), [2, 2, 2, 2])
LONG = [0.0, 10.0, 1e25, 1e30]


def start(*mode_sizes):
    """Return three equal diagonal layers."""
    layer = torch.diag(times(*mode_sizes))
    return torch.cat([layer.reshape(-1)] * 3)


@pytest.mark.parametrize("method", slow_except([*GFLOW_METHODS, "auto"], "tsit5", "auto"))
def test_a_converged_path_is_at_its_end(method):
    W0 = times(0.5, 0.2, 0.1, 0.5).view(2, 2)
    path = gflow.integrate(DEEP, W0, LONG, method, max_evals=40_000)
    assert "at rest from t = " in path.stats.reason
    assert path.certificate.holds
    assert path.ts.tolist() == LONG
    assert float((path.ys[2:] - TARGET).norm(dim=(1, 2)).max()) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in [*GFLOW_METHODS, "auto"] if m not in LONE_METHODS])
def test_every_member_comes_to_rest_by_itself(method):
    W0 = times(0.5, 0.2, 0.1, 0.5).view(2, 2)
    path = gflow.integrate(DEEP, torch.stack([W0, 2 * W0]), LONG, method, max_evals=100_000)
    assert not path.failures
    assert float((path.ys[2:] - TARGET).norm(dim=(2, 3)).max()) <= 1e-12


@pytest.mark.parametrize("method", slow_except(["rock4", "bdf"], "bdf"))
def test_a_slow_mode_still_leaves_the_saddle(method):
    """The other mode is at rest while s' = s² − s⁵ takes a time of 1/s to grow."""
    path = gflow.integrate(LAYERS, start(0.5, 1e-3), [0.0, 900.0, 1e12], method, max_evals=200_000)
    before, after = (LAYERS.end_to_end(y).diagonal() for y in path.ys[1:])
    assert abs(float(before[0]) - 1) <= 1e-6
    assert float(before[1]) < 0.1
    assert torch.allclose(after, torch.ones(2, dtype=torch.float64), atol=1e-9)


def test_a_path_at_rest_stays_there_for_any_time():
    nothing = gflow.integrate(LAYERS, start(1.0, 0.0), LONG, "tsit5", max_evals=20_000)
    assert torch.equal(nothing.ys, nothing.ys[:1].expand_as(nothing.ys))


def test_a_longest_step_is_kept_to():
    W0 = times(0.5, 0.2, 0.1, 0.5).view(2, 2)
    with pytest.raises(gflow.IntegrationError, match="budget"):
        gflow.integrate(DEEP, W0, LONG, "tsit5", max_evals=5_000, max_step=10.0)


def test_states_between_are_those_at_rest_in_dense_output():
    W0 = times(0.5, 0.2, 0.1, 0.5).view(2, 2)
    ts = [0.0, *(10.0**k for k in range(1, 31))]
    path = gflow.integrate(DEEP, W0, ts, "tsit5", dense=True, max_evals=40_000)
    assert math.isclose(float(path.ys[-1, 0, 0]), 3.0, rel_tol=1e-12)
    assert torch.equal(path.ys[5:], path.ys[-1:].expand_as(path.ys[5:]))
