"""The closed form of λ-balanced layers against SciPy's DOP853 on the layers, in NumPy."""

import numpy as np
import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import LayerwiseFlow
from gflow.flows.balanced_pair import _Path, balanced_pair, shared_balance
from gflow.losses import LinearRegression, MatrixCompletion, SquaredDistance
from tests.helpers import dop853, randn, relative, slow_except, times, worst_relative

TS = [0.0, 1e-6, 0.01, 0.3, 2.0, 20.0]
# (d_2, h, d_0): rectangular both ways; λ > 0 allows h up to d_2, λ < 0 up to d_0.
CASES = [
    (-10.0, (3, 5, 5)),
    (-10.0, (1, 4, 4)),
    (-1.0, (5, 3, 3)),
    (-1.0, (2, 3, 4)),
    (0.0, (3, 3, 5)),
    (0.0, (5, 2, 3)),
    (1.0, (3, 3, 5)),
    (1.0, (4, 3, 2)),
    (10.0, (5, 5, 3)),
    (10.0, (4, 4, 1)),
]


def start(balance, shape, scale=1.0, seed=7):
    """Return a flow and a balanced start in a random basis of the hidden units."""
    rows, width, columns = shape
    rank = min(shape)
    W0 = scale * randn(rows, rank, seed=seed) @ randn(rank, columns, seed=seed + 1)
    flow = LayerwiseFlow(SquaredDistance(randn(rows, columns)), [columns, width, rows])
    first, second = flow.unpack(flow.balanced_start(W0, balance=balance))
    turn = torch.linalg.qr(randn(width, width, seed=seed + 2))[0]
    return flow, flow.pack([turn @ first, second @ turn.mT])


def by_dop853(flow, y0, ts):
    M = -flow._loss.gradient(torch.zeros(flow._loss.shape, dtype=torch.float64)).numpy()
    first, second = (layer.numpy() for layer in flow.unpack(y0))

    def velocity(y):
        A = y[: first.size].reshape(first.shape)
        B = y[first.size :].reshape(second.shape)
        G = B @ A - M
        return -np.concatenate([(B.T @ G).ravel(), (G @ A.T).ravel()])

    return dop853(velocity, y0, ts, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize(("balance", "shape"), CASES, ids=str)
def test_layers_against_dop853(balance, shape, scale):
    flow, y0 = start(balance, shape, scale)
    states = flow.exact(times(*TS), y0)
    truth = by_dop853(flow, y0, TS)
    assert worst_relative(states, truth) <= 1e-9
    assert torch.equal(states[0], y0)
    assert worst_relative(flow.end_to_end(states), flow.end_to_end(truth)) <= 1e-9


@pytest.mark.parametrize(("balance", "shape"), CASES[::2], ids=str)
def test_far_in_time_layers_rest_at_a_minimum(balance, shape):
    flow, y0 = start(balance, shape)
    far = flow.exact(times(1e3, 1e6, 1e300, 0.0, 1e3), y0)
    assert relative(far[1], far[2]) <= 1e-12
    assert relative(far[0], far[1]) <= 1e-9
    assert torch.equal(far[3], y0)
    assert torch.equal(far[0], far[4])
    assert float(flow(0.0, far[2]).norm()) <= 1e-12
    change = flow.invariants(far[2])["balancedness_1"] - flow.invariants(y0)["balancedness_1"]
    assert float(change.norm()) <= 1e-12 * float(far[2].square().sum())


def test_hidden_units_turn_and_the_closed_form_turns_with_them():
    """A factor of QQᵀ alone, the symmetric one, would miss the layers."""
    flow, y0 = start(1.0, (3, 3, 5))
    first, second = flow.unpack(y0)
    M = -flow._loss.gradient(torch.zeros(3, 5, dtype=torch.float64))
    turn = torch.linalg.qr(randn(3, 3, seed=4))[0]
    a, b = balanced_pair(first, second, M, 1.0, times(0.7))
    c, d = balanced_pair(turn @ first, second @ turn.mT, M, 1.0, times(0.7))
    assert relative(turn @ a, c) <= 1e-12
    assert relative(b @ turn.mT, d) <= 1e-12
    Q0, Q = torch.cat([first.mT, second]), torch.cat([a[0].mT, b[0]])
    U, S, Vh = torch.linalg.svd(Q0.mT @ Q)
    # For Q₀ᵀQ symmetric the factor would be the one nearest to Q₀.
    assert float((U @ Vh - torch.eye(3)).norm()) > 1e-3
    assert S.min() > 0


def test_panels_join_smoothly(monkeypatch):
    F = (lambda A: A + A.mT)(randn(5, 5))
    path = _Path(F, randn(5, 3, seed=5))
    whole = path(times(0.5, 1.0, 3.0))
    monkeypatch.setattr("gflow.flows.balanced_pair._SMALL", 1e-15)  # many more panels
    assert relative(path(times(3.0, 1.0, 0.5)).flip(0), whole) <= 1e-12


@pytest.mark.parametrize("balance", slow_except([-2.0, 0.0, 3.0], 0.0, 3.0))
def test_auto_takes_it_and_the_certificate_is_measured(balance):
    flow, y0 = start(balance, (3, 3, 3) if balance else (3, 2, 3), 0.1)
    path = gflow.integrate(flow, y0, [0.0, 0.1, 1.0, 10.0])
    assert path.stats.method == "exact"
    assert f"balance {balance:g}" in flow.closed_form(y0)
    assert path.certificate.holds
    assert path.certificate.energy_residual <= 1e-8
    assert max(path.certificate.invariant_drift.values()) <= 1e-12
    stepped = gflow.integrate(flow, y0, path.ts, "dopri8", 1e-12, 1e-14)
    assert worst_relative(path.ys, stepped.ys) <= 1e-9
    assert 0 < stepped.certificate.error_estimate <= 1e-9


def test_whitened_regression_and_its_clock():
    X = torch.linalg.qr(randn(20, 4))[0] * 20**0.5 * 1.7
    loss = LinearRegression(X, X @ randn(4, 3) + 0.1 * randn(20, 3, seed=5))
    flow = LayerwiseFlow(loss, [4, 3, 3])
    y0 = flow.balanced_start(0.5 * randn(3, 4, seed=2), balance=-1.5)
    path = gflow.integrate(flow, y0, [0.0, 0.1, 1.0, 4.0])
    assert path.stats.method == "exact"
    stepped = gflow.integrate(flow, y0, path.ts, "dopri8", 1e-12, 1e-14)
    assert worst_relative(path.ys, stepped.ys) <= 1e-9


def test_starts_without_a_closed_form_go_on_by_steps():
    loss = SquaredDistance(torch.diag(times(2.0, 1.0)))
    flow = LayerwiseFlow(loss, [2, 2, 2])
    eye = torch.eye(2, dtype=torch.float64)
    unbalanced = flow.pack([eye, torch.diag(times(1.0, 2.0))])
    saddle = flow.balanced_start(torch.diag(times(0.5, -0.5)))  # det W cannot change its sign
    apart = flow.balanced_start(torch.diag(times(0.1, 1e-17)))
    partial = LayerwiseFlow(MatrixCompletion(eye, times(1, 0, 1, 1).reshape(2, 2) > 0), [2, 2, 2])
    deep = LayerwiseFlow(loss, [2, 2, 2, 2])
    for net, y0 in (
        (flow, unbalanced),
        (flow, saddle),
        (flow, apart),
        (flow, torch.zeros(8, dtype=torch.float64)),
        (partial, partial.balanced_start(eye)),
        (deep, deep.balanced_start(eye)),
    ):
        assert net.closed_form(y0) is None
        with pytest.raises(InputError, match="no closed form"):
            net.exact([0.0, 1.0], y0)
    assert gflow.integrate(flow, unbalanced, [0.0, 1.0]).stats.method != "exact"


# -- starts -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1.0, 1e3])
@pytest.mark.parametrize(("balance", "shape"), CASES, ids=str)
def test_starts_of_a_balance(balance, shape, scale):
    rows, width, columns = shape
    rank = min(shape)
    W0 = scale * randn(rows, rank) @ randn(rank, columns, seed=1)
    flow = LayerwiseFlow(SquaredDistance(randn(rows, columns)), [columns, width, rows])
    first, second = flow.unpack(flow.balanced_start(W0, balance=balance))
    size = first.square().sum() + second.square().sum()
    D = second.mT @ second - first @ first.mT
    assert float((second @ first - W0).norm()) <= 1e-14 * float(size)
    eye = torch.eye(width, dtype=torch.float64)
    assert float((D - balance * eye).norm()) <= 1e-14 * float(size)
    if size > 0:
        assert shared_balance([first, second]) == pytest.approx(balance, abs=1e-13 * float(size))


def test_ensembles_and_factors_of_a_start():
    flow = LayerwiseFlow(SquaredDistance(randn(3, 2)), [2, 2, 3])
    W0 = randn(4, 3, 2, seed=3)
    together = flow.balanced_start(W0, balance=2.0)
    for y0, W in zip(together, W0, strict=True):
        assert relative(flow.end_to_end(y0), W) <= 1e-14
        assert shared_balance(flow.unpack(y0)) == pytest.approx(2.0)
    pair = flow.balanced_start((randn(3, 1), randn(1, 2)), balance=-2.0)
    assert relative(flow.end_to_end(pair), randn(3, 1) @ randn(1, 2)) <= 1e-14


@pytest.mark.parametrize(
    ("dims", "balance", "said"),
    [
        ([2, 4, 3], 1.0, "from the rank of W0, 2, to 3 .*got 4"),
        ([2, 3, 3], -1.0, "from the rank of W0, 2, to 2 .*got 3"),
        ([2, 1, 3], 1.0, "from the rank of W0, 2, to 3 .*got 1"),
        ([2, 2, 2, 3], 1.0, "two layers only, got 1.0 for depth 3"),
        ([2, 3], 1.0, "two layers only, got 1.0 for depth 1"),
        ([2, 2, 3], float("nan"), "finite number.*got nan"),
        ([2, 2, 3], "1", "balance must be a number, got '1'"),
    ],
)
def test_impossible_balances(dims, balance, said):
    flow = LayerwiseFlow(SquaredDistance(randn(3, 2)), dims)
    with pytest.raises(InputError, match=said):
        flow.balanced_start(randn(3, 2, seed=1), balance=balance)
