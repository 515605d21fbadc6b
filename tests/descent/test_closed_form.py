"""Descent of a kernel flow takes no steps, and is what steps give."""

import pytest
import torch

import gflow
from gflow.descent import DescentRequest, serve_descent
from gflow.descent.closed_form import closed_form_descent
from gflow.flows import KernelFlow
from gflow.studies import flow_and_descent
from tests.helpers import randn, relative, times


def kernel_flow(n, outputs=None, *, rank=None, seed=0):
    J = randn(n, n if rank is None else rank, seed=seed)
    return KernelFlow(J @ J.mT, randn(*((n,) if outputs is None else (n, outputs)), seed=seed + 1))


@pytest.fixture
def evaluations(monkeypatch):
    """Count the evaluations of a kernel's right-hand side."""
    calls, velocity = [], KernelFlow.__call__

    def counted(flow, t, y):
        calls.append(t)
        return velocity(flow, t, y)

    monkeypatch.setattr(KernelFlow, "__call__", counted)
    return calls


def by_steps(flow, start, step_size, saved_steps):
    return serve_descent(DescentRequest(flow, start, step_size, saved_steps, 0.0))


@pytest.mark.parametrize("outputs", [None, 3])
@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_no_step_is_taken(evaluations, outputs, batch):
    flow = kernel_flow(6, outputs, rank=4)
    start = randn(*batch, *flow.state_shape, seed=7)
    eta, saved = 0.4 * flow.stability_limit, [0, 1, 2, 30, 31, 400]
    closed = gflow.descend(flow, start, eta, 400)
    assert not evaluations
    steps = by_steps(flow, start, eta, saved)
    assert len(evaluations) == 400
    assert closed.ys.shape == (401, *start.shape)
    assert torch.equal(closed.ys[0], start)
    assert closed.diverged_at is None
    for k, u in zip(saved, steps.values["parameters"], strict=True):
        assert relative(closed.ys[k], u) <= 1e-13


@pytest.mark.parametrize("t_end", [100.0, 1e9])
def test_a_study_takes_no_step_whatever_its_length(evaluations, t_end):
    flow = kernel_flow(20, 3)
    study = flow_and_descent(flow, torch.zeros(20, 3).double(), t_end, points=10)
    steps = [int(descent.steps[-1]) for descent in study.descents]
    assert max(steps) > 10 * t_end
    assert len(evaluations) < 60  # the quadrature of the flow's energy, many states at a time
    for descent, last in zip(study.descents, steps, strict=True):
        step = torch.eye(20, dtype=torch.float64) - descent.step_size * flow.H
        truth = flow.targets - torch.linalg.matrix_power(step, last) @ flow.targets
        assert relative(descent.ys[-1], truth) <= 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("excess", [1.0001, 1.01, 1.5, 20.0, 1e12])
@pytest.mark.parametrize("last", [30, 2000, 60_000])
def test_divergence_is_that_of_the_steps(excess, last):
    flow = kernel_flow(5)
    start, eta = torch.zeros(5).double(), excess * flow.stability_limit
    saved = sorted({0, 1, last // 3, last})
    closed = closed_form_descent(DescentRequest(flow, start, eta, saved, 0.0))
    steps = by_steps(flow, start, eta, saved)
    assert closed.diverged_at == steps.diverged_at
    assert closed.steps == steps.steps
    for u, v in zip(*(record.values["parameters"] for record in (closed, steps)), strict=True):
        if torch.isfinite(v).all():
            assert relative(u, v) <= 1e-9


def test_members_of_an_ensemble_diverge_alone():
    H, targets = torch.diag(times(4.0, 1.0)), torch.zeros(2).double()
    starts = torch.eye(2, dtype=torch.float64)
    flow = KernelFlow(H, targets)
    request = DescentRequest(flow, starts, 0.6, [0, 10, 400], 0.0)
    closed, steps = closed_form_descent(request), serve_descent(request)
    assert closed.diverged_at == steps.diverged_at == [0, None]
    assert closed.steps == steps.steps == [0, 10, 400]


def test_few_steps_cost_less_than_an_eigendecomposition(evaluations):
    flow, start = kernel_flow(50), torch.zeros(50).double()
    gflow.descend(flow, start, 1e-3, 49)
    assert len(evaluations) == 49
    assert not flow._operator.is_decomposed
    gflow.descend(flow, start, 1e-3, 50)
    assert len(evaluations) == 49
    gflow.descend(flow, start, 1e-3, 1)  # now that it is decomposed
    assert len(evaluations) == 49


def test_products_alone_and_momentum_take_steps(evaluations):
    H = kernel_flow(3).H
    product = KernelFlow(lambda v: H @ v, torch.ones(3).double())
    gflow.descend(product, torch.zeros(3).double(), 0.01, 20)
    assert len(evaluations) == 20
    gflow.descend(kernel_flow(3), torch.zeros(3).double(), 0.01, 20, momentum=0.5)
    assert len(evaluations) == 40


def test_round_off_of_the_slowest_modes_is_reported():
    i = torch.arange(10, dtype=torch.float64)
    H = 1 / (1 + i[:, None] + i)  # the Hilbert matrix: λ_min is 1e-13 of λ_max
    flow = KernelFlow(H, torch.cos(i))
    with pytest.warns(RuntimeWarning, match="round-off of the smallest eigenvalues"):
        gflow.descend(flow, torch.zeros(10).double(), 0.5, 10**13, save_every=10**13)
