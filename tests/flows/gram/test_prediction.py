"""Predictions at training and test points, against matrix exponentials and explicit steps."""

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import KernelFlow
from gflow.flows.gram import krylov
from gflow.kernels import two_layer_relu_gram
from tests.helpers import gram, randn, relative, times


@pytest.mark.parametrize("rank", [3, 9])
@pytest.mark.parametrize("shape", [(9,), (9, 4)])
@pytest.mark.parametrize("basis_limit", [0, 2**20])
def test_predictions_are_matrix_exponentials_in_any_order_of_times(
    shape, rank, basis_limit, monkeypatch
):
    monkeypatch.setattr(krylov, "_SMALL_BASIS", basis_limit)  # outputs one by one, or all at once
    J = randn(12, rank)
    H, H_test = J[:9] @ J[:9].mT, J[9:] @ J[:9].mT
    y, u0, test_u0 = randn(*shape, seed=1), randn(*shape, seed=2), randn(3, *shape[1:], seed=3)
    flow = KernelFlow(H, y, H_test)
    ts = [0.3, 0.0, 2.0, 0.01]
    for method in ("auto", "exact", "krylov"):
        train, test = flow.predict(ts, u0, test_u0, method=method, rtol=1e-11)
        for t, u, v in zip(ts, train, test, strict=True):
            block = torch.zeros(18, 18).double()  # exp of [[-H, I], [0, 0]]t holds tφ₁(−tH)
            block[:9, :9], block[:9, 9:] = -t * H, t * torch.eye(9).double()
            exponential = torch.linalg.matrix_exp(block)
            assert relative(u, y + exponential[:9, :9] @ (u0 - y)) <= 1e-10, method
            moved = H_test @ exponential[:9, 9:] @ (u0 - y)
            assert relative(v, test_u0 - moved) <= 1e-10, method
        assert torch.equal(train[1], u0)
        assert torch.equal(test[1], test_u0)
    without_test = KernelFlow(H, y).predict(ts, u0)
    assert without_test.test is None
    assert relative(without_test.train, train) <= 1e-10


def test_input_errors_of_predictions():
    flow = KernelFlow(gram(4, 4), randn(4), randn(2, 4))
    u0 = randn(4)
    for call, message in (
        (lambda: flow.predict([-1.0], u0), "times must be at least 0, got -1"),
        (lambda: flow.predict([float("nan")], u0), "times must be finite"),
        (lambda: flow.predict(1.0, u0), "times must be a sequence"),
        (lambda: flow.predict([1.0], u0, method="rkc2"), "auto, exact or krylov, got 'rkc2'"),
        (lambda: flow.predict([1.0], u0, randn(3)), r"shape \(2,\)"),
        (lambda: flow.predict([1.0], u0, randn(2) / 0), "test_u0 must be finite"),
        (lambda: flow.predict([1.0], u0[None]), "takes one start, got an ensemble"),
        (lambda: KernelFlow(gram(4, 4), randn(4)).predict([1.0], u0, randn(2)), "pass H_test"),
        (lambda: flow.exact_descent([-1], u0, 0.1), "whole numbers ≥ 0"),
        (lambda: flow.exact_descent([0.5], u0, 0.1), "whole numbers ≥ 0"),
        (lambda: flow.exact_descent([1], u0, 0.0), "step_size must be a positive number, got 0"),
        (lambda: flow.exact_descent([1], u0, float("nan")), "positive number, got nan"),
    ):
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.parametrize("shape", [(6,), (6, 3)])
@pytest.mark.parametrize("rank", [3, 6])
def test_descent_in_closed_form_is_descent_step_by_step(shape, rank):
    J = randn(8, rank)
    H, H_test = J[:6] @ J[:6].mT, J[6:] @ J[:6].mT
    flow = KernelFlow(H, randn(*shape, seed=1), H_test)
    u0, test_u0 = randn(*shape, seed=2), randn(2, *shape[1:], seed=3)
    for share in (0.1, 0.5, 0.9, 0.999):
        eta = share * flow.stability_limit
        result = flow.exact_descent([0, 1, 2, 7, 40], u0, eta, test_u0)
        gd = gflow.descend(flow, u0, eta, steps=40)
        u, v, test_outputs = u0, test_u0, [test_u0]
        for _ in range(40):
            u, v = u - eta * H @ (u - flow.targets), v - eta * H_test @ (u - flow.targets)
            test_outputs.append(v)
        for row, k in enumerate((0, 1, 2, 7, 40)):
            assert relative(result.train[row], gd.ys[k]) <= 1e-13
            assert relative(result.test[row], test_outputs[k]) <= 1e-13
        assert torch.equal(result.train[0], u0)


def test_unstable_descent_warns_with_the_limit():
    flow = KernelFlow(
        torch.diag(times(4.0, 1.0)), torch.ones(2).double(), torch.ones(1, 2).double()
    )
    u0 = torch.zeros(2).double()
    with pytest.warns(RuntimeWarning, match=r"step_size 0.6 is not below 2/λ_max = 0.5"):
        result = flow.exact_descent([3], u0, 0.6)
    assert relative(result.train, gflow.descend(flow, u0, 0.6, 3).ys[3:]) <= 1e-14
    with pytest.raises(
        InputError,
        match=r"2/λ_max = 0.5, and descent overflows by step 10000; take smaller or fewer steps",
    ):
        flow.exact_descent([10000], u0, 0.6)
    for H, limit in ((torch.zeros(2, 2), float("inf")), (torch.eye(2), 2.0)):
        assert KernelFlow(H, torch.ones(2)).stability_limit == limit


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize(
    "case", ["one point", "zeros", "duplicates", "unnormalised", "constant targets", "all learned"]
)
def test_hard_cases_are_never_nan(case, outputs, dtype):
    n = 1 if case == "one point" else 6
    x = 1e3 * randn(n, 3) if case == "unnormalised" else randn(n, 3)
    if case == "duplicates":
        x[3:] = x[:3]
    x = torch.zeros_like(x) if case == "zeros" else x
    y = torch.ones(n, *(() if outputs is None else (outputs,)))
    y = y if case == "constant targets" else randn(*y.shape, seed=1)
    x, y = x.to(dtype), y.to(dtype)
    H = two_layer_relu_gram(x)
    flow = KernelFlow(H, y, H[:1])
    u0 = y.clone() if case == "all learned" else torch.zeros_like(y)
    eta = min(flow.stability_limit / 3, 1.0)
    ts = [0.0, 1e-3, 1.0, 1e6]
    for method in ("exact", "krylov"):
        train, test = flow.predict(ts, u0, method=method, rtol=1e-6)
        assert torch.isfinite(train).all()
        assert torch.isfinite(test).all()
        # The test point is a training point, so it moves as that one does.
        loose = 2e-3 if dtype == torch.float32 else 2e-6
        assert float((test[:, 0] - (train[:, 0] - u0[0])).abs().max()) <= loose
    train, test = flow.exact_descent([0, 1, 10**6], u0, eta)
    assert torch.isfinite(train).all()
    assert torch.isfinite(test).all()
    observed = [flow.effective_dimension(ts), flow.target_energy(u0), flow.residual_bound(ts, u0)]
    assert all(torch.isfinite(value).all() for value in observed)
    if case == "zeros":
        assert not train.any()
        assert (flow.learning_times == float("inf")).all()


@pytest.mark.parametrize("method", ["exact", "krylov"])
def test_test_points_alone_are_those_of_both(method):
    flow, u0 = KernelFlow.example()
    times = [0.0, 0.3, 2.0]
    both = flow.predict(times, u0, method=method)
    alone = flow.predict(times, u0, method=method, train=False)
    assert alone.train.shape == (0, 5)
    assert torch.equal(alone.test, both.test)
    with pytest.raises(InputError, match="train must be"):
        flow.predict(times, u0, train="yes")
