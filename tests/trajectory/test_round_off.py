"""Modes with eigenvalues near round-off of the largest: right where products are, else reported."""

import math
import warnings

import pytest
import torch

import gflow
from gflow.trajectory.round_off import velocity_round_off
from tests.helpers import randn, times

LEARNED = 1 - math.exp(-1)  # at t = 1/λ


def spectrum(n, least):
    lam = torch.ones(n, dtype=torch.float64)
    lam[0], lam[n // 2 :] = least, 0.5
    return lam


def product(lam):
    return lambda v: lam * v if v.ndim == 1 else lam[:, None] * v


@pytest.mark.parametrize("least", [1e-14, 1e-12, 1e-11])
def test_a_diagonal_product_is_resolved_by_steps(least):
    flow = gflow.KernelFlow(product(spectrum(20, least)), torch.ones(20).double())
    path = gflow.integrate(flow, torch.zeros(20).double(), [0.0, 1 / least])
    assert float(path.ys[-1, 0]) == pytest.approx(LEARNED, abs=1e-6)
    assert path.certificate.holds
    assert path.stats.method == "bdf"
    assert "krylov loses the slowest modes to round-off" in path.stats.reason
    krylov = gflow.integrate(flow, torch.zeros(20).double(), [0.0, 1 / least], "krylov")
    assert any("round_off" in reason for reason in krylov.certificate.failures())


@pytest.mark.parametrize("n", [2, 60])
@pytest.mark.parametrize("least", [1e-300, 1e-16, 1e-13])
def test_a_diagonal_matrix_is_exact_however_small_its_entries(n, least):
    flow = gflow.KernelFlow(torch.diag(spectrum(n, least)), torch.ones(n).double())
    path = gflow.integrate(flow, torch.zeros(n).double(), [0.0, 1 / least])
    assert path.stats.method == "exact"
    assert float(path.ys[-1, 0]) == pytest.approx(LEARNED, rel=1e-12)
    assert path.certificate.holds
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow.predict([1 / least], torch.zeros(n).double())


@pytest.mark.parametrize("form", ["matrix", "product"])
def test_a_dense_kernel_beyond_round_off_is_reported(form):
    Q = torch.linalg.qr(randn(20, 20))[0]
    H = Q @ torch.diag(spectrum(20, 1e-15)) @ Q.mT
    H = (H + H.mT) / 2
    flow = gflow.KernelFlow(H if form == "matrix" else lambda v: H @ v, Q.sum(1))
    path = gflow.integrate(flow, torch.zeros(20).double(), [0.0, 1e15])
    assert any("round_off" in reason for reason in path.certificate.failures())
    with pytest.warns(RuntimeWarning, match="round-off of the smallest eigenvalues"):
        flow.predict([1e15], torch.zeros(20).double())
    early = gflow.integrate(flow, torch.zeros(20).double(), [0.0, 1e6])
    assert early.certificate.holds


def test_descent_beyond_round_off_is_reported():
    Q = torch.linalg.qr(randn(8, 8))[0]
    H = Q @ torch.diag(spectrum(8, 1e-15)) @ Q.mT
    flow = gflow.KernelFlow((H + H.mT) / 2, Q.sum(1))
    with pytest.warns(RuntimeWarning, match="round-off of the smallest eigenvalues"):
        flow.exact_descent([10**15], torch.zeros(8).double(), 0.5)


def test_a_singular_kernel_is_certified_at_usual_times():
    flow, u0 = gflow.KernelFlow.example()
    assert gflow.integrate(flow, u0, [0.0, 1e6]).certificate.holds
    assert gflow.integrate(flow, u0.expand(3, 5).clone(), [0.0, 1e6]).certificate.holds


def across(slow):
    """The flow of rates 1 − slow/2 and slow/2 along (1, 1) and (1, −1), which are exact."""
    H = 0.5 * torch.tensor([[1.0, 1 - slow], [1 - slow, 1.0]], dtype=torch.float64)
    return gflow.flow_from_loss(lambda y: 0.5 * (y - 1) @ H @ (y - 1))


@pytest.mark.parametrize("method", ["auto", "bdf"])
def test_a_slow_mode_across_the_coordinates_is_followed(method):
    slow = 2.0**-40
    path = gflow.integrate(across(slow), times(4.0, 2.0), [0.0, 2 / slow], method)
    truth = 1 + math.exp(-1) * times(1.0, -1.0)
    assert float((path.ys[-1] - truth).norm()) <= 1e-5
    assert path.certificate.holds


@pytest.mark.parametrize(("slow", "method"), [(-46, "tsit5"), (-46, "auto"), (-49, "auto")])
def test_a_slow_mode_that_round_off_hides_is_reported(slow, method):
    path = gflow.integrate(across(2.0**slow), times(4.0, 2.0), [0.0, 2.0 ** (1 - slow)], method)
    assert any("round_off" in reason for reason in path.certificate.failures())


def test_a_slow_mode_is_followed_without_second_derivatives():
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx, r):
            ctx.save_for_backward(r)
            return 0.5 * r.square().sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return g * ctx.saved_tensors[0]

    slow = 1e-9
    root = times(1.0, math.sqrt(slow))
    flow = gflow.flow_from_loss(lambda y: Half.apply(root * y))
    path = gflow.integrate(flow, times(1.0, 1.0), [0.0, 1 / slow], "bdf")
    assert float(path.ys[-1, 1]) == pytest.approx(math.exp(-1), abs=1e-5)


def test_a_gradient_near_the_unit_of_round_off_is_reported():
    """Of log(1 + e^−w) by σ(w) − 1, in steps of 1e-16 at a slope of 1e-14."""
    softplus = lambda w: torch.nn.functional.cross_entropy(  # noqa: E731
        torch.cat([w, 0 * w])[None], torch.zeros(1, dtype=torch.long)
    )
    flow = gflow.flow_from_loss(softplus, shape=1)
    ys = torch.tensor([[0.0], [30.0], [32.0]], dtype=torch.float64)
    assert velocity_round_off(flow, [0.0, 1e13, 1e14], ys, 1e-8) > 1e-6
    assert velocity_round_off(flow, [0.0, 1e4, 1e5], ys / 3, 1e-8) < 1e-8
