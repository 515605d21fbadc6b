"""Rank and the sign of the determinant are kept: Razin & Cohen 2020's problem, in closed terms."""

import pytest
import torch

import gflow
from gflow.events import loss_reaches
from gflow.flows import EndToEndFlow, FactorFlow, LayerwiseFlow
from gflow.flows.lost_modes import Outside
from gflow.losses import MatrixCompletion, SquaredDistance
from tests.helpers import randn, relative, slow_except

# W_12 = W_21 = 1 and W_22 = 0 are observed. det W > 0 for ever, so that W_11 √(6ℓ) → 1.
CORNER = MatrixCompletion(
    torch.tensor([[9.0, 1.0], [1.0, 0.0]], dtype=torch.float64),
    torch.tensor([[False, True], [True, True]]),
)
W0 = 1e-2 * torch.tensor([[1.2, 0.3], [0.3, 0.9]], dtype=torch.float64)


def razin_cohen(kind, depth, stop, rtol, **options):
    if kind == "layers":
        flow = LayerwiseFlow(CORNER, [2] * (depth + 1))
        y0 = flow.balanced_start(W0)
    else:
        flow, y0 = EndToEndFlow(CORNER, depth), W0
    until = loss_reaches(flow, stop)
    path = gflow.integrate(
        flow, y0, [0.0, 1e30], rtol=rtol, atol=1e-4 * rtol, until=until, **options
    )
    return path, float(flow.end_to_end(path.ys[-1])[0, 0])


@pytest.mark.parametrize("kind", slow_except(["layers", "end to end"], "end to end"))
@pytest.mark.parametrize("depth", slow_except([2, 3], 2))
def test_the_unobserved_entry_grows_without_end(kind, depth):
    path, corner = razin_cohen(kind, depth, 1e-8, 1e-6)
    assert corner * (6e-8) ** 0.5 == pytest.approx(1, abs=5e-5)
    assert path.certificate.holds, path.certificate
    mends = ("hidden layers of rank 1 from t", "layers balanced anew from t")
    assert any(mend in path.stats.reason for mend in mends)


def test_a_path_that_went_on_without_a_mode_agrees_with_an_independent_method():
    # SciPy's Radau at 1e-11 in log singular values and the angle.
    _, corner = razin_cohen("end to end", 2, 1e-4, 1e-8)
    assert corner == pytest.approx(40.8003415018, rel=1e-6)


@pytest.mark.parametrize("kind", slow_except(["layers", "end to end"], "end to end"))
def test_a_determinant_that_changed_its_sign_is_not_certified(kind):
    path, corner = razin_cohen(kind, 2, 1e-5, 1e-6, checkpoint=lambda state: None)  # no guard
    assert corner * 6e-5**0.5 < 0.9
    assert not path.certificate.holds
    assert any("determinant_sign" in failure for failure in path.certificate.failures())


def test_rank_deficient_starts_in_any_hidden_basis_keep_their_rank():
    loss = MatrixCompletion(randn(3, 3), torch.ones(3, 3))
    flow = LayerwiseFlow(loss, [3, 3, 3])
    a, b = randn(3, 1, seed=1), randn(3, 1, seed=2)
    hidden = torch.linalg.qr(randn(3, 1, seed=3))[0] * 1.3
    y0 = flow.pack([hidden @ a.mT / a.norm(), b / b.norm() @ hidden.mT])
    path = gflow.integrate(flow, y0, [0.0, 10.0, 200.0], "tsit5", 1e-6, 1e-9)
    thin = LayerwiseFlow(loss, [3, 1, 3])
    narrow = thin.pack([1.3 * a.mT / a.norm(), 1.3 * b / b.norm()])
    right = gflow.integrate(thin, narrow, [0.0, 10.0, 200.0], "dop853", 1e-10, 1e-13)
    assert path.certificate.holds, path.certificate
    assert relative(flow.end_to_end(path.ys[-1]), thin.end_to_end(right.ys[-1])) <= 1e-5


@pytest.mark.slow
def test_factors_with_more_columns_than_their_rank_keep_it():
    loss = MatrixCompletion(randn(3, 3) @ randn(3, 3).mT, torch.ones(3, 3))
    u, ts = randn(3, 1, seed=1), [0.0, 5.0, 100.0]
    wide = torch.cat([u, 0.7 * u, 1 / 3 * u], dim=1)
    flow = FactorFlow(loss)
    path = gflow.integrate(flow, torch.stack([wide, randn(3, 3, seed=5)]), ts, "dopri5")
    right = gflow.integrate(flow, u * (1 + 0.49 + 1 / 9) ** 0.5, ts, "dop853", 1e-10, 1e-13)
    assert path.certificate.holds, path.certificate
    assert relative(flow.product(path.ys[:, 0]), flow.product(right.ys)) <= 1e-5


def test_modes_of_a_saddle_that_round_off_seeds_are_not_certified():
    # From 1e-60 I in a turned basis: when the first mode has grown, the others are round-off.
    Q = torch.linalg.qr(randn(3, 3, seed=1))[0]
    M = Q @ torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)) @ Q.mT
    flow = FactorFlow(SquaredDistance((M + M.mT) / 2))
    start = 1e-30 * torch.eye(3, dtype=torch.float64)
    path = gflow.integrate(flow, start, [0.0, 30.0, 100.0], atol=1e-40)
    assert "resolved_rank" in " ".join(path.certificate.failures())


@pytest.mark.parametrize("depth", [2, 3])
def test_a_mode_that_is_exactly_zero_stays_that(depth):
    outside = Outside(0.0, depth, lambda W: W.sum())
    for t in (0.0, 10.0):
        outside.add(t, torch.ones(1))
    assert outside.size == 0
    assert not outside.returned


def graded(small):
    """Layers of a 2×2 network whose second mode is far below the first."""
    D = torch.diag(torch.tensor([0.3, small], dtype=torch.float64))
    Q = torch.linalg.qr(randn(2, 2, seed=3))[0]
    target = Q @ torch.diag(torch.tensor([1.0, 0.9], dtype=torch.float64)) @ Q.mT
    return SquaredDistance(target), D @ Q.mT, Q @ D


@pytest.mark.parametrize("small", slow_except([1e-12, 1e-15, 1e-18], 1e-15))
def test_a_hidden_unit_far_below_the_others_leaves_its_saddle(small):
    loss, first, second = graded(small)
    flow = LayerwiseFlow(loss, [2, 2, 2])
    path = gflow.integrate(flow, flow.pack([first, second]), [0.0, 60.0])
    assert float(flow.loss(path.ys[-1])) <= 1e-9
    assert path.certificate.holds, path.certificate


@pytest.mark.parametrize("small", slow_except([1e-12, 1e-15, 1e-18], 1e-15))
def test_a_column_of_a_factor_far_below_the_others_leaves_its_saddle(small):
    loss, _, columns = graded(small)
    flow = FactorFlow(loss)
    path = gflow.integrate(flow, columns, [0.0, 60.0])
    assert float(flow.loss(path.ys[-1])) <= 1e-9
    assert path.certificate.holds, path.certificate


@pytest.mark.parametrize("small", slow_except([1e-16, 1e-17, 1e-20], 1e-17))
@pytest.mark.parametrize("depth", slow_except([2, 3], 2))
def test_an_entry_below_the_round_off_of_the_largest_is_a_mode(small, depth):
    W0 = torch.diag(torch.tensor([0.1, small], dtype=torch.float64))
    loss = SquaredDistance(torch.eye(2, dtype=torch.float64))
    layers = LayerwiseFlow(loss, [2] * (depth + 1))
    start = layers.balanced_start(W0)
    assert torch.allclose(layers.end_to_end(start), W0, rtol=1e-12, atol=0.0)
    end = [0.0, 60.0 if depth == 2 else 1e9]
    path = gflow.integrate(layers, start, end)
    assert float(layers.loss(path.ys[-1])) <= 1e-9
    assert path.certificate.holds, path.certificate
    flow = EndToEndFlow(loss, depth)
    for method in ("auto", "tsit5"):
        path = gflow.integrate(flow, W0, end, method)
        assert float(flow.loss(path.ys[-1])) <= 1e-9 or not path.certificate.holds


def test_a_loose_tolerance_leaves_no_hidden_layer_without_units():
    flow, W0 = gflow.EndToEndFlow.example()
    path = gflow.integrate(flow, W0, [0.0, 5.0], rtol=1.0, atol=0.0)
    assert path.ys.shape == (2, *W0.shape)
