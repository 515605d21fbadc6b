import numpy as np
import pytest
import scipy.linalg
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, LayerwiseFlow, end_to_end_rhs, single_output_rhs
from gflow.losses import LinearRegression, SquaredDistance
from tests.helpers import (
    LOSSES,
    altered,
    ensemble_of,
    make_loss,
    of_rank,
    randn,
    relative,
    slow_except,
    worst_relative,
)

SHAPES = [(1, 4), (4, 1), (3, 3), (2, 5), (5, 2), (1, 1)]
DEPTHS = [1, 2, 3, 4, 5]


def literal_sum(W, G, depth):
    """−Σ_j [WWᵀ]^{(j−1)/N} G [WᵀW]^{(N−j)/N}, each power by a separate eigendecomposition."""

    def power(A, exponent):
        if exponent == 0:
            return np.eye(len(A))
        lam, V = scipy.linalg.eigh(A)
        return (V * np.clip(lam, 0, None) ** exponent) @ V.T

    W, G = W.numpy(), G.numpy()
    terms = [
        power(W @ W.T, (j - 1) / depth) @ G @ power(W.T @ W, (depth - j) / depth)
        for j in range(1, depth + 1)
    ]
    return torch.tensor(-sum(terms))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_the_sum_of_fractional_powers(shape, depth):
    W, G = of_rank(min(shape), *shape), randn(*shape, seed=5)
    # The eigenvalues of WWᵀ beyond the rank are round-off, 1e-17. Their small powers, up to
    # (1e-17)^{1/5} = 4e-4, are an error of the formula, which is excluded there.
    square = shape[0] == shape[1]
    bound = 1e-13 if square or depth == 1 else None
    velocity = end_to_end_rhs(W, G, depth)
    if bound is None:
        exact = literal_sum_full_precision(W, G, depth)
        assert relative(velocity, exact) <= 1e-13
    else:
        assert relative(velocity, literal_sum(W, G, depth)) <= bound


def literal_sum_full_precision(W, G, depth):
    """The literal sum with the eigenvalues of the null space, of known dimension, set to zero."""

    def power(A, exponent, rank):
        if exponent == 0:
            return np.eye(len(A))
        lam, V = scipy.linalg.eigh(A)
        lam[: len(lam) - rank] = 0
        return (V * lam**exponent) @ V.T

    rank = int(torch.linalg.matrix_rank(W))
    W, G = W.numpy(), G.numpy()
    terms = [
        power(W @ W.T, (j - 1) / depth, rank) @ G @ power(W.T @ W, (depth - j) / depth, rank)
        for j in range(1, depth + 1)
    ]
    return torch.tensor(-sum(terms))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_rank_deficient_velocity_matches_the_literal_sum(rank, depth):
    W, G = of_rank(rank, 3, 4), randn(3, 4, seed=5)
    truth = literal_sum_full_precision(W, G, depth)
    assert float((end_to_end_rhs(W, G, depth, rank) - truth).norm()) <= 1e-13
    assert float((end_to_end_rhs(W, G, depth) - truth).norm()) <= 1e-13


@pytest.mark.parametrize("depth", DEPTHS)
def test_single_output_agrees_with_the_general_formula(depth):
    for scale in (1.0, 1e-3, 1e3):
        W, G = scale * randn(1, 6), randn(1, 6, seed=3)
        velocity = single_output_rhs(W, G, depth)
        assert relative(velocity, end_to_end_rhs(W, G, depth)) <= 5e-15
    flow = EndToEndFlow(make_loss("regression", 1, 6), depth)
    assert torch.equal(flow(0.0, W), single_output_rhs(W, flow.gradient(W), depth))


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (2, 3), (3, 3)], ids=str)
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_zero_is_stationary(shape, depth):
    flow = EndToEndFlow(SquaredDistance(randn(*shape)), depth)
    zero = torch.zeros(shape, dtype=torch.float64)
    assert torch.equal(flow(0.0, zero), zero)
    assert torch.equal(gflow.integrate(flow, zero, [0.0, 3.0], "dopri5").ys[-1], zero)


def test_zero_is_not_stationary_at_depth_one():
    loss = SquaredDistance(randn(2, 3))
    zero = torch.zeros(2, 3, dtype=torch.float64)
    assert torch.equal(EndToEndFlow(loss, 1)(0.0, zero), loss.target)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("depth", DEPTHS)
def test_velocity_is_the_pushforward_of_autograd(kind, shape, depth):
    flow = EndToEndFlow(make_loss(kind, *shape), depth)
    W = of_rank(min(shape), *shape)
    assert relative(flow(0.0, W), flow.reference(W)) <= 1e-12
    parameters = flow.parameter_flow
    theta = flow.lift(W)
    assert relative(parameters(0.0, theta), parameters.reference(theta)) <= 1e-12


CASES = [
    # d_out, d_in, depth, rank, extra hidden width, loss
    (1, 6, 1, 1, 0, "distance"),
    (1, 6, 2, 1, 0, "regression"),
    (1, 6, 3, 1, 3, "sensing"),
    (1, 6, 5, 1, 0, "completion"),
    (6, 1, 2, 1, 1, "distance"),
    (6, 1, 3, 1, 0, "completion"),
    (6, 1, 4, 1, 2, "regression"),
    (4, 4, 1, 4, 0, "sensing"),
    (4, 4, 2, 4, 2, "completion"),
    (4, 4, 3, 4, 0, "regression"),
    (4, 4, 4, 4, 1, "distance"),
    (4, 4, 5, 4, 0, "sensing"),
    (3, 7, 2, 3, 0, "regression"),
    (3, 7, 3, 3, 2, "completion"),
    (3, 7, 5, 3, 0, "distance"),
    (7, 3, 3, 3, 0, "sensing"),
    (7, 3, 4, 3, 3, "completion"),
    (7, 3, 5, 3, 1, "regression"),
    (4, 4, 2, 2, 0, "completion"),
    (4, 4, 3, 1, 1, "distance"),
    (4, 4, 5, 2, 0, "regression"),
    (3, 5, 2, 1, 2, "sensing"),
    (3, 5, 4, 2, 0, "completion"),
    (5, 3, 3, 2, 0, "regression"),
    (5, 3, 5, 1, 1, "distance"),
    (4, 4, 1, 2, 0, "completion"),
]
LONG = [  # those that take long; of each loss, depth and shape a case is left
    (1, 6, 3, 1, 3, "sensing"),
    (3, 7, 3, 3, 2, "completion"),
    (7, 3, 4, 3, 3, "completion"),
    (4, 4, 3, 4, 0, "regression"),
    (4, 4, 5, 2, 0, "regression"),
    (5, 3, 3, 2, 0, "regression"),
    (4, 4, 4, 4, 1, "distance"),
    (4, 4, 5, 4, 0, "sensing"),
    (3, 7, 5, 3, 0, "distance"),
    (7, 3, 3, 3, 0, "sensing"),
    (7, 3, 5, 3, 1, "regression"),
    (4, 4, 3, 1, 1, "distance"),
    (6, 1, 4, 1, 2, "regression"),
    (3, 5, 2, 1, 2, "sensing"),
    (5, 3, 5, 1, 1, "distance"),
]
QUICK = [case for case in CASES if case not in LONG]


@pytest.mark.parametrize("case", slow_except(CASES, *QUICK), ids=str)
def test_end_to_end_against_layer_wise(case):
    d_out, d_in, depth, rank, extra, kind = case
    loss = make_loss(kind, d_out, d_in)
    W0 = of_rank(rank, d_out, d_in, seed=20)
    hidden = [min(d_out, d_in) + extra] * (depth - 1)
    layers = gflow.LayerwiseFlow(loss, [d_in, *hidden, d_out])
    reduced = EndToEndFlow(loss, depth)
    ts = [0.0, 0.1, 1.0, 5.0]
    W = gflow.integrate(reduced, W0, ts, "dopri8", 1e-10, 1e-13)
    theta = gflow.integrate(layers, layers.balanced_start(W0), ts, "dopri8", 1e-10, 1e-13)
    assert W.certificate.holds, W.certificate
    assert theta.certificate.holds, theta.certificate
    assert worst_relative(W.ys, layers.end_to_end(theta.ys)) <= 1e-8
    assert max(theta.certificate.invariant_drift.values(), default=0.0) <= 1e-9
    if depth > 1:
        assert float(theta.observables()["balanced_product_defect"].max()) <= 1e-8
        assert torch.linalg.matrix_rank(W.ys[-1], rtol=1e-9) == rank


def test_a_path_of_lower_rank_is_certified_at_rest():
    """Steps leave a third singular value of 5e-8 there, which moved the layers of a lift."""
    flow = EndToEndFlow(make_loss("sensing", 3, 3), 2)
    path = gflow.integrate(flow, of_rank(2, 3, 3), [0.0, 100.0, 1000.0])
    assert float(path.flow(0.0, path.ys[-1]).norm()) < 1e-7
    assert path.certificate.holds, path.certificate


def test_start_with_a_conserved_rank():
    flow = EndToEndFlow(make_loss("completion", 4, 4), 3)
    assert flow.for_start(of_rank(2, 4, 4)).rank == 2
    assert flow.for_start(of_rank(4, 4, 4)) is flow
    assert EndToEndFlow(make_loss("distance", 4, 4), 1).for_start(of_rank(2, 4, 4)).rank is None
    negated = altered(flow, lambda inner, t, y: -inner(t, y))
    assert type(negated.for_start(of_rank(2, 4, 4))) is type(negated)


@pytest.mark.parametrize("fault", ["half", "no outside part", "wrong power", "transposed"])
@pytest.mark.parametrize("rtol", slow_except([1e-3, 1e-6, 1e-10], 1e-6))
def test_planted_faults_are_caught(fault, rtol):
    M = randn(3, 3)
    faults = {
        "half": lambda flow, t, W: 0.5 * flow(t, W),
        "no outside part": lambda flow, t, W: flow(t, W) @ (torch.linalg.pinv(W) @ W),
        "wrong power": lambda flow, t, W: end_to_end_rhs(W, flow.gradient(W), 2),
        "transposed": lambda flow, t, W: end_to_end_rhs(W, flow.gradient(W).mT, 3),
    }
    wrong = altered(EndToEndFlow(SquaredDistance(M), 3), faults[fault])
    W0 = of_rank(2, 3, 3) if fault == "no outside part" else of_rank(3, 3, 3)
    try:
        # Some faults explode: a budget ends them sooner than steps that underflow.
        ts = [0.0, 1.0, 3.0]
        path = gflow.integrate(wrong, W0, ts, "dopri8", rtol, rtol * 1e-3, max_evals=1000)
    except gflow.IntegrationError as error:
        path = error.trajectory
    assert not path.certificate.holds


def test_observables():
    flow = EndToEndFlow(make_loss("regression", 1, 4), 3)
    W = randn(1, 4)
    G = flow.gradient(W)
    P = W.mT @ W / W.square().sum()
    observables = flow.observables(W)
    assert relative(observables["projection_ratio"], (2 * G @ P).norm() / G.norm()) <= 1e-14
    assert relative(observables["singular_values"], W.norm()[None]) <= 1e-14
    wide = EndToEndFlow(make_loss("distance", 3, 4), 3)
    W = of_rank(2, 3, 4)
    observables = wide.observables(W)
    assert float(observables["nuclear_norm"]) == pytest.approx(1.3, 1e-14)
    p = np.array([1.0, 0.3]) / 1.3
    assert float(observables["effective_rank"]) == pytest.approx(
        np.exp(-(p * np.log(p)).sum()), 1e-12
    )


def test_singular_values_follow_their_equation():
    flow = EndToEndFlow(make_loss("sensing", 3, 4), 3)
    W = of_rank(3, 3, 4)
    U, sigma, Vh = torch.linalg.svd(W, full_matrices=False)
    _, rate = torch.func.jvp(torch.linalg.svdvals, (W,), (flow(0.0, W),))
    along = torch.einsum("ir,ij,rj->r", U, flow.gradient(W), Vh)
    assert relative(rate, -3 * sigma ** (2 - 2 / 3) * along) <= 1e-12


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda loss: EndToEndFlow(loss, 0), "depth .*at least 1, got 0"),
        (lambda loss: EndToEndFlow(loss, -2), "depth .*got -2"),
        (lambda loss: EndToEndFlow(loss, 2.5), "depth .*got 2.5"),
        (lambda loss: EndToEndFlow(loss, True), "depth .*got True"),
        (lambda loss: EndToEndFlow(loss, 2, rank=4), "rank .*between 0 and 2, got 4"),
        (lambda loss: EndToEndFlow(loss, 2, hidden_width=1), "hidden_width .*= 2, got 1"),
        (lambda loss: EndToEndFlow(loss, 2).check_state(randn(3, 2)), r"shape \(\.\.\., 2, 3\)"),
    ],
)
def test_input_errors(build, message):
    with pytest.raises(InputError, match=message):
        build(make_loss("distance", 2, 3))


def test_deficient_ensemble_velocity_equals_the_loop():
    W = ensemble_of(of_rank(1, 3, 4))
    G = ensemble_of(randn(3, 4, seed=8))
    batched = end_to_end_rhs(W, G, 3)
    for i in range(2):
        for j in range(3):
            assert relative(batched[i, j], end_to_end_rhs(W[i, j], G[i, j], 3)) <= 1e-14


def test_tiny_modes_stay_in_order():
    flow = EndToEndFlow(SquaredDistance(torch.diag(torch.tensor([1.0, 3.0, 2.0]).double())), 3)
    W0 = torch.diag(torch.tensor([1.0, 4e-13, 1e-13]).double())
    path = flow.exact(torch.tensor([0.0, 1e-9]).double(), W0)
    assert torch.equal(path[0], W0)
    assert torch.allclose(path[1].diagonal(), W0.diagonal(), rtol=1e-6, atol=0)


def test_inputs_of_zero_have_no_closed_form():
    loss = LinearRegression(torch.zeros(4, 2).double(), torch.ones(4, 2).double())
    assert loss.as_squared_distance() is None
    assert EndToEndFlow(loss, 2).closed_form(torch.eye(2).double()) is None


def test_the_product_of_unbalanced_layers_does_not_follow_the_end_to_end_flow():
    """The product of the layers departs from the end-to-end flow if the start is not balanced."""
    loss = make_loss("distance", 2, 3)
    layers = LayerwiseFlow(loss, [3, 3, 2])
    y0 = 0.6 * randn(15)
    theta = gflow.integrate(layers, y0, [0.0, 1.0], "dopri8", 1e-10, 1e-13)
    W0 = layers.end_to_end(y0)
    W = gflow.integrate(EndToEndFlow(loss, 2), W0, [0.0, 1.0])
    assert relative(layers.end_to_end(theta.ys[-1]), W.ys[-1]) > 1e-2
    assert of_rank(2, 2, 3).shape == W0.shape
