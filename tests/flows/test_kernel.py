import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import KernelFlow, kernel_rhs
from tests.helpers import altered, randn, relative, times, worst_relative


def gram(n, rank, seed=0):
    J = randn(n, rank, seed=seed)
    return J @ J.mT / rank


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


def test_bound():
    flow = KernelFlow(gram(5, 8), randn(5, seed=1))
    u0 = randn(5, seed=2)
    ts = times(0.0, 0.5, 2.0, 10.0, 1e3, 1e6)
    us = flow.exact(ts, u0)
    assert flow.bound_holds(ts, us, u0).all()
    lam = torch.linalg.eigvalsh(flow.H)[0]
    truth = torch.exp(-2 * lam * ts) * (u0 - flow.targets).square().sum()
    assert relative(flow.residual_bound(ts, u0), truth) <= 1e-12
    slower = flow.targets + (us - flow.targets) * 1.01
    assert flow.bound_holds(ts, us, u0)[1:3].all()
    along = torch.linalg.eigh(flow.H)[1][:, 0]  # the bound is attained here
    tight = flow.exact(ts, flow.targets + along)
    assert flow.bound_holds(ts, tight, flow.targets + along).all()
    late = flow.targets + 1.01 * (tight - flow.targets)
    assert not flow.bound_holds(ts, late, flow.targets + along)[:3].any()
    assert slower.shape == us.shape


def test_observables_are_the_modes():
    flow = KernelFlow(gram(4, 6), randn(4, 2, seed=1))
    u = randn(4, 2, seed=2)
    lam, V = torch.linalg.eigh(flow.H)
    seen = flow.observables(u)
    assert (
        relative(seen["mode_residuals"], (V.mT @ (u - flow.targets)).norm(dim=1).flip(0)) <= 1e-13
    )
    assert relative(seen["residual_norm"], (u - flow.targets).norm()) <= 1e-15
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
        KernelFlow(torch.eye(2), torch.zeros(2)).exact_test(times(0.0), torch.zeros(2))


# -- by products alone ------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (7, 3)])
def test_a_callable_kernel_is_its_matrix(shape):
    H, y = gram(7, 4), randn(*shape, seed=1)
    known, product = KernelFlow(H, y), KernelFlow(lambda v: H @ v, y)
    for batch in ((), (2,), (2, 3)):
        u = randn(*batch, *shape, seed=2)
        for value in ("__call__", "reference", "jvp"):
            arguments = {"__call__": (0.0, u), "reference": (u,), "jvp": (u, u)}[value]
            got = getattr(product, value)(*arguments)
            assert got.shape == u.shape
            assert relative(got, getattr(known, value)(*arguments)) <= 1e-14, value
    u0, ts = randn(*shape, seed=3), [0.0, 0.5, 2.0]
    for method in ("krylov", "dopri5", "rkc2"):
        path = gflow.integrate(product, u0, ts, method, 1e-8, 1e-11)
        assert path.certificate.holds, path.certificate
        assert worst_relative(path.ys, known.exact(times(*ts), u0)) <= 1e-6
    assert set(product.observables(u0)) == {"loss", "residual_norm"}
    assert product.invariants(u0) == {}
    assert product.closed_form(u0) is None
    assert product.spectral_radius(u0) is None


def test_what_needs_the_entries_says_so():
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
    with pytest.raises(InputError, match="pass H_test, a tensor"):
        flow.exact_test(times(0.0), randn(3))


@pytest.mark.parametrize(
    ("H", "message"),
    [
        (lambda v: v[:2], r"same shape.*\(4, 2\) of torch.float64.*got \(2, 2\)"),
        (lambda v: v.float(), "got .*float32"),
        (lambda v: v.tolist(), "got list"),
        (lambda v: v * float("nan"), "product of H must be finite"),
        (lambda v: torch.cumsum(v, 0), "must be symmetric"),
    ],
)
def test_products_are_tried_on_two_vectors(H, message):
    with pytest.raises(InputError, match=message):
        KernelFlow(H, randn(4))


@pytest.mark.parametrize("shape", [(40,), (40, 3)])
@pytest.mark.parametrize("rank", [6, 40])
@pytest.mark.parametrize("given", ["tensors", "callables"])
def test_points_not_trained_on_by_krylov(shape, rank, given):
    J = randn(45, rank)
    H, H_test = J[:40] @ J[:40].mT, J[40:] @ J[:40].mT
    y, u0 = randn(*shape, seed=1), randn(*shape, seed=2)
    test_u0 = randn(5, *shape[1:], seed=3)
    exact = KernelFlow(H, y, H_test).exact_test
    if given == "tensors":
        flow = KernelFlow(H, y, H_test)
    else:
        flow = KernelFlow(lambda v: H @ v, y, lambda v: H_test @ v)
    ts = times(0.0, 0.01, 0.3, 5.0, 1e6)
    for rtol in (1e-4, 1e-8):
        got = flow.krylov_test(ts, u0, rtol=rtol)
        want = exact(ts, u0)
        assert got.shape == want.shape
        assert worst_relative(got[-1:], want[-1:]) <= rtol
        assert float((got - want).abs().max()) <= rtol * float(want[-1].norm())
    moved = flow.krylov_test(ts, u0, test_u0)
    assert torch.equal(moved[0], test_u0)
    assert relative(moved[2], exact(ts, u0, test_u0)[2]) <= 1e-7
    with pytest.raises(InputError, match="pass H_test"):
        KernelFlow(H, y).krylov_test(ts, u0)
    with pytest.raises(InputError, match="at least 0"):
        flow.krylov_test(times(-1.0), u0)


def test_spectral_radius_without_decomposition():
    x = torch.linspace(0.0, 1.0, 300, dtype=torch.float64)
    H = torch.exp(-4 * (x[:, None] - x).abs())
    H[:100] *= 0.2  # row sums that differ, so that the largest is no good bound
    H[:, :100] *= 0.2
    top = float(torch.linalg.eigvalsh(H)[-1])
    flow = KernelFlow(H, x)
    bound = flow.spectral_radius(x)
    assert not flow.invariants(x)
    assert top <= bound * (1 + 1e-14)
    assert bound <= 1.1 * top
    assert flow.eigenvalues[-1] == flow.spectral_radius(x)  # sharp once it is known
    signs = torch.where(torch.arange(300) % 2 == 0, 1.0, -1.0).double()
    assert KernelFlow(signs[:, None] * H * signs, x).spectral_radius(x) is None or (
        top <= KernelFlow(signs[:, None] * H * signs, x).spectral_radius(x) <= 1.1 * top
    )
    mixed = KernelFlow(gram(50, 50), randn(50))
    got = mixed.spectral_radius(randn(50))
    assert got is None or got >= float(torch.linalg.eigvalsh(mixed.H)[-1])
    assert KernelFlow(torch.zeros(3, 3), torch.zeros(3)).spectral_radius(torch.zeros(3)) == 0
    padded = torch.zeros(4, 4).double()
    padded[:2, :2] = 1.0
    assert KernelFlow(padded, randn(4)).spectral_radius(randn(4)) == pytest.approx(2.0, rel=1e-12)


def test_large_kernels_are_not_decomposed_unasked():
    n = 1001
    flow = KernelFlow(torch.eye(n, dtype=torch.float64), randn(n))
    start = torch.zeros(n, dtype=torch.float64)
    assert flow.closed_form(start) is None
    path = gflow.integrate(flow, start, [0.0, 0.1], "krylov")
    assert path.certificate.holds
    assert "eigh" not in vars(flow._operator)
    assert gflow.integrate(flow, start, [0.0, 0.1], "exact").certificate.holds
    assert flow.closed_form(start) == "eigendecomposition of H"
