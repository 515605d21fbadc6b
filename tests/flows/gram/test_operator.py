"""A kernel matrix given by its entries or by its products."""

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import KernelFlow
from tests.helpers import gram, randn


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
def test_products_are_tested_on_two_vectors(H, message):
    with pytest.raises(InputError, match=message):
        KernelFlow(H, randn(4))


def test_spectral_radius_without_decomposition():
    x = torch.linspace(0.0, 1.0, 300, dtype=torch.float64)
    H = torch.exp(-4 * (x[:, None] - x).abs())
    H[:100] *= 0.2  # unequal row sums: the largest is a poor bound
    H[:, :100] *= 0.2
    top = float(torch.linalg.eigvalsh(H)[-1])
    flow = KernelFlow(H, x)
    bound = flow.spectral_radius(x)
    assert not flow.invariants(x)
    assert top <= bound * (1 + 1e-14)
    assert bound <= 1.1 * top
    assert flow.eigenvalues[-1] == flow.spectral_radius(x)  # exact once the eigenvalues are known
    signs = torch.where(torch.arange(300) % 2 == 0, 1.0, -1.0).double()
    assert KernelFlow(signs[:, None] * H * signs, x).spectral_radius(x) is None or (
        top <= KernelFlow(signs[:, None] * H * signs, x).spectral_radius(x) <= 1.1 * top
    )
    mixed = KernelFlow(gram(50, 50), randn(50))
    bound = mixed.spectral_radius(randn(50))
    assert bound is None or bound >= float(torch.linalg.eigvalsh(mixed.H)[-1])
    assert KernelFlow(torch.zeros(3, 3), torch.zeros(3)).spectral_radius(torch.zeros(3)) == 0
    padded = torch.zeros(4, 4).double()
    padded[:2, :2] = 1.0
    assert KernelFlow(padded, randn(4)).spectral_radius(randn(4)) == pytest.approx(2.0, rel=1e-12)


def test_large_kernels_are_decomposed_only_on_request():
    n = 1001
    flow = KernelFlow(torch.eye(n, dtype=torch.float64), randn(n))
    start = torch.zeros(n, dtype=torch.float64)
    assert flow.closed_form(start) is None
    path = gflow.integrate(flow, start, [0.0, 0.1], "krylov")
    assert path.certificate.holds
    assert "eigh" not in vars(flow._operator)
    assert gflow.integrate(flow, start, [0.0, 0.1], "exact").certificate.holds
    assert flow.closed_form(start) == "eigendecomposition of H"
