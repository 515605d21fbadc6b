"""The flow of W with its modes in clusters, against the velocity of W itself."""

import numpy as np
import pytest
import torch
from torch.func import jvp

from gflow.flows import end_to_end_rhs, product_rhs
from gflow.flows.singular.clusters import ClusterFlow, compressed, expanded, expansion
from gflow.losses import MatrixCompletion
from tests.helpers import make_loss, randn, relative

LOGS = torch.tensor([0.3, 0.1, -1.2], dtype=torch.float64)
CLUSTERS = [[1, 1, 1], [2, 1], [1, 2], [3]]


def cluster_flow(clusters, shape=(3, 4), depth=3, symmetric=False):
    flow = ClusterFlow(make_loss("completion", *shape), depth, symmetric, clusters)
    U, V = (torch.linalg.qr(randn(size, 3, seed=size))[0] for size in shape)
    y = flow.pack(LOGS, U, U if symmetric else V)
    for _, _, count, at in flow.layout.blocks:  # blocks that are not diagonal
        block = y[at : at + count * count].reshape(count, count)
        block += 0.2 * (torch.ones(count, count) if symmetric else randn(count, count))
    return flow, y


@pytest.mark.parametrize("clusters", CLUSTERS)
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_w_moves_as_that_of_layers(clusters, depth):
    flow, y = cluster_flow(clusters, (4, 3) if depth == 4 else (3, 4), depth)
    W, moved = jvp(flow.end_to_end, (y,), (flow(0.0, y),))
    truth = end_to_end_rhs(W, flow.network_loss.gradient(W), depth)
    assert relative(moved, truth) < 1e-12


@pytest.mark.parametrize("clusters", CLUSTERS)
def test_w_moves_as_that_of_a_factor(clusters):
    flow, y = cluster_flow(clusters, (4, 4), 2, symmetric=True)
    W, moved = jvp(flow.end_to_end, (y,), (flow(0.0, y),))
    assert relative(moved, product_rhs(W, flow.network_loss.gradient(W))) < 1e-12


@pytest.mark.parametrize("clusters", CLUSTERS)
def test_states_of_singular_values_have_the_same_product(clusters):
    flow, y = cluster_flow(clusters)
    logs, U, V = flow.modes(y)
    assert relative((U * logs.exp()) @ V.mT, flow.end_to_end(y)) < 1e-13
    assert logs.exp().sort().values.numpy() == pytest.approx(
        torch.linalg.svdvals(flow.end_to_end(y))[:3].flip(0).numpy(), rel=1e-12
    )


@pytest.mark.parametrize("clusters", CLUSTERS)
def test_arrays_and_ensembles_agree_with_one_state(clusters):
    flow, y = cluster_flow(clusters)
    velocity = flow._velocity(y, flow.network_loss.gradient)
    form = flow.array_form()
    assert relative(form.velocity(y.numpy()), velocity) < 1e-14
    assert float(form.loss(y.numpy())) == pytest.approx(float(flow.loss(y)), rel=1e-14)
    G = flow.network_loss.gradient(flow.end_to_end(y))
    rate = float(flow._dissipation(y, velocity, G))
    assert form.dissipation(y.numpy(), velocity.numpy()) == pytest.approx(rate, rel=1e-13)
    other = form.velocity(1.01 * y.numpy())
    fall = float(flow.dissipation(1.01 * y, torch.from_numpy(other)))
    assert form.dissipation(1.01 * y.numpy(), other) == pytest.approx(fall, rel=1e-13)
    assert form.dissipation(y.numpy(), velocity.numpy()) == pytest.approx(rate, rel=1e-13)
    state = y.numpy().copy()
    form.velocity(state)
    state *= 1.01  # in place, behind the velocity
    assert form.dissipation(state, other) == pytest.approx(fall, rel=1e-13)
    assert relative(flow(0.0, torch.stack([y, y]))[1], velocity) < 1e-14


def test_the_loss_falls_at_the_rate_of_dissipation():
    flow, y = cluster_flow([2, 1])
    _, rate = jvp(flow.loss, (y,), (flow(0.0, y),))
    assert float(flow.dissipation(y, flow(0.0, y))) == pytest.approx(-float(rate), rel=1e-12)


def test_numbers_of_a_state_expand_to_logs_of_any_size():
    logs = np.array([-1e9, -1e4, -3010.0, -3000.0, -290.0, -280.0, -100.0, 0.0, 5.0])
    a = compressed(logs)
    assert expanded(a) == pytest.approx(logs, rel=1e-12)
    slope = (expanded(a + 1e-6) - expanded(a - 1e-6)) / 2e-6
    assert expansion(a) == pytest.approx(slope, rel=1e-6)
    assert np.abs(a[6:] - logs[6:]).max() < 1e-11  # a log itself where it is not that far below


def test_perturbations_are_those_of_layers_in_which_the_jacobian_is_symmetric():
    """Two layers far along a valley, where that of the state is far from symmetric."""
    mask = torch.tensor([[False, True], [True, True]])
    loss = MatrixCompletion(torch.eye(2, dtype=torch.float64).flip(0), mask)
    flow = ClusterFlow(loss, 2, False, [1, 1])
    angle = torch.tensor(1 / 27.0, dtype=torch.float64)
    c, s = angle.cos(), angle.sin()
    U = torch.stack([torch.stack([c, -s]), torch.stack([s, c])])
    y = flow.pack(torch.tensor([27.0, 1e-9], dtype=torch.float64).log(), U, U)
    J = torch.autograd.functional.jacobian(lambda y: flow(0.0, y), y)
    chart = flow.perturbations(y)
    eye = torch.eye(len(y), dtype=torch.float64)
    scaled = chart.from_state((J @ chart.to_state(eye).mT).mT)
    assert relative(J, J.mT) > 0.3
    assert relative(scaled, scaled.mT) < 0.01
    tangent = chart.to_state(chart.from_state(chart.to_state(eye)))
    assert relative(tangent, chart.to_state(eye)) < 1e-12


def test_a_cluster_that_has_become_too_wide_is_not_certified():
    flow, y = cluster_flow([3])
    wide = flow.pack(torch.tensor([0.0, -6.0, -18.0]).double(), *flow.modes(y)[1:])
    ts = torch.zeros(1)
    assert flow.discrete_changes(ts, y[None])["resolved_rank"] == 0
    assert flow.discrete_changes(ts, wide[None])["resolved_rank"] == 1
