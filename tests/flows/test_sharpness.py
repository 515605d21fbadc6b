"""Largest eigenvalues of the Hessian, at a state and along a path."""

import pytest
import torch

import gflow
from benchmarks.problems import tanh
from gflow.flows.sharpness import sharpness, sharpness_along
from tests.helpers import flow_classes, relative


@pytest.mark.parametrize("kind", flow_classes(), ids=lambda c: c.__name__)
def test_sharpness_is_that_of_the_dense_hessian(kind):
    flow, y0 = kind.example()
    inner, theta = flow.parameter_flow, flow.lift(y0)
    eye = torch.eye(theta.numel()).double()
    J = torch.stack([inner.jvp(theta, e.reshape(theta.shape)).flatten() for e in eye])
    truth = torch.linalg.eigvalsh(-J).flip(0)
    top = sharpness(flow, y0, 2, tol=1e-9)
    assert relative(top.values, truth[:2]) <= 1e-10
    loose = sharpness(flow, y0)
    assert float(loose.values[0]) == pytest.approx(float(truth[0]), rel=1e-3)


def test_sharpness_along_a_path_is_that_of_each_state():
    flow, y0 = gflow.NetworkFlow.example()
    ys = gflow.integrate(flow, y0, torch.linspace(0, 5, 11)).ys
    values, products = sharpness_along(flow, ys, 2, tol=1e-8)
    single = torch.stack([sharpness(flow, y, 2, tol=1e-8).values for y in ys])
    assert values.shape == (11, 2)
    assert relative(values, single) <= 1e-10
    assert products <= 11 * len(y0)
    rough, fewer = sharpness_along(flow, ys)
    assert float((rough[:, 0] / values[:, 0] - 1).abs().max()) <= 2e-3
    assert fewer < products


@pytest.mark.slow
def test_sharpness_along_digits_takes_few_products():
    problem = tanh(30)
    flow = problem.make()
    ts = torch.linspace(0, 30, 16)
    ys = gflow.integrate(flow, problem.y0, ts, rtol=1e-4, atol=1e-7).ys
    values, products = sharpness_along(flow, ys)
    truth, _ = sharpness_along(flow, ys, 2, tol=1e-6)
    assert float((values[:, 0] / truth[:, 0] - 1).abs().max()) <= 0.02
    assert products <= 6 * len(ys)
