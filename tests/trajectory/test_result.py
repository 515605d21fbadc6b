"""The observables and statistics of a trajectory; the error of a solve that stops early."""

import pytest
import torch

import gflow
from gflow.flows import LayerwiseFlow
from tests.helpers import make_loss, randn, relative


def numeric_path(rtol=1e-8):
    flow = LayerwiseFlow(make_loss("distance", 2, 3), [3, 3, 2])
    y0 = 0.6 * randn(15)
    return flow, gflow.integrate(flow, y0, [0.0, 0.5, 1.0, 2.0], "dopri5", rtol, 1e-3 * rtol)


def test_a_trajectory_has_losses_and_observables():
    flow, path = numeric_path()
    assert torch.equal(path.losses, flow.loss(path.ys))
    assert (path.losses.diff() < 0).all()
    assert path.observables()["singular_values"].shape == (4, 2)
    assert repr(path).startswith("Trajectory(LayerwiseFlow, t = 0 … 2 at 4 times, dopri5, ")
    assert path.stats.rhs_evals > path.stats.accepted > 0
    assert path.stats.wall_seconds > 0
    assert relative(path.ys[0], 0.6 * randn(15)) == 0


def test_an_integration_error_has_the_path_up_to_the_stop():
    flow, path = numeric_path()
    with pytest.raises(gflow.IntegrationError, match="stopped at t = ") as stopped:
        gflow.integrate(flow, path.ys[0], [0.0, 0.1, 1e3], "dopri5", 1e-8, max_evals=200)
    error = stopped.value
    assert error.reason in str(error)
    assert isinstance(error, gflow.GflowError)
    assert 0.1 < error.t < 1e3
    assert error.trajectory.ts.tolist() == [0.0, 0.1, error.t]
    assert torch.equal(error.trajectory.ys[-1], error.y)
    assert error.folder is None
