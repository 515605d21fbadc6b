"""The stability limit against dense Hessians, and against descent itself."""

import math

import pytest
import torch

import gflow
from gflow.flows import EndToEndFlow, FactorFlow, KernelFlow, ProductFlow
from gflow.studies.stability import stability_limit
from tests.helpers import make_loss, of_rank, randn, times
from tests.studies.test_step_size import diabetes


def test_descent_leaves_a_minimum_just_beyond_the_limit():
    M = of_rank(3, 3, 4)
    flow = EndToEndFlow(gflow.losses.SquaredDistance(M), 3)
    inner, theta = flow.parameter_flow, flow.lift(M)
    limit = stability_limit(flow, M[None])
    start = theta + 1e-9 * randn(len(theta), seed=4)
    for factor in (0.97, 1.03):
        gd = gflow.descend(inner, start, factor * limit, 200, save_every=100)
        # The top direction is multiplied by 1 − 2·factor a step, all others shrink or stay.
        moved = (gd.parameters[1:] - theta).norm(dim=1)
        if factor < 1:
            assert float(moved.max()) <= 1e-9 * len(theta) ** 0.5 * 2
        else:
            growth = float(moved[1] / moved[0]) ** (1 / 100)
            assert growth == pytest.approx(2 * factor - 1, abs=5e-3)


def dense_limit(flow, ys):
    inner = flow.parameter_flow
    largest = 0.0
    for y in ys:
        theta = flow.lift(y)
        H = torch.autograd.functional.hessian(
            lambda v, shape=theta.shape: inner.loss(v.reshape(shape)), theta.flatten()
        )
        largest = max(largest, float(torch.linalg.eigvalsh(H)[-1]))
    return 2 / largest


@pytest.mark.parametrize("kind", ["end to end", "product", "factor", "network", "wide"])
def test_stability_limit_is_that_of_the_dense_hessian(kind):
    if kind == "end to end":
        flow, y0 = diabetes()
    elif kind == "product":
        flow, U = ProductFlow(make_loss("completion", 4, 4)), of_rank(4, 4, 4)
        y0 = U @ U.mT
    elif kind == "factor":
        flow, y0 = FactorFlow(make_loss("sensing", 4, 4)), of_rank(4, 4, 4)
    elif kind == "network":
        flow, y0 = gflow.NetworkFlow.example()
    else:
        flow, y0 = EndToEndFlow(make_loss("regression", 3, 5), 4), of_rank(3, 3, 5)
    ys = gflow.integrate(flow, y0, torch.linspace(0, 3, 5)).ys
    assert stability_limit(flow, ys) == pytest.approx(dense_limit(flow, ys), rel=1e-6)


def test_stability_limit_of_a_kernel_and_of_a_zero_hessian():
    flow = KernelFlow(torch.diag(times(8.0, 1.0)), times(1.0, 1.0))
    assert stability_limit(flow, torch.zeros(3, 2).double()) == pytest.approx(0.25, rel=1e-9)
    flat = KernelFlow(torch.zeros(2, 2).double(), times(1.0, 1.0))
    assert stability_limit(flat, torch.zeros(1, 2).double()) == math.inf
