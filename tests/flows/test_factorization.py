import itertools

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import FactorFlow, ProductFlow, factor_rhs, product_rhs
from gflow.losses import MatrixCompletion, SquaredDistance
from tests.helpers import (
    LOSSES,
    altered,
    make_loss,
    of_rank,
    randn,
    relative,
    slow_except,
    slow_pairs_except,
    times,
    worst_relative,
)

LONG = [0.0, 1.0, 5.0, 20.0]


def semidefinite(rank, d, seed=0):
    B = of_rank(rank, d, d, seed)
    return B @ B.mT


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("columns", [1, 2, 4, 6])
def test_factor_velocity_is_autograd_of_the_loss(kind, columns):
    loss = make_loss(kind, 4, 4)
    U = randn(4, columns)
    G = loss.gradient(U @ U.mT)
    assert relative(G.mT, G) > 0.1  # the gradient must be unsymmetric for this test to say anything
    leaf = U.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf @ leaf.mT), leaf)
    flow = FactorFlow(loss)
    assert relative(flow(0.0, U), -slope) <= 1e-12
    assert relative(factor_rhs(U, G), -slope) <= 1e-12
    assert relative(-2 * G.mT @ U, -slope) > 1e-2


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_product_velocity_is_the_pushforward(kind, rank):
    loss = make_loss(kind, 4, 4)
    U = of_rank(rank, 4, 4)
    W = U @ U.mT
    flow = ProductFlow(loss)
    V = FactorFlow(loss)(0.0, U)
    assert relative(flow(0.0, W), V @ U.mT + U @ V.mT) <= 1e-12
    assert relative(flow(0.0, W), flow.reference(W)) <= 1e-12
    assert torch.equal(flow(0.0, W), flow(0.0, W).mT)
    G = loss.gradient(W)
    S = (G + G.mT) / 2
    assert relative(product_rhs(W, G), -2 * (S @ W + W @ S)) <= 1e-14


@pytest.mark.parametrize("kind", slow_except(["sensing", "completion"], "completion"))
def test_product_and_factor_flow_agree(kind):
    loss = make_loss(kind, 4, 4)
    W0 = semidefinite(4, 4)
    product, factor = ProductFlow(loss), FactorFlow(loss)
    W = gflow.integrate(product, W0, LONG, "dopri8", 1e-10, 1e-13)
    U = gflow.integrate(factor, product.lift(W0), LONG, "dopri8", 1e-10, 1e-13)
    assert W.certificate.holds, W.certificate
    assert U.certificate.holds, U.certificate
    assert worst_relative(W.ys, factor.product(U.ys)) <= 1e-8
    assert max(W.certificate.invariant_drift.values()) <= 1e-9
    least = W.observables()["least_eigenvalue"]
    assert float(least.min()) >= -1e-12
    assert float(W.observables()["symmetry_defect"].max()) <= 1e-14


@pytest.mark.parametrize(
    ("kind", "rank"),
    slow_pairs_except(
        itertools.product(["sensing", "completion"], [1, 2]), ("sensing", 1), ("completion", 2)
    ),
)
def test_rank_is_conserved(kind, rank):
    loss = make_loss(kind, 4, 4)
    W0 = semidefinite(rank, 4)
    product, factor = ProductFlow(loss), FactorFlow(loss)
    assert torch.linalg.matrix_rank(product.lift(W0), rtol=1e-12) == rank
    W = gflow.integrate(product, W0, LONG, "dopri8", 1e-10, 1e-13)
    U = gflow.integrate(factor, of_rank(rank, 4, 4), LONG, "dopri8", 1e-10, 1e-13)
    assert W.certificate.holds, W.certificate
    assert worst_relative(W.ys, factor.product(U.ys)) <= 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("method", slow_except(["auto", "dopri5"], "auto"))
def test_rank_is_kept_where_directions_outside_the_range_are_unstable(method):
    A, mask = randn(3, 3), torch.ones(3, 3)
    mask[0, 2] = 0
    loss, thin = MatrixCompletion(A @ A.mT, mask), [times(0.125, 0.25, 0.375)[:, None], randn(3, 2)]
    starts = torch.stack([U0 @ U0.mT for U0 in thin])
    ts = [0.0, 5.0, 40.0]
    path = gflow.integrate(ProductFlow(loss), starts, ts, method, 1e-7, 1e-10)
    assert path.certificate.holds, path.certificate
    for found, U0 in zip(path.ys.unbind(1), thin, strict=True):
        U = gflow.integrate(FactorFlow(loss), U0, ts, "dop853", 1e-10, 1e-13).ys
        assert worst_relative(found, U @ U.mT) <= 1e-5
    # As a plain ODE of W the same start has left rank 1 by then.
    plain = gflow.integrate(altered(ProductFlow(loss), _unchanged), starts[0], ts, "auto")
    assert relative(plain.ys[-1], path.ys[-1, 0]) > 1e-3


def _unchanged(flow, t, W):
    return flow(t, W)


def test_rank_of_a_start_counts_small_entries():
    W0 = torch.diag(torch.tensor([1.0, 1e-20, 0.0], dtype=torch.float64))
    U = ProductFlow(make_loss("distance", 3, 3)).lift(W0)
    assert torch.equal(U @ U.mT, W0) or relative(U @ U.mT, W0) <= 1e-15
    assert (U @ U.mT)[1, 1] == pytest.approx(1e-20, 1e-14)


def test_events_checkpoints_and_dense_output_see_the_product():
    flow, W0 = ProductFlow.example()
    seen, states = [], []
    until = lambda W: (seen.append(W.shape), gflow.events.loss_reaches(flow, 0.3)(W))[1]  # noqa: E731
    options = {"method": "tsit5", "until": until, "checkpoint": states.append}
    path = gflow.integrate(flow, W0, [0.0, 1e3], checkpoint_every=0.0, **options)
    assert set(seen) == {W0.shape}
    assert path.ys.shape[1:] == path.ends.shape == W0.shape
    assert float(flow.loss(path.ys[-1])) == pytest.approx(0.3, 1e-5)
    resumed = gflow.integrate(flow, W0, [0.0, 1e3], resume=states[2], **options)
    assert torch.equal(resumed.ys, path.ys)
    dense = gflow.integrate(flow, W0, [0.0, 0.5, 1.0], "tsit5", 1e-9, 1e-12, dense=True)
    landed = gflow.integrate(flow, W0, [0.0, 0.5, 1.0], "tsit5", 1e-9, 1e-12)
    assert relative(dense.ys, landed.ys) <= 1e-6


def test_lift_of_an_indefinite_round_off():
    W = semidefinite(2, 4) - 1e-17 * torch.eye(4, dtype=torch.float64)
    flow = ProductFlow(make_loss("distance", 4, 4))
    assert relative(flow.project(flow.lift(W)), W) <= 1e-15
    assert torch.linalg.matrix_rank(flow.lift(W), rtol=1e-12) == 2


FAULTS = {
    "unsymmetrised": lambda flow, t, U: -2 * flow._loss.gradient(U @ U.mT).mT @ U,
    "half": lambda flow, t, U: 0.5 * flow(t, U),
    "sign": lambda flow, t, U: -flow(t, U),
}
PRODUCT_FAULTS = {
    "unsymmetrised": lambda flow, t, W: _unsymmetrised(W, flow.gradient(W)),
    "one side": lambda flow, t, W: -4 * flow.gradient(W).mT @ W,
    "X instead of X + Xᵀ": lambda flow, t, W: -2 * (flow.gradient(W) + flow.gradient(W).mT) @ W,
}


def _unsymmetrised(W, G):
    X = G.mT @ W
    return -2 * (X + X.mT)


@pytest.mark.parametrize("rtol", slow_except([1e-3, 1e-6, 1e-10], 1e-3))
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_in_the_factor_flow_are_caught(fault, rtol):
    flow = FactorFlow(make_loss("completion", 4, 4))
    _expect_caught(altered(flow, FAULTS[fault]), randn(4, 2), rtol)


@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-10])
@pytest.mark.parametrize("fault", PRODUCT_FAULTS)
def test_planted_faults_in_the_product_flow_are_caught(fault, rtol):
    flow = ProductFlow(make_loss("completion", 4, 4))
    _expect_caught(altered(flow, PRODUCT_FAULTS[fault]), semidefinite(4, 4), rtol)


def _expect_caught(wrong, y0, rtol):
    try:
        path = gflow.integrate(
            wrong, y0, [0.0, 0.2, 0.5], "dopri8", rtol, 1e-3 * rtol, max_evals=1000
        )
    except gflow.IntegrationError as error:
        path = error.trajectory
    assert not path.certificate.holds


def test_observables():
    flow = ProductFlow(make_loss("distance", 4, 4))
    W = semidefinite(2, 4)
    observables = flow.observables(W)
    assert (
        relative(observables["eigenvalues"][:2], torch.tensor([1.0, 0.09], dtype=torch.float64))
        <= 1e-14
    )
    assert abs(float(observables["least_eigenvalue"])) <= 1e-15
    assert float(observables["nuclear_norm"]) == pytest.approx(1.09, 1e-14)
    skew = torch.zeros(4, 4, dtype=torch.float64)
    skew[0, 1], skew[1, 0] = 1.0, -1.0
    drift = flow.invariants(W + skew)["antisymmetric_part"]
    assert relative(drift, 2 * skew) <= 1e-15
    assert float(flow.observables(W + skew)["symmetry_defect"]) == pytest.approx(
        float((2 * skew).norm() / (W + skew).norm()), 1e-12
    )
    indefinite = W - 0.5 * torch.eye(4, dtype=torch.float64)
    assert float(flow.invariants(indefinite)["negative_part"]) == pytest.approx(-0.5, 1e-12)


@pytest.mark.parametrize("kind", [FactorFlow, ProductFlow])
def test_rectangular_losses_are_refused(kind):
    with pytest.raises(InputError, match=r"square.*\(2, 3\)"):
        kind(SquaredDistance(randn(2, 3)))


def test_starts_of_the_product_flow_are_checked():
    flow = ProductFlow(SquaredDistance(randn(3, 3)))
    with pytest.raises(InputError, match="symmetric, but"):
        gflow.integrate(flow, randn(3, 3), [0.0, 1.0])
    with pytest.raises(
        InputError, match=r"semidefinite, but its least eigenvalue is -1; start from U @ U\.mT"
    ):
        gflow.integrate(flow, -torch.eye(3, dtype=torch.float64), [0.0, 1.0])
