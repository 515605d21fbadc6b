"""Predictions from products with the kernel matrix."""

from pathlib import Path

import pytest
import torch

from gflow.errors import InputError
from gflow.flows import KernelFlow
from tests.helpers import randn, relative, times, worst_relative


@pytest.mark.parametrize("shape", [(40,), (40, 3)])
@pytest.mark.parametrize("rank", [6, 40])
@pytest.mark.parametrize("given", ["tensors", "callables"])
def test_test_outputs_by_krylov(shape, rank, given):
    J = randn(45, rank)
    H, H_test = J[:40] @ J[:40].mT, J[40:] @ J[:40].mT
    y, u0 = randn(*shape, seed=1), randn(*shape, seed=2)
    test_u0 = randn(5, *shape[1:], seed=3)
    stored = KernelFlow(H, y, H_test)
    if given == "tensors":
        flow = KernelFlow(H, y, H_test)
    else:
        flow = KernelFlow(lambda v: H @ v, y, lambda v: H_test @ v)
    ts = times(0.0, 0.01, 0.3, 5.0, 1e6)
    for rtol in (1e-4, 1e-8):
        result = flow.predict(ts, u0, method="krylov", rtol=rtol).test
        expected = stored.predict(ts, u0, method="exact").test
        assert result.shape == expected.shape
        assert worst_relative(result[-1:], expected[-1:]) <= rtol
        assert float((result - expected).abs().max()) <= rtol * float(expected[-1].norm())
    moved = flow.predict(ts, u0, test_u0, method="krylov").test
    assert torch.equal(moved[0], test_u0)
    assert relative(moved[2], stored.predict(ts, u0, test_u0, method="exact").test[2]) <= 1e-7
    with pytest.raises(InputError, match="pass H_test"):
        KernelFlow(H, y).predict(ts, u0, test_u0, method="krylov")
    with pytest.raises(InputError, match="at least 0"):
        flow.predict(times(-1.0), u0, method="krylov")


def test_krylov_predictions_take_less_memory_than_the_matrix(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    from kernel_flow import LiveMemory

    n = 1100
    angle = torch.linspace(0.0, 1.0, n, dtype=torch.float64)[:, None]
    H, y = torch.exp(-(angle - angle.mT).abs()), torch.cos(angle * torch.arange(8))
    flow = KernelFlow(H, y, H[:50])
    with LiveMemory() as live:
        result = flow.predict(torch.linspace(0, 5, 20), 0 * y, method="krylov", rtol=1e-6)
    assert live.peak < H.nbytes
    assert relative(result.test, result.train[:, :50]) <= 1e-5
