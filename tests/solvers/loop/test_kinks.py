"""A flow that slides along a kink of its loss says so."""

import pytest
import torch

import gflow
from gflow.trajectory import IntegrationError


class Point(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.y = torch.nn.Parameter(torch.tensor([0.001, 10.0], dtype=torch.float64))

    def forward(self, x):
        return self.y


def valley():
    """φ = |y₁| + y₂: the flow slides along y₁ = 0."""
    nothing = torch.zeros(1, dtype=torch.float64)
    flow = gflow.NetworkFlow(Point(), lambda u, _: u[0].abs() + u[1], nothing, nothing)
    return flow, flow.pack()


def test_a_solve_that_cannot_reach_the_end_stops_early_and_says_why(monkeypatch):
    monkeypatch.setattr("gflow.solvers.loop.kinks._SHORTEST", 300)
    flow, y = valley()
    with (
        pytest.warns(UserWarning, match=r"the solve is slow at t = .* jumps step after step"),
        pytest.raises(IntegrationError, match=r"at kinks of the loss \(ReLU") as caught,
    ):
        gflow.integrate(flow, y, [0.0, 10.0], rtol=1e-7, max_evals=20_000)
    stats = caught.value.trajectory.stats
    assert stats.rhs_evals < 3_000
    assert "slow from t = " in stats.reason


def test_a_solve_that_reaches_the_end_only_says_so(monkeypatch):
    monkeypatch.setattr("gflow.solvers.loop.kinks._SHORTEST", 100)
    monkeypatch.setattr("gflow.solvers.loop.kinks._SLOW", 2)
    monkeypatch.setattr("gflow.solvers.loop.kinks._WINDOWS", 4_000)
    flow, y = valley()
    with pytest.warns(UserWarning, match="the solve is slow"):
        path = gflow.integrate(flow, y, [0.0, 0.02], rtol=1e-7, max_evals=400_000)
    assert abs(float(path.ys[-1, 1]) - 9.98) <= 1e-6
    assert "at kinks of the loss" in path.stats.reason


def test_smooth_flows_are_left_alone(monkeypatch, recwarn):
    monkeypatch.setattr("gflow.solvers.loop.kinks._SHORTEST", 100)
    flow, theta = gflow.NetworkFlow.example()
    with pytest.raises(IntegrationError, match="budget"):
        gflow.integrate(flow, theta, [0.0, 1e6], method="tsit5", max_evals=900)
    assert not recwarn
