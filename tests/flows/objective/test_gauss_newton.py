"""Damped Gauss-Newton steps against the dense Jacobian."""

import pytest
import torch
from torch import nn

import gflow
from gflow.flows.objective.gauss_newton import slope_and_curvature
from tests.helpers import randn, relative


def flow_of(criterion=nn.functional.mse_loss, targets=None, **keywords):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    targets = randn(4, 2, seed=2) if targets is None else targets
    return gflow.NetworkFlow(module, criterion, randn(4, 3, seed=1), targets, **keywords)


@pytest.mark.parametrize("chunk", [None, 2])
def test_a_step_is_that_of_the_dense_system(chunk):
    flow = flow_of(chunk=chunk)
    y = flow.pack()
    steps = flow.gauss_newton(y)
    J = torch.autograd.functional.jacobian(lambda s: flow.end_to_end(s).flatten(), y)
    gradient, eye = -flow(0.0, y), torch.eye(len(y), dtype=torch.float64)
    for damping in (1e-3, 1.0):
        expected = -torch.linalg.solve(2 / 8 * J.mT @ J + damping * eye, gradient)
        assert relative(steps.step(damping), expected) <= 1e-10
    assert steps.rank(1e-10) == 8
    assert steps.scale == pytest.approx(float((2 / 8 * J @ J.mT).norm()), rel=1e-12)


def test_a_singular_system_has_no_step():
    flow = gflow.NetworkFlow(
        nn.Linear(1, 1, bias=False).double(), nn.functional.mse_loss, randn(3, 1), randn(3, 1)
    )
    steps = flow.gauss_newton(flow.pack())
    assert steps.step(-1.0) is None
    assert steps.rank(1e-10) == 1


@pytest.mark.parametrize(
    "keywords",
    [
        {"weight_decay": 0.1},
        {"penalty": lambda q: q["0.weight"].square().sum()},
        {"rates": {"0": 2.0}},
        {"criterion": nn.functional.cross_entropy, "targets": torch.tensor([0, 1, 1, 0])},
        {"criterion": nn.functional.l1_loss},
    ],
)
def test_other_objectives_have_none(keywords):
    flow = flow_of(**keywords)
    assert flow.gauss_newton(flow.pack()) is None


def test_a_curvature_that_differs_is_none():
    weights = torch.tensor([1.0, 2.0])
    assert slope_and_curvature(lambda u: (weights * u * u).sum(), torch.ones(2)) is None
    assert slope_and_curvature(lambda u: -(u * u).sum(), torch.ones(2)) is None
