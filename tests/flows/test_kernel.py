import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import KernelFlow, kernel_rhs
from tests.helpers import (
    altered,
    gram,
    randn,
    relative,
    slow_pairs_except,
    times,
    worst_relative,
)


@pytest.mark.parametrize("outputs", [None, 1, 3])
@pytest.mark.parametrize("rank", [2, 5])
def test_velocity_is_kernel_times_autograd_of_the_loss(outputs, rank):
    shape = (5,) if outputs is None else (5, outputs)
    H, y, u = gram(5, rank), randn(*shape, seed=1), randn(*shape, seed=2)
    flow = KernelFlow(H, y)
    leaf = u.clone().requires_grad_()
    (slope,) = torch.autograd.grad(flow.loss(leaf), leaf)
    assert relative(flow(0.0, u), -H @ slope) <= 1e-12
    assert relative(kernel_rhs(u, H, y), -H @ (u - y)) <= 1e-14
    assert relative(flow.loss(u), 0.5 * (u - y).square().sum()) <= 1e-15


@pytest.mark.parametrize("outputs", [None, 2])
def test_null_space_residual_does_not_move(outputs):
    shape = (6,) if outputs is None else (6, outputs)
    flow = KernelFlow(gram(6, 3), randn(*shape, seed=1))
    u0 = randn(*shape, seed=2)
    assert int((flow.eigenvalues == 0).sum()) == 3
    path = gflow.integrate(flow, u0, [0.0, 1.0, 10.0, 50.0], "dopri8", 1e-10, 1e-13)
    assert path.certificate.holds, path.certificate
    assert path.certificate.invariant_drift["null_residual"] <= 1e-9
    assert path.certificate.error_estimate <= 1e-9
    assert KernelFlow(gram(6, 6), randn(6)).invariants(randn(6)) == {}


@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-10])
@pytest.mark.parametrize("power", [0, 2])
def test_wrong_power_of_the_kernel_is_caught(power, rtol):
    flow = KernelFlow(gram(5, 5), randn(5, seed=1))
    H = torch.linalg.matrix_power(flow.H, power)
    wrong = altered(flow, lambda inner, t, u: (inner.targets - u) @ H)
    path = gflow.integrate(wrong, randn(5, seed=2), [0.0, 0.5, 2.0], "dopri8", rtol, 1e-3 * rtol)
    assert not path.certificate.holds
    assert path.certificate.velocity_error > 0.05
    assert path.certificate.error_estimate > 1e-3


def test_descent_is_its_closed_form():
    flow = KernelFlow(gram(5, 3), randn(5, seed=1))
    u0, eta = randn(5, seed=2), 0.1
    gd = gflow.descend(flow, u0, eta, steps=7)
    step = torch.eye(5, dtype=torch.float64) - eta * flow.H
    for k, u in enumerate(gd.ys):
        truth = flow.targets + torch.linalg.matrix_power(step, k) @ (u0 - flow.targets)
        assert relative(u, truth) <= 1e-14


def test_observables_are_the_modes():
    flow = KernelFlow(gram(4, 6), randn(4, 2, seed=1))
    u = randn(4, 2, seed=2)
    lam, V = torch.linalg.eigh(flow.H)
    observables = flow.observables(u)
    assert (
        relative(observables["mode_residuals"], (V.mT @ (u - flow.targets)).norm(dim=1).flip(0))
        <= 1e-13
    )
    assert relative(observables["residual_norm"], (u - flow.targets).norm()) <= 1e-15
    assert relative(flow.eigenvalues, lam) <= 1e-14
    factors = torch.stack([lam, lam.square()])
    powers = torch.stack([flow.H @ u, flow.H @ flow.H @ u])
    assert worst_relative(flow.apply_modes(factors, u), powers) <= 1e-13


@pytest.mark.parametrize(
    ("H", "y", "test", "message"),
    [
        (randn(2, 3), randn(2), None, r"square matrix, got \(2, 3\)"),
        (randn(3, 3), randn(3), None, "symmetric, but .*reaches"),
        (torch.full((2, 2), float("nan")), randn(2), None, "H must be finite.*4 of 4"),
        (torch.eye(3), randn(2), None, r"n = 3, got \(2,\)"),
        (torch.eye(2), torch.tensor([1.0, float("inf")]), None, "targets must be finite"),
        (torch.eye(2), randn(2), randn(2, 3), r"\(n_test, 2\), got \(2, 3\)"),
        (torch.eye(2), randn(2), torch.full((1, 2), float("nan")), "H_test must be finite"),
        ([[1.0]], randn(1), None, "H must be a floating-point tensor, got list"),
        (torch.eye(1).long(), randn(1), None, "H must be a floating-point tensor, got .*int64"),
        (torch.eye(1), [1.0], None, "targets must be a floating-point tensor, got list"),
    ],
)
def test_input_errors(H, y, test, message):
    with pytest.raises(InputError, match=message):
        KernelFlow(H, y, test)


def test_indefinite_kernels_and_missing_test_points():
    flow = KernelFlow(torch.diag(times(1.0, -0.5)), randn(2))
    with pytest.raises(InputError, match=r"least eigenvalue is -0.5 \(largest 1\)"):
        gflow.integrate(flow, randn(2), [0.0, 1.0])
    with pytest.raises(InputError, match="pass H_test"):
        KernelFlow(torch.eye(2), torch.zeros(2)).predict([0.0], torch.zeros(2), torch.zeros(1))


# -- kernels given by products ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "rtol_of_rkc2"), slow_pairs_except([((7,), 1e-8), ((7, 3), 1e-5)], ((7, 3), 1e-5))
)
def test_a_callable_kernel_is_its_matrix(shape, rtol_of_rkc2):
    H, y = gram(7, 4), randn(*shape, seed=1)
    stored, product = KernelFlow(H, y), KernelFlow(lambda v: H @ v, y)
    for batch in ((), (2,), (2, 3)):
        u = randn(*batch, *shape, seed=2)
        for value in ("__call__", "reference", "jvp"):
            arguments = {"__call__": (0.0, u), "reference": (u,), "jvp": (u, u)}[value]
            result = getattr(product, value)(*arguments)
            assert result.shape == u.shape
            assert relative(result, getattr(stored, value)(*arguments)) <= 1e-14, value
    u0, ts = randn(*shape, seed=3), [0.0, 0.5, 2.0]
    for method, rtol in (("krylov", 1e-8), ("dopri5", 1e-8), ("rkc2", rtol_of_rkc2)):
        path = gflow.integrate(product, u0, ts, method, rtol, 1e-3 * rtol)
        assert path.certificate.holds, path.certificate
        assert worst_relative(path.ys, stored.exact(times(*ts), u0)) <= 100 * rtol
    assert set(product.observables(u0)) == {"loss", "residual_norm"}
    assert product.invariants(u0) == {}
    assert product.closed_form(u0) is None
    assert product.spectral_radius(u0) is None


def test_methods_that_need_the_entries_of_a_callable_kernel_raise():
    flow = KernelFlow(lambda v: 2 * v, randn(3), H_test=lambda v: v[:1])
    for needs in (
        lambda: flow.eigenvalues,
        lambda: flow.H,
        lambda: flow.exact(times(0.0, 1.0), randn(3)),
        lambda: flow.residual_bound(times(0.0), randn(3)),
        lambda: gflow.integrate(flow, randn(3), [0.0, 1.0], "exact"),
    ):
        with pytest.raises(InputError, match=r"given as a product.*pass H as a tensor"):
            needs()
    half_known = KernelFlow(torch.eye(3).double(), randn(3), H_test=lambda v: v[:1])
    for needs in (
        lambda: half_known.predict([0.0], randn(3), method="exact"),
        lambda: half_known.exact_descent([0], randn(3), 0.1),
    ):
        with pytest.raises(InputError, match="pass H_test as a tensor"):
            needs()


def test_targets_and_kernels_of_another_precision_are_refused():
    with pytest.raises(InputError, match=r"targets must have the dtype.*of H, .*float64"):
        KernelFlow(torch.eye(2).double(), torch.ones(2))
    with pytest.raises(InputError, match="H_test must have the dtype"):
        KernelFlow(torch.eye(2), torch.ones(2), torch.ones(1, 2).double())
    with pytest.raises(InputError, match="targets must not be empty"):
        KernelFlow(torch.zeros(2, 2), torch.zeros(2, 0))
    indefinite = KernelFlow(torch.diag(times(1.0, -0.5)), randn(2))
    for method in ("exact", "krylov"):
        with pytest.raises(InputError, match="positive semidefinite"):
            indefinite.predict([1.0], randn(2, seed=1), method=method)
    with pytest.raises(InputError, match="positive semidefinite"):
        indefinite.exact_descent([1], randn(2), 0.1)
