"""Baselines against independent solvers, closed forms, and the flows that tend to them."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

import gflow
from gflow.baselines import (
    commuting_limit,
    commuting_rate,
    diagonal_limit,
    greedy_low_rank,
    max_margin,
    minimum_nuclear_norm,
    saddle_sequence,
)
from gflow.baselines.diagonal import diagonal_potential
from gflow.errors import InputError
from gflow.losses import MatrixCompletion, SquaredDistance
from tests.helpers import of_rank, randn, relative

X, Y = randn(3, 7, seed=1), randn(3, seed=2)


@pytest.mark.parametrize("scale", [30.0, 0.5, 1e-3])
def test_the_limit_of_a_diagonal_network_minimises_the_potential(scale):
    """Its gradient is in the range of Xᵀ, and the potential is convex."""
    limit = diagonal_limit(X, Y, scale).requires_grad_()
    assert relative(X @ limit.detach(), Y) <= 1e-12
    (gradient,) = torch.autograd.grad(diagonal_potential(limit, scale), limit)
    outside = gradient - torch.linalg.pinv(X) @ (X @ gradient)
    assert float(outside.norm()) <= 1e-8 * float(gradient.norm())


def test_the_potential_tends_to_a_square_and_to_a_logarithm():
    """w²/(4α²) for large α; |w|·(log(|w|/α²) − 1) for small."""
    w = torch.tensor([-2.0], dtype=torch.float64)
    assert diagonal_potential(w, 1e6).item() == pytest.approx(1e-12, rel=1e-12)
    logarithm = 2 * (math.log(2) + 2 * math.log(1e100) - 1)
    assert diagonal_potential(w, 1e-100).item() == pytest.approx(logarithm, rel=1e-12)


def test_small_and_large_scales_have_the_least_norms():
    assert relative(diagonal_limit(X, Y, 1e4), torch.linalg.pinv(X) @ Y) <= 1e-7
    system = np.hstack([X.numpy(), -X.numpy()])
    least = linprog(np.ones(14), A_eq=system, b_eq=Y.numpy()).x
    sparse = torch.tensor(least[:7] - least[7:])
    for log_scale, error in ((-23.0, 0.1), (-2302.585, 1e-3)):
        limit = diagonal_limit(X, Y, log_scale=log_scale)
        assert relative(limit, sparse) <= error
        assert relative(X @ limit, Y) <= 1e-9


@pytest.mark.parametrize("alpha", [10.0, 1.0, 1e-8])
def test_diagonal_flows_end_at_their_limit(alpha):
    flow = gflow.DiagonalFlow(X, Y)
    ts = [0.0, 400.0 * max(1.0, math.log(1 / alpha))]
    path = gflow.integrate(flow, flow.start(log_scale=math.log(alpha)), ts)
    assert path.certificate.holds
    assert relative(path.flow.end_to_end(path.ys[-1]), diagonal_limit(X, Y, alpha)) <= 1e-6


def test_commuting_measurements_end_at_their_limit():
    Q = torch.linalg.qr(randn(4, 4))[0]
    A = (Q * randn(2, 4, seed=3).abs()[:, None, :]) @ Q.mT
    b = torch.einsum("mij,ij->m", A, Q @ torch.diag(torch.tensor([1.0, 0, 2, 0.5]).double()) @ Q.mT)
    limit = commuting_limit(A, b, 0.01)
    assert relative(torch.einsum("mij,ij->m", A, limit), b) <= 1e-12
    flow = gflow.FactorFlow(gflow.losses.MatrixSensing(A, b))
    path = gflow.integrate(flow, 0.1 * torch.eye(4).double(), [0.0, 300.0], rtol=1e-10, atol=1e-13)
    assert relative(flow.product(path.ys[-1]), limit) <= 1e-8


@pytest.mark.parametrize(
    ("rows", "values", "value", "exponent"),
    [
        ([[2.0, 1.0]], [3.0], 1.5, 0.5),  # w → (1.5, 0), ν = 1/2
        ([[1.0, 1.0]], [2.0], 2.0, math.inf),  # every w that fits is least
        # w = (1, 0, 0) alone is least; ν₁ = 1 and any ν₂ with 2ν₂ ≤ 1 and ν₂ ≥ −1/4: slacks
        # 1 − 2ν₂ and ½ + 2ν₂, of which the least is largest where they are equal.
        ([[1.0, 0.0, 0.5], [0.0, 2.0, -2.0]], [1.0, 0.0], 1.0, 0.75),
    ],
)
def test_the_excess_of_the_nuclear_norm_falls_as_the_linear_program_says(
    rows, values, value, exponent
):
    A, b = torch.tensor(rows).double(), torch.tensor(values).double()
    Q = torch.linalg.qr(randn(A.shape[1], A.shape[1]))[0]
    measurements = (Q * A[:, None, :]) @ Q.mT
    rate = commuting_rate(measurements, b)
    assert rate.value == pytest.approx(value, rel=1e-9)
    assert rate.exponent == pytest.approx(exponent, rel=1e-7)
    limits = [commuting_limit(measurements, b, c) for c in (1e-7, 1e-9)]
    excesses = [float(rate.excess(limit)) for limit in limits]
    direct = [float(limit.trace()) - value for limit in limits]
    assert excesses == pytest.approx(direct, abs=1e-12)
    if math.isfinite(exponent):
        slope = math.log(excesses[1] / excesses[0]) / math.log(1e-2)
        assert slope == pytest.approx(exponent, rel=5e-3)


@pytest.mark.parametrize(("of_A", "of_b"), [(1e-12, 1.0), (1.0, 1e-12), (1e9, 1e9)])
def test_units_do_not_change_the_rate(of_A, of_b):
    A, b = torch.diag(torch.tensor([2.0, 1.0])).double()[None], torch.tensor([3.0]).double()
    rate = commuting_rate(of_A * A, of_b * b)
    assert rate.value == pytest.approx(1.5 * of_b / of_A, rel=1e-9)
    assert rate.exponent == pytest.approx(0.5, rel=1e-9)


def test_values_that_no_matrix_fits_have_no_rate():
    with pytest.raises(InputError, match="must fit the values") as info:
        commuting_rate(torch.eye(2).double()[None], -torch.ones(1).double())
    assert "\n" not in str(info.value)


@pytest.mark.slow
def test_the_flow_falls_at_the_rate_of_the_linear_program():
    generator = torch.Generator().manual_seed(11)
    Q = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    eigenvalues = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    A, b = (Q * eigenvalues[:, None, :]) @ Q.mT, 2 * eigenvalues[:, 0] + eigenvalues[:, 1]
    rate = commuting_rate(A, b)
    flow = gflow.SpectralFlow(gflow.losses.MatrixSensing(A, b), symmetric=True)
    until, excesses = gflow.events.loss_reaches(flow, 1e-26), []
    for scale in (1e-6, 1e-8):
        start = flow.start(log_scale=math.log(scale))
        path = gflow.integrate(flow, start, [0.0, 1e9], method="bdf", rtol=1e-9, until=until)
        assert path.certificate.holds
        W = path.flow.end_to_end(path.ys[-1])
        assert relative(W, commuting_limit(A, b, scale)) <= 1e-8
        excesses.append(float(rate.excess(W)))
    slope = math.log(excesses[1] / excesses[0]) / math.log(1e-2)
    assert slope == pytest.approx(rate.exponent, rel=5e-3)


def test_the_maximum_margin_is_that_of_a_quadratic_program():
    labels = (X.T @ torch.tensor([1.0, -0.5, 0.2]).double() > 0).long()
    points = X.T.contiguous()
    found = max_margin(points, labels)
    Z = (points * (2 * labels[:, None] - 1)).numpy()
    program = minimize(
        lambda w: 0.5 * w @ w,
        10 * found.solution.numpy(),
        jac=lambda w: w,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda w: Z @ w - 1, "jac": lambda w: Z},
        options={"ftol": 1e-15},
    )
    assert relative(found.solution, torch.tensor(program.x)) <= 1e-6
    margins = torch.tensor(Z) @ found.solution
    assert float(margins.min()) == pytest.approx(1.0, rel=1e-9)
    assert margins[found.support].tolist() == pytest.approx([1.0] * len(found.support), rel=1e-9)
    assert float(found.direction.norm()) == pytest.approx(1.0)
    assert torch.equal(max_margin(points, 2 * labels - 1).solution, found.solution)


def test_the_least_nuclear_norm_has_a_small_gap_in_all_forms():
    target, mask = of_rank(1, 8, 6), randn(8, 6, seed=4) > -0.3
    found = minimum_nuclear_norm(target.masked_fill(~mask, torch.nan), mask)
    assert 0 <= found.gap <= 1e-7
    assert relative(found.solution[mask], target[mask]) <= 1e-15
    assert found.lower_bound <= float(torch.linalg.svdvals(found.solution).sum()) <= found.value
    assert found.value <= float(torch.linalg.svdvals(target).sum()) * (1 + 1e-7)
    i, j = torch.nonzero(mask, as_tuple=True)
    listed = minimum_nuclear_norm(target[i, j], (i, j, (8, 6)))
    assert listed.value == pytest.approx(found.value, rel=1e-6)
    A = torch.zeros(len(i), 8, 6).double()
    A[torch.arange(len(i)), i, j] = 2.0
    measured = minimum_nuclear_norm(2 * target[i, j], A)
    assert measured.gap <= 1e-7
    assert measured.value == pytest.approx(found.value, rel=1e-6)
    assert minimum_nuclear_norm(0 * target, mask).value == 0.0


def test_greedy_learning_finds_the_best_matrix_of_each_rank():
    Q = torch.linalg.qr(randn(4, 4, seed=5))[0]
    sizes = torch.tensor([3.0, 1.0, 0.0, -1.0], dtype=torch.float64)
    target = (Q * sizes) @ Q.mT
    found = greedy_low_rank(SquaredDistance(target), 4)
    assert len(found.solutions) == 3
    for rank, W in enumerate(found.solutions):
        best = (Q[:, :rank] * sizes[:rank]) @ Q[:, :rank].mT
        assert float((W - best).norm()) <= 1e-6
    assert list(found.losses) == pytest.approx([5.5, 1.0, 0.5], rel=1e-6)
    assert list(found.eigenvalues) == pytest.approx([3.0, 1.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diagonal_limit(X, Y[:2], 1.0), r"targets \(n,\)"),
        (lambda: diagonal_potential(X, 0.0), "scale must be a positive number"),
        (lambda: diagonal_limit(X, Y), "one of scale and log_scale"),
        (
            lambda: diagonal_limit(torch.cat([X, X[:1]]), torch.cat([Y, Y[:1] + 1]), 1.0),
            "contradict",
        ),
        (lambda: commuting_limit(randn(2, 3, 3), Y[:2], 0.1), "symmetric and commute"),
        (lambda: commuting_limit(randn(2, 3, 3), Y, 0.1), r"values \(m,\)"),
        (
            lambda: commuting_limit(-torch.eye(2).double()[None], torch.ones(1).double(), 0.1),
            "remove",
        ),
        (lambda: max_margin(randn(40, 2), torch.arange(40) % 2), "separable by a direction"),
        (lambda: max_margin(0 * X, torch.arange(3) % 2), "row 0 .* is; no direction separates"),
        (lambda: max_margin(X, torch.arange(3)), r"labels must be 0 and 1, .* got \[0, 1, 2\]"),
        (lambda: max_margin(X[:0], torch.arange(0)), "inputs must not be empty"),
        (lambda: diagonal_limit(X[:0], Y[:0], 1.0), "inputs must not be empty"),
        (lambda: diagonal_limit(X, Y, log_scale=-math.inf), "log_scale must be from -100000"),
        (lambda: diagonal_limit(X, Y, log_scale=-1e9), "log_scale must be from -100000"),
        (lambda: saddle_sequence(X[:0], Y[:0]), "inputs must not be empty"),
        (lambda: commuting_rate(torch.ones(0, 2, 2), torch.ones(0)), "must not be empty"),
        (lambda: commuting_limit(torch.ones(0, 2, 2), torch.ones(0), 0.1), "must not be empty"),
        (lambda: minimum_nuclear_norm(X, X.isnan()), "observed must have at least one entry"),
        (lambda: minimum_nuclear_norm(X, X * math.nan), "observed must be finite"),
        (
            lambda: MatrixCompletion.from_entries(torch.arange(3), torch.arange(3), Y, 3),
            "shape must be a sequence of numbers",
        ),
        (lambda: max_margin(X, torch.arange(2)), r"labels \(n,\)"),
        (lambda: minimum_nuclear_norm(Y, (torch.tensor([0, 1]), 2)), "rows, columns, shape"),
        (
            lambda: minimum_nuclear_norm(Y[:2], (torch.zeros(2).long(),) * 2 + ((2, 2),)),
            "got one twice",
        ),
        (lambda: minimum_nuclear_norm(X, X[:2] > 0), "a mask of the shape of values"),
        (lambda: minimum_nuclear_norm(Y[:2], torch.ones(2, 2, 2).double()), "contradict"),
        (lambda: minimum_nuclear_norm(Y, torch.ones(2, 2, 2).double()), "one value a measurement"),
        (lambda: greedy_low_rank(MatrixCompletion(X, X > 0), 2), "square matrices"),
        (lambda: greedy_low_rank(SquaredDistance(torch.eye(2)), 2, epsilon=-1.0), "epsilon"),
    ],
)
def test_input_that_does_not_fit_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
