"""Closed forms against SciPy's DOP853 on right-hand sides rewritten in NumPy."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

import gflow
from gflow.flows import EndToEndFlow, KernelFlow, ProductFlow, aligned_mode, riccati
from gflow.flows.closed_forms import shared_singular_modes
from gflow.losses import LinearRegression, MatrixCompletion, SquaredDistance
from tests.helpers import dop853, gram, of_rank, randn, relative, times, worst_relative

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

TS = [0.0, 1e-6, 0.01, 0.3, 2.0, 10.0, 50.0]
FAR = times(0.0, 1e3, 1e6, 1e9)


# -- kernel flow --------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("outputs", [None, 1, 3])
def test_kernel_flow(rank, outputs):
    n, n_test = 6, 4
    H, H_test = gram(n, rank), randn(n_test, n, seed=4)
    shape = (n,) if outputs is None else (n, outputs)
    y, u0 = randn(*shape, seed=1), randn(*shape, seed=2)
    test_u0 = randn(n_test, *shape[1:], seed=3)
    flow = KernelFlow(H, y, H_test)
    Hn, Tn, yn = H.numpy(), H_test.numpy(), y.numpy()

    def all_outputs(state):  # training outputs, then test outputs, which depend on them
        residual = state[:n] - yn
        return np.concatenate([-Hn @ residual, -Tn @ residual])

    truth = dop853(all_outputs, torch.cat([u0, test_u0]), TS)
    states = flow.exact(times(*TS), u0)
    assert worst_relative(states, truth[:, :n]) <= 1e-9
    assert (
        worst_relative(flow.predict(times(*TS), u0, test_u0, method="exact").test, truth[:, n:])
        <= 1e-9
    )
    assert torch.equal(states[0], u0)
    from_zero = flow.predict(times(*TS), u0, method="exact").test
    assert worst_relative(from_zero[1:] + test_u0, truth[1:, n:]) <= 1e-9


@pytest.mark.parametrize("rank", [3, 6])
def test_kernel_flow_far_in_time(rank):
    H, y, u0 = gram(6, rank), randn(6, seed=1), randn(6, seed=2)
    H_test = randn(2, rank, seed=8) @ torch.linalg.pinv(randn(6, rank)) @ H  # in H's range
    flow = KernelFlow(H, y, H_test)
    projector = torch.linalg.pinv(H, hermitian=True, rtol=1e-12) @ H
    limit = u0 + projector @ (y - u0)
    assert relative(flow.exact(FAR, u0)[2], limit) <= 1e-12
    assert torch.equal(flow.exact(FAR, u0)[2], flow.exact(FAR, u0)[3])
    test_limit = H_test @ torch.linalg.pinv(H, hermitian=True, rtol=1e-12) @ (y - u0)
    # Eigenvalues that are 0 up to round-off could be learned by then.
    unsure = pytest.warns(RuntimeWarning, match="round-off") if rank == 3 else nullcontext()
    with unsure:
        predicted = flow.predict(FAR, u0, method="exact").test[2]
    assert relative(predicted, test_limit) <= 1e-10


def test_test_outputs_in_the_null_space_grow_linearly():
    H = torch.zeros(2, 2, dtype=torch.float64)
    flow = KernelFlow(H, times(1.0, 2.0), H_test=torch.eye(2, dtype=torch.float64))
    u0 = torch.zeros(2, dtype=torch.float64)
    assert torch.equal(flow.predict(times(0.0, 5.0), u0, method="exact").test[1], times(5.0, 10.0))


# -- aligned modes ------------------------------------------------------------------

MODES = [
    # s0, m
    (0.1, 1.0),
    (3.0, 1.0),
    (1.0, 1.0),
    (1.0 + 1e-9, 1.0),
    (0.5, -2.0),
    (0.7, 0.0),
    (1e-12, 1.0),
    (1e-12, 3.0),
    (1e-6, -1.0),
    (100.0, 0.5),
    (0.0, 1.0),
    (1e-3, 1e-3),
    (2.0, 1e-8),
]


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("s0", "m"), MODES)
def test_aligned_mode(depth, s0, m):
    ts = [0.0, 1e-6, 0.01, 0.3, 2.0, 20.0]
    states = aligned_mode(times(s0), times(m), depth, times(*ts))[:, 0]
    if depth == 1:
        truth = dop853(lambda s: m - s, [s0], ts)[:, 0]
        assert float(((states - truth).abs() / truth.abs().clamp_min(1e-3)).max()) <= 1e-9
    elif s0 == 0:
        assert torch.equal(states, torch.zeros_like(states))
    else:
        # In log s DOP853 bounds the relative error, for tiny s too.
        log_truth = dop853(
            lambda x: depth * np.exp(x * (1 - 2 / depth)) * (m - np.exp(x)), [np.log(s0)], ts
        )[:, 0]
        assert float((states / log_truth.exp() - 1).abs().max()) <= 1e-9


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_aligned_mode_far_in_time(depth):
    s0 = times(0.1, 3.0, 1e-12, 1e-100, 0.5, 0.7, 0.0, 1.0)
    m = times(1.0, 1.0, 1.0, 2.0, -2.0, 0.0, 1.0, 1.0)
    far = aligned_mode(s0, m, depth, times(0.0, 1e-3, 1e40, 1e70, 1e80))
    assert torch.isfinite(far).all()
    assert relative(far[0], s0) <= 1e-15
    assert relative(far[3, [0, 1, 7]], m[[0, 1, 7]]) <= 1e-15
    if depth == 1:
        assert relative(far[2], m) <= 1e-15
    else:
        assert torch.equal(far[:, 6], torch.zeros(5, dtype=torch.float64))
        assert float(far[2, 4:6].abs().max()) <= 1e-20
    assert relative(far[4, 2:4], m[2:4]) <= 1e-15


def test_aligned_mode_without_modes():
    none = torch.zeros(0, dtype=torch.float64)
    assert aligned_mode(none, none, 3, times(0.0, 1.0)).shape == (2, 0)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (3, 3)])
@pytest.mark.parametrize("start", [(2.0, 1.0, 0.3), (1.0, 1.0, 0.3), (1.0, 0.0, 0.0)])
def test_common_singular_vectors_of_start_and_target(shape, start):
    """Singular vectors of repeated singular values are not unique; the target's decide."""
    U = torch.linalg.qr(randn(shape[0], 3, seed=1))[0]
    V = torch.linalg.qr(randn(shape[1], 3, seed=2))[0]
    W0, M = (U * times(*start)) @ V.mT, (U * times(0.5, -3.0, 1.0)) @ V.mT
    left, s, right, m = shared_singular_modes(W0, M)
    assert len(s) == sum(value > 0 for value in start)
    assert relative((left * s) @ right.mT, W0) <= 1e-13
    assert relative(left.mT @ M, m[:, None] * right.mT) <= 1e-12
    assert relative(M @ right, left * m) <= 1e-12
    assert shared_singular_modes(W0, randn(*shape, seed=3)) is None


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_aligned_start_of_the_end_to_end_flow(depth):
    M = of_rank(3, 3, 5) * 2
    U, sigma, Vh = torch.linalg.svd(M, full_matrices=False)
    W0 = (U * times(0.1, 0.9, 0.9)) @ Vh  # equal singular values: their vectors are not unique
    flow = EndToEndFlow(SquaredDistance(M), depth)
    states = flow.exact(times(*TS), W0)
    modes = torch.einsum("ir,tij,rj->tr", U, states, Vh)
    truth = dop853(
        lambda s: depth * np.abs(s) ** (2 - 2 / depth) * (sigma.numpy() - s), [0.1, 0.9, 0.9], TS
    )
    assert worst_relative(modes, truth) <= 1e-9
    assert worst_relative(states, torch.einsum("ir,tr,rj->tij", U, truth, Vh)) <= 1e-9
    assert flow.closed_form(randn(3, 5)) is None or depth < 3


# -- two layers, any start ----------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 4), (4, 1)], ids=str)
def test_two_layers_from_any_start(shape, rank):
    rank = min(rank, *shape)
    M, W0 = randn(*shape), of_rank(rank, *shape, seed=7)
    flow = EndToEndFlow(SquaredDistance(M), depth=2)
    # The same two layers by hand, of width `rank`, so that no further mode can grow.
    U, sigma, Vh = np.linalg.svd(W0.numpy(), full_matrices=False)
    root = np.sqrt(sigma[:rank])
    first, second = root[:, None] * Vh[:rank], U[:, :rank] * root
    size = first.size

    def layers(y):
        A, B = y[:size].reshape(first.shape), y[size:].reshape(second.shape)
        G = B @ A - M.numpy()
        return -np.concatenate([(B.T @ G).ravel(), (G @ A.T).ravel()])

    truth = dop853(layers, np.concatenate([first.ravel(), second.ravel()]), TS)
    W = truth[:, size:].reshape(-1, *second.shape) @ truth[:, :size].reshape(-1, *first.shape)
    states = flow.exact(times(*TS), W0)
    assert worst_relative(states, W) <= 1e-9
    far = flow.exact(FAR, W0)
    assert relative(far[1], far[2]) <= 1e-10
    assert relative(far[2], far[3]) <= 1e-12
    assert torch.linalg.matrix_rank(far[3], rtol=1e-9) == rank


def test_two_layers_far_in_time_reach_the_target():
    M, W0 = randn(3, 5), randn(3, 5, seed=7)
    far = EndToEndFlow(SquaredDistance(M), 2).exact(FAR, W0)
    assert relative(far[2], M) <= 1e-12
    assert relative(far[3], M) <= 1e-12


# -- W = UUᵀ, fully observed --------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("spectrum", ["indefinite", "negative", "positive", "singular"])
def test_product_flow_fully_observed(columns, spectrum):
    d = 5
    lam = {
        "indefinite": times(2.0, 1.0, 0.3, -0.5, -1.0),
        "negative": times(-0.1, -0.2, -0.5, -1.0, -2.0),
        "positive": times(3.0, 2.0, 1.5, 1.0, 0.5),
        "singular": times(2.0, 1.0, 0.0, 0.0, -1.0),
    }[spectrum]
    V = torch.linalg.qr(randn(d, d))[0]
    M = (V * lam) @ V.mT
    U0 = 0.5 * randn(d, columns, seed=3)
    flow = ProductFlow(SquaredDistance(M))
    truth = dop853(lambda U: 2 * (M.numpy() - U @ U.T) @ U, U0, TS, atol=1e-20)
    states = flow.exact(times(*TS), U0 @ U0.mT)
    assert worst_relative(states, truth @ truth.mT) <= 1e-9
    far = flow.exact(FAR, U0 @ U0.mT)
    keep = (lam > 0) & (torch.arange(d) < columns)
    limit = (V * torch.where(keep, lam, torch.zeros_like(lam))) @ V.mT
    assert float((far[3] - limit).norm()) <= 1e-8  # a zero eigenvalue decays as 1/4t


def test_product_flow_of_an_unsymmetric_target_uses_its_symmetric_part():
    M = randn(4, 4)
    W0 = randn(4, 2, seed=2) @ randn(4, 2, seed=2).mT
    states = ProductFlow(SquaredDistance(M)).exact(times(*TS), W0)
    symmetric = ProductFlow(SquaredDistance((M + M.mT) / 2)).exact(times(*TS), W0)
    assert relative(states, symmetric) <= 1e-15


def test_tiny_start():
    M = (lambda A: A @ A.mT)(randn(4, 4))
    U0 = 1e-6 * torch.eye(4, dtype=torch.float64)
    states = ProductFlow(SquaredDistance(M)).exact(times(0.0, 0.5, 1.0, 3.0), U0 @ U0.mT)
    truth = dop853(lambda U: 2 * (M.numpy() - U @ U.T) @ U, U0, [0, 0.5, 1, 3], atol=1e-22)
    assert worst_relative(states, truth @ truth.mT) <= 1e-9


@pytest.mark.parametrize("c", [0.5, 4.0])
def test_riccati_equation(c):
    F = (lambda A: A + A.mT)(randn(4, 4))
    Q0 = randn(4, 2, seed=5)
    ts = [0.0, 0.1, 0.5, 2.0]
    Fn = F.numpy()
    truth = dop853(lambda P: Fn @ P + P @ Fn - c * P @ P, Q0 @ Q0.mT, ts)
    assert worst_relative(riccati(F, Q0, c, times(*ts)), truth) <= 1e-9
    # Any factor of the start gives the same solution.
    turn = torch.linalg.qr(randn(3, 3))[0]
    padded = torch.cat([Q0, torch.zeros(4, 1, dtype=torch.float64)], dim=1) @ turn
    assert relative(riccati(F, padded, c, times(*ts)), riccati(F, Q0, c, times(*ts))) <= 1e-12


# -- losses equal to a squared distance up to scale ---------------------------------


@pytest.mark.parametrize("depth", [1, 2])
def test_full_mask_and_whitened_inputs_use_the_closed_form(depth):
    M = randn(3, 4)
    full = MatrixCompletion(M, torch.ones(3, 4, dtype=torch.bool))
    Q = torch.linalg.qr(randn(20, 4))[0]
    X = Q * (20**0.5) * 1.7  # XᵀX/n = 1.7² I
    white = LinearRegression(X, X @ M.mT + 0.1 * randn(20, 3, seed=5))
    for loss in (full, white):
        flow = EndToEndFlow(loss, depth)
        W0 = 0.5 * randn(3, 4, seed=2)
        assert flow.closed_form(W0) is not None
        path = gflow.integrate(flow, W0, [0.0, 0.1, 1.0, 3.0])
        assert path.stats.method == "exact"
        assert path.certificate.holds, path.certificate
        numeric = gflow.integrate(flow, W0, path.ts, "dopri8", 1e-12, 1e-14)
        assert worst_relative(path.ys, numeric.ys) <= 1e-10
    product = ProductFlow(MatrixCompletion(randn(3, 3), torch.ones(3, 3)))
    W0 = of_rank(3, 3, 3) @ of_rank(3, 3, 3).mT
    path = gflow.integrate(product, W0, [0.0, 1.0, 10.0])
    numeric = gflow.integrate(product, W0, path.ts, "dopri8", 1e-12, 1e-14)
    assert path.stats.method == "exact"
    assert worst_relative(path.ys, numeric.ys) <= 1e-10


def test_partial_masks_and_correlated_inputs_have_no_closed_form():
    partial = MatrixCompletion(randn(3, 4), torch.arange(12).reshape(3, 4) > 0)
    correlated = LinearRegression(randn(20, 4), randn(20, 3))
    for loss in (partial, correlated):
        assert EndToEndFlow(loss, 2).closed_form(randn(3, 4)) is None


@pytest.mark.parametrize("t", [1e-300, 1e-40, 1e-20, 1e-9])
def test_riccati_equation_early(t):
    """A factor as small as √t beside 1 would lose its digits, and at last all of them."""
    F, Q0 = (lambda A: A + A.mT)(randn(4, 4)), randn(4, 2, seed=5)
    P0 = Q0 @ Q0.mT
    P = riccati(F, Q0, 1.0, times(t))[0]
    assert relative(P, P0 + t * (F @ P0 + P0 @ F - P0 @ P0)) <= 1e-14
