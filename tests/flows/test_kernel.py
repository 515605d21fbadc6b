import decimal
from pathlib import Path

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import KernelFlow, kernel_rhs
from gflow.flows.gram import krylov, tiles
from gflow.flows.gram.modes import descent_factors
from gflow.kernels import two_layer_relu_gram
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
        KernelFlow(torch.eye(2), torch.zeros(2)).predict([0.0], torch.zeros(2), torch.zeros(1))


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
    half_known = KernelFlow(torch.eye(3).double(), randn(3), H_test=lambda v: v[:1])
    for needs in (
        lambda: half_known.predict([0.0], randn(3), method="exact"),
        lambda: half_known.exact_descent([0], randn(3), 0.1),
    ):
        with pytest.raises(InputError, match="pass H_test as a tensor"):
            needs()


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
    known = KernelFlow(H, y, H_test)
    if given == "tensors":
        flow = KernelFlow(H, y, H_test)
    else:
        flow = KernelFlow(lambda v: H @ v, y, lambda v: H_test @ v)
    ts = times(0.0, 0.01, 0.3, 5.0, 1e6)
    for rtol in (1e-4, 1e-8):
        got = flow.predict(ts, u0, method="krylov", rtol=rtol).test
        want = known.predict(ts, u0, method="exact").test
        assert got.shape == want.shape
        assert worst_relative(got[-1:], want[-1:]) <= rtol
        assert float((got - want).abs().max()) <= rtol * float(want[-1].norm())
    moved = flow.predict(ts, u0, test_u0, method="krylov").test
    assert torch.equal(moved[0], test_u0)
    assert relative(moved[2], known.predict(ts, u0, test_u0, method="exact").test[2]) <= 1e-7
    with pytest.raises(InputError, match="pass H_test"):
        KernelFlow(H, y).predict(ts, u0, test_u0, method="krylov")
    with pytest.raises(InputError, match="at least 0"):
        flow.predict(times(-1.0), u0, method="krylov")


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


# -- from a kernel function ---------------------------------------------------------------


def points(n, seed=0):
    x = randn(n, 4, seed=seed)
    x[1] = x[0]  # a duplicated row
    x[2] = 0.0  # a zero row
    return x


@pytest.mark.parametrize("rows", [1024, 3])
@pytest.mark.parametrize("shape", [(11,), (11, 2)])
def test_a_kernel_function_is_its_matrices_or_products_by_tiles(shape, rows, monkeypatch):
    monkeypatch.setattr(tiles, "_TILE", rows)
    x, z, y = points(11), points(5, seed=1), randn(*shape, seed=2)
    H, H_test = two_layer_relu_gram(x), two_layer_relu_gram(z, x)
    known = KernelFlow(H, y, H_test)
    made = KernelFlow.from_kernel(two_layer_relu_gram, x, y, z)
    assert relative(made.H, H) <= 1e-7  # off the diagonal the arc cosine rounds either way
    assert torch.equal(made.H, made.H.mT)
    assert torch.equal(made.H.diagonal(), H.diagonal())
    assert relative(made.H_test, H_test) <= 1e-7
    tiled = KernelFlow.from_kernel(two_layer_relu_gram, x, y, z, max_memory=600)
    assert not isinstance(tiled.H_test, torch.Tensor)
    ts, u0 = times(0.0, 0.5, 30.0), randn(*shape, seed=3)
    want = known.predict(ts, u0, method="exact")
    for flow in (made, tiled):
        got = flow.predict(ts, u0, method="krylov", rtol=1e-10)
        assert relative(got.train, want.train) <= 1e-6
        assert relative(got.test, want.test) <= 1e-6
    with pytest.raises(InputError, match="given as a product"):
        tiled.predict(ts, u0, method="exact")
    with pytest.raises(InputError, match="given as a product"):
        tiled.exact_descent([1], u0, 0.1)


def test_krylov_predictions_stay_below_another_matrix(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from kernel_flow import Live

    n = 1100
    angle = torch.linspace(0.0, 1.0, n, dtype=torch.float64)[:, None]
    H, y = torch.exp(-(angle - angle.mT).abs()), torch.cos(angle * torch.arange(8))
    flow = KernelFlow(H, y, H[:50])
    with Live() as live:
        got = flow.predict(torch.linspace(0, 5, 20), 0 * y, method="krylov", rtol=1e-6)
    assert live.peak < H.nbytes
    assert relative(got.test, got.train[:, :50]) <= 1e-5


def test_tiles_never_ask_for_more_than_a_tile():
    asked = []

    def kernel(x1, x2=None):
        asked.append((len(x1), len(x1 if x2 is None else x2)))
        return two_layer_relu_gram(x1, x2)

    x, y = randn(50, 3), randn(50)
    flow = KernelFlow.from_kernel(kernel, x, y, x[:7], max_memory=8 * 8 * 6**2)
    assert relative(flow(0.0, 0 * y), two_layer_relu_gram(x) @ y) <= 1e-7
    flow.predict(times(1.0), 0 * y, method="krylov")
    assert max(max(shape) for shape in asked) == 6


@pytest.mark.parametrize(
    ("kernel", "x", "memory", "message"),
    [
        (lambda a, b=None: torch.zeros(2, 2), randn(3, 2), 2**20, r"return a tensor.*\(2, 2\)"),
        (lambda a, b=None: 1.0, randn(3, 2), 2**20, "return a tensor.*float"),
        (two_layer_relu_gram, randn(3, 2), 10, "max_memory must be at least 64 bytes, got 10"),
        (two_layer_relu_gram, randn(0, 2), 2**20, r"x must be a tensor of points.*\(0, 2\)"),
        (two_layer_relu_gram, [1.0], 2**20, "x must be a tensor of points.*list"),
        (lambda a, b=None: two_layer_relu_gram(a, b) / 0, randn(3, 2), 2**20, "kernel must be fin"),
        (two_layer_relu_gram, randn(4, 2), 2**20, "n = 4, got"),
    ],
)
def test_input_errors_of_kernel_functions(kernel, x, memory, message):
    with pytest.raises(InputError, match=message):
        KernelFlow.from_kernel(kernel, x, torch.ones(3).double(), max_memory=memory)


# -- predictions in one call ----------------------------------------------------------------


@pytest.mark.parametrize("rank", [3, 9])
@pytest.mark.parametrize("shape", [(9,), (9, 4)])
@pytest.mark.parametrize("few", [0, 2**20])
def test_predictions_are_matrix_exponentials_in_any_order_of_times(shape, rank, few, monkeypatch):
    monkeypatch.setattr(krylov, "_SMALL_BASIS", few)  # outputs one by one, or all at once
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
    alone = KernelFlow(H, y).predict(ts, u0)
    assert alone.test is None
    assert relative(alone.train, train) <= 1e-10


def test_predictions_say_what_they_cannot_use():
    flow = KernelFlow(gram(4, 4), randn(4), randn(2, 4))
    u0 = randn(4)
    for call, message in (
        (lambda: flow.predict([-1.0], u0), "finite numbers of at least 0"),
        (lambda: flow.predict([float("nan")], u0), "finite numbers of at least 0"),
        (lambda: flow.predict(1.0, u0), r"one row.*got shape \(\)"),
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


# -- descent without its steps ----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6,), (6, 3)])
@pytest.mark.parametrize("rank", [3, 6])
def test_descent_in_closed_form_is_descent_step_by_step(shape, rank):
    J = randn(8, rank)
    H, H_test = J[:6] @ J[:6].mT, J[6:] @ J[:6].mT
    flow = KernelFlow(H, randn(*shape, seed=1), H_test)
    u0, test_u0 = randn(*shape, seed=2), randn(2, *shape[1:], seed=3)
    for share in (0.1, 0.5, 0.9, 0.999):
        eta = share * flow.stability_limit
        got = flow.exact_descent([0, 1, 2, 7, 40], u0, eta, test_u0)
        gd = gflow.descend(flow, u0, eta, steps=40)
        u, v, seen = u0, test_u0, [test_u0]
        for _ in range(40):
            u, v = u - eta * H @ (u - flow.targets), v - eta * H_test @ (u - flow.targets)
            seen.append(v)
        for row, k in enumerate((0, 1, 2, 7, 40)):
            assert relative(got.train[row], gd.ys[k]) <= 1e-13
            assert relative(got.test[row], seen[k]) <= 1e-13
        assert torch.equal(got.train[0], u0)


@pytest.mark.parametrize("share", [1e-12, 1e-6, 0.3, 0.5, 0.7, 1 - 1e-9])
@pytest.mark.parametrize("k", [1, 10**3, 10**6 + 1, 10**9])
def test_powers_keep_their_digits_for_many_steps(share, k):
    """Against the same powers in 60 digits, for eigenvalues that are exact."""
    lam = torch.tensor([1.0, 0.25], dtype=torch.float64)
    eta = 2 * share
    power, moved = descent_factors(lam, eta, torch.tensor([k]))
    with decimal.localcontext(prec=60, Emin=-(10**12), Emax=10**12):
        for i, value in enumerate(lam.tolist()):
            z = decimal.Decimal(eta) * decimal.Decimal(value)
            exact = (1 - z) ** k
            assert abs(float(exact) - float(power[0, i])) <= 1e-14
            want = float((1 - exact) / decimal.Decimal(value))
            assert float(moved[0, i]) == pytest.approx(want, rel=1e-14)


def test_unstable_descent_is_flagged_with_the_limit():
    flow = KernelFlow(
        torch.diag(times(4.0, 1.0)), torch.ones(2).double(), torch.ones(1, 2).double()
    )
    u0 = torch.zeros(2).double()
    with pytest.warns(RuntimeWarning, match=r"step_size 0.6 is not below 2/λ_max = 0.5"):
        got = flow.exact_descent([3], u0, 0.6)
    assert relative(got.train, gflow.descend(flow, u0, 0.6, 3).ys[3:]) <= 1e-14
    with pytest.raises(InputError, match=r"2/λ_max = 0.5, and descent overflows by step 10000"):
        flow.exact_descent([10000], u0, 0.6)
    for H, limit in ((torch.zeros(2, 2), float("inf")), (torch.eye(2), 2.0)):
        assert KernelFlow(H, torch.ones(2)).stability_limit == limit


# -- what is learned, and when ------------------------------------------------------------------


def test_learning_times_energies_and_dimension():
    lam = times(0.0, 0.5, 2.0, 8.0)
    V = torch.linalg.qr(randn(4, 4))[0]
    H = V @ torch.diag(lam) @ V.mT
    weights = times(1.0, 2.0, 3.0, 4.0)
    flow = KernelFlow(0.5 * (H + H.mT), V @ weights)
    u0 = torch.zeros(4).double()
    assert relative(flow.learning_times[:3], times(0.125, 0.5, 2.0)) <= 1e-14
    assert flow.learning_times[3] == float("inf")
    assert relative(flow.target_energy(u0), times(16.0, 9.0, 4.0, 1.0) / 30) <= 1e-14
    assert not flow.target_energy(flow.targets).any()
    ts = times(0.0, 0.3, 5.0)
    want = torch.stack(
        [torch.trace(H @ torch.linalg.inv(H + torch.eye(4).double() / t)) for t in ts[1:]]
    )
    assert relative(flow.effective_dimension(ts)[1:], want) <= 1e-13
    assert flow.effective_dimension([0.0]) == 0
    many = KernelFlow(flow.H, torch.stack([V @ weights, V @ weights.flip(0)], dim=1))
    both = times(17.0, 13.0, 13.0, 17.0) / 60
    assert relative(many.target_energy(torch.zeros(4, 2).double()), both) <= 1e-14


def test_slack_of_the_bound():
    flow = KernelFlow(gram(5, 8), randn(5, seed=1))
    ts, u0 = times(0.0, 0.5, 2.0, 10.0), randn(5, seed=2)
    slack = flow.bound_slack(ts, flow.exact(ts, u0), u0)
    assert abs(float(slack[0])) <= 1e-14
    assert (slack[1:] > 0).all()
    along = flow.targets + torch.linalg.eigh(flow.H)[1][:, 0]
    assert flow.bound_slack(ts, flow.exact(ts, along), along).abs().max() <= 1e-13


# -- hard cases: right, or one clear line ----------------------------------------------------------


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


def test_targets_and_kernels_of_another_precision_are_told_so():
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
