"""Baselines of linear constraints: units, dtypes and dependent rows do not matter."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from gflow.baselines import commuting_limit, commuting_rate, diagonal_limit, minimum_nuclear_norm
from gflow.errors import InputError
from tests.helpers import randn, relative

X, Y = randn(4, 9, seed=1), randn(4, seed=2)
Q = torch.linalg.qr(randn(5, 5))[0]
EIGENVALUES = randn(2, 5, seed=3)
A = (Q * EIGENVALUES[:, None, :]) @ Q.mT
B = EIGENVALUES @ torch.tensor([1.0, 0.3, 2.0, 0.5, 0.1]).double()
M, V = randn(3, 3, 3, seed=4), torch.ones(3).double()


@pytest.mark.parametrize("unit", [1e-4, 1e-8, 1e-12, 1e-200, 1e200])
def test_units_of_constraints_do_not_change_limits(unit):
    rows = torch.tensor([1.0, unit, unit**0.5, 1.0], dtype=torch.float64)
    expected = diagonal_limit(X, Y, 1e-3)
    assert relative(X @ expected, Y) <= 1e-12
    assert relative(diagonal_limit(X * rows[:, None], Y * rows, 1e-3), expected) <= 1e-11
    assert relative(diagonal_limit(X * unit, Y * unit, 1e-3), expected) <= 1e-11
    W, least = (
        commuting_limit(A, B, 1e-3),
        linprog(np.ones(5), A_eq=EIGENVALUES.numpy(), b_eq=B.numpy()).fun,
    )
    assert float(W.trace()) > least
    A2, B2 = A * rows[:2, None, None], B * rows[:2]
    assert relative(commuting_limit(A2, B2, 1e-3), W) <= 1e-11
    assert commuting_rate(A2, B2).value == pytest.approx(least, rel=1e-9)
    found = minimum_nuclear_norm(V * rows[:3], M * rows[:3, None, None])
    assert found.value == pytest.approx(minimum_nuclear_norm(V, M).value, rel=1e-9)


@pytest.mark.parametrize("unit", [1e-150, 1e-10, 1e10, 1e150])
def test_the_limit_scales_with_its_start(unit):
    """In other units of w, y and α² are multiples, and so is w."""
    w = diagonal_limit(X, Y * unit, log_scale=math.log(1e-3) + 0.5 * math.log(unit))
    assert relative(w / unit, diagonal_limit(X, Y, 1e-3)) <= 1e-10
    W = commuting_limit(A, B * unit, 1e-3 * unit)
    assert relative(W / unit, commuting_limit(A, B, 1e-3)) <= 1e-10


def test_targets_of_sizes_far_apart_are_all_met():
    y = torch.tensor([1.0, 1e-12], dtype=torch.float64)
    for log_scale in (0.0, -30.0):
        assert diagonal_limit(torch.eye(2).double(), y, log_scale=log_scale).tolist() == (
            pytest.approx(y.tolist(), rel=1e-9)
        )


@pytest.mark.parametrize("scale", [1e100, 1e-300])
def test_any_scale_of_the_start_has_a_limit(scale):
    W = commuting_limit(torch.eye(3).double()[None], torch.tensor([6.0]).double(), scale)
    assert relative(W, 2 * torch.eye(3).double()) <= 1e-10
    if scale > 1:
        assert relative(diagonal_limit(X, Y, scale), torch.linalg.pinv(X) @ Y) <= 1e-10


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_constraints_that_follow_from_others_are_left_out(dtype):
    A2, v = torch.cat([M, 0.3 * M[:1] + 0.7 * M[1:2]]).to(dtype), torch.ones(4, dtype=dtype)
    found, expected = minimum_nuclear_norm(v, A2), minimum_nuclear_norm(V, M)
    assert found.value == pytest.approx(expected.value, rel=1e-6)
    assert 0 <= found.gap <= 1e-7
    assert found.solution.dtype == dtype
    X2, y2 = torch.cat([X, 0.3 * X[:1] + 0.7 * X[1:2]]), torch.cat([Y, 0.3 * Y[:1] + 0.7 * Y[1:2]])
    w = diagonal_limit(X2.to(dtype), y2.to(dtype), 0.1)
    assert relative(w.double(), diagonal_limit(X, Y, 0.1)) <= 1e-5
    v[3] = 2.0
    with pytest.raises(InputError, match=r"values must not contradict .* number \d") as info:
        minimum_nuclear_norm(v, A2)
    assert "\n" not in str(info.value)
    y2[4] += 0.01
    with pytest.raises(InputError, match="targets must not contradict"):
        diagonal_limit(X2.to(dtype), y2.to(dtype), 0.1)


@pytest.mark.parametrize("near", [1e-6, 1e-9])
def test_constraints_that_nearly_follow_from_others_are_met(near):
    """They have the same w as the rows whose difference is small, not to be taken apart."""
    X2, w = X.clone(), torch.arange(9.0).double() - 3
    X2[3] = X[2] + near * X[3]
    expected = diagonal_limit(X, X @ w, 1e-3)
    assert relative(diagonal_limit(X2, X2 @ w, 1e-3), expected) <= 1e-14 / near


def test_more_measurements_than_entries_that_agree_have_one_solution():
    W = randn(3, 3, seed=6)
    many = randn(12, 3, 3, seed=7)
    found = minimum_nuclear_norm(torch.einsum("mij,ij->m", many, W), many)
    assert relative(found.solution, W) <= 1e-12
    rate = commuting_rate(0 * A, 0 * B)  # w = c
    assert (rate.value, rate.exponent) == (0.0, 1.0)
    nothing = minimum_nuclear_norm(torch.zeros(2).double(), torch.zeros(2, 3, 3).double())
    assert nothing.value == 0.0


@pytest.mark.parametrize("iterations", [1, 9, 15])
def test_the_gap_is_that_of_the_last_iteration(iterations):
    found = minimum_nuclear_norm(randn(6, 9), randn(6, 9, seed=1) > 0, max_iterations=iterations)
    assert found.value == pytest.approx(float(torch.linalg.svdvals(found.solution).sum()))
    assert 0 < found.lower_bound < found.value < 2 * found.lower_bound


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_computed_in_float64(dtype):
    mask = torch.tensor([[True, True], [True, False]])
    found = minimum_nuclear_norm(torch.ones(2, 2, dtype=dtype), mask)
    assert found.solution.dtype == dtype
    assert found.value == pytest.approx(2.0, rel=1e-7)


@pytest.mark.parametrize("size", [6, 40])
def test_float32_measurements_commute_in_their_round_off(size):
    basis, rows = torch.linalg.qr(randn(size, size))[0], randn(3, size, seed=5)
    measurements, values = (basis * rows[:, None, :]) @ basis.mT, torch.ones(3).double()
    W = commuting_limit(measurements.float(), values.float(), 0.1)
    assert W.dtype == torch.float32
    assert relative(W.double(), commuting_limit(measurements, values, 0.1)) <= 1e-4
    rate = commuting_rate(measurements.float(), values.float())
    assert rate.slacks.dtype == rate.basis.dtype == torch.float32
    assert rate.excess(W.double()).dtype == torch.float64
    with pytest.raises(InputError, match="symmetric and commute"):
        commuting_limit((measurements + 1e-3 * randn(3, size, size)).float(), values.float(), 0.1)


def test_measurements_whose_combination_cancels_commute():
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    weights = torch.cos(1 + torch.arange(2).double() ** 2)
    measurements = torch.stack([swap / weights[0], -swap / weights[1]])
    values = torch.stack([1 / weights[0], -1 / weights[1]])
    W = commuting_limit(measurements, values, 1e-3)  # ⟨swap, W⟩ = w₊ − w₋ = 1, w₊ w₋ = c²
    assert W[0, 1].item() == pytest.approx(0.5, rel=1e-12)
    assert W.trace().item() == pytest.approx(math.sqrt(1 + 4e-6), rel=1e-12)


def test_small_measurements_that_do_not_commute_are_seen():
    pair = torch.stack([A[0], 1e-12 * torch.diag(torch.arange(5.0)).double()])
    with pytest.raises(InputError, match="symmetric and commute"):
        commuting_limit(pair, B, 1e-3)


def test_arrays_are_taken_as_tensors():
    assert torch.equal(commuting_limit(A.numpy(), B.numpy(), 0.1), commuting_limit(A, B, 0.1))
    assert commuting_rate(A, B.numpy()).value == commuting_rate(A, B).value
    rate = commuting_rate(A.numpy(), B.numpy())
    assert float(rate.excess(commuting_limit(A, B, 0.1).numpy())) > 0
    graph = X.clone().requires_grad_()
    assert not diagonal_limit(graph, Y, 0.1).requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimum_nuclear_norm(V[:0], M[:0]), "measurements must not be empty"),
        (lambda: minimum_nuclear_norm(V.long(), M), "values must be a floating-point tensor"),
        (lambda: commuting_limit(A.half(), B, 0.1), r"float32 or float64, got torch.float16"),
        (lambda: commuting_limit(A * math.nan, B, 0.1), "measurements must be finite"),
        (lambda: diagonal_limit(X * 1e-200, Y * 1e200, 0.1), "change the units"),
        (lambda: diagonal_limit(X.float() * 1e-30, Y.float() * 1e30, 1.0), "float32.* overflows"),
    ],
)
def test_data_that_cannot_be_used_are_refused_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as info:
        call()
    assert "\n" not in str(info.value)
