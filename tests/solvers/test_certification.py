"""The trajectory of a solve that stopped early, and the members in its certificate."""

import pytest
import torch

import gflow
from gflow.flows import FactorFlow


def test_a_solve_that_stops_early_ends_with_its_last_state():
    flow, y0 = FactorFlow.example()
    with pytest.raises(gflow.IntegrationError) as stopped:
        gflow.integrate(flow, y0, [0.0, 0.1, 50.0], "tsit5", max_evals=100)
    path = stopped.value.trajectory
    assert path.ts.tolist() == [0.0, 0.1, stopped.value.t]
    assert torch.equal(path.ys[-1], stopped.value.y)


def test_certificate_leaves_failed_members_out():
    flow, y0 = FactorFlow.example()
    starts = torch.stack([y0, 30 * y0, 2 * y0])
    path = gflow.integrate(flow, starts, [0.0, 1.0, 2.0], "tsit5", max_evals=400)
    assert list(path.failures) == [1]
    assert path.certificate.holds
    good = gflow.integrate(flow, starts[[0, 2]], [0.0, 1.0, 2.0], "tsit5", max_evals=400)
    drift, expected = path.certificate.invariant_drift, good.certificate.invariant_drift
    assert drift == pytest.approx(expected, rel=1e-6)
