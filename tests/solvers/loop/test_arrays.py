"""The vector algebra of a lone small state is NumPy's: it computes what tensors do."""

import pytest
import torch

import gflow
from gflow.events import loss_reaches
from gflow.losses import LinearRegression, MatrixCompletion
from gflow.solvers.loop import system
from tests.helpers import alternate, randn, times, worst_relative
from tests.solvers.potentials import Potential

OWN = ["tsit5", "dop853", "rkc2", "rock4", "bdf", "auto"]


def completion(dtype=torch.float64):
    target = randn(6, 2, seed=1)
    mask = torch.ones(6, 6)
    mask[0, 3] = mask[3, 0] = 0
    flow = gflow.FactorFlow(MatrixCompletion((target @ target.mT).to(dtype), mask))
    return flow, 0.3 * randn(6, 6, seed=2).to(dtype)


def layers():
    loss = LinearRegression(randn(12, 3, seed=3), randn(12, 2, seed=4))
    flow = gflow.LayerwiseFlow(loss, [3, 4, 2])
    return flow, 0.5 * randn(20, seed=5)


def stiff():
    """A flow without an array form: its own velocity is called."""
    rates = times(0.1, 1.0, 300.0)
    flow = Potential(
        3, lambda y: (0.5 * rates * y**2 + 0.25 * y**4).sum(-1), lambda y: rates * y + y**3
    )
    return flow, times(1.0, -1.0, 1.0)


FLOWS = {"completion": completion, "stiff": stiff, "layers": layers}


def both(monkeypatch, flow, y0, ts, method, **options):
    """Solve with arrays and with tensors."""
    assert y0.numel() <= system._SMALL
    paths = [gflow.integrate(flow, y0, ts, method, **options)]
    monkeypatch.setattr(system, "_SMALL", 0)
    return [*paths, gflow.integrate(flow, y0, ts, method, **options)]


@pytest.mark.parametrize(("name", "method"), alternate(FLOWS, OWN))
def test_paths_agree(monkeypatch, name, method):
    flow, y0 = FLOWS[name]()
    arrays, tensors = both(monkeypatch, flow, y0, [0.0, 1.0, 4.0], method, rtol=1e-6, atol=1e-9)
    # At the edge of stability an explicit method amplifies round-off to its tolerance.
    assert worst_relative(arrays.ys, tensors.ys) <= (1e-6 if name == "stiff" else 1e-9)
    assert arrays.stats.accepted == pytest.approx(tensors.stats.accepted, abs=1)
    assert arrays.stats.rhs_evals == pytest.approx(tensors.stats.rhs_evals, rel=0.02, abs=2)
    assert arrays.certificate.holds
    assert tensors.certificate.holds


@pytest.mark.parametrize(
    ("method", "name"), alternate(["tsit5", "auto"], ["dense", "sharpness", "max_step", "until"])
)
def test_features_agree(monkeypatch, method, name):
    flow, y0 = completion()
    feature = {name: {"sharpness": 1, "max_step": 0.2}.get(name, True)}
    if "until" in feature:
        feature = {"until": loss_reaches(flow, 0.1 * float(flow.loss(y0)))}
    ts = [0.1 * i for i in range(41)]
    arrays, tensors = both(monkeypatch, flow, y0, ts, method, rtol=1e-7, **feature)
    assert worst_relative(arrays.ys, tensors.ys) <= 1e-8
    assert arrays.ts.tolist() == pytest.approx(tensors.ts.tolist(), rel=1e-8)


@pytest.mark.parametrize("method", OWN)
def test_single_precision_stays_single(method):
    flow, y0 = completion()
    single, start = completion(torch.float32)
    path = gflow.integrate(single, start, [0.0, 4.0], method, rtol=1e-4, atol=1e-6)
    right = gflow.integrate(flow, y0, [0.0, 4.0], "dop853", rtol=1e-9)
    assert path.ys.dtype == torch.float32
    assert worst_relative(path.ys.double(), right.ys) <= 1e-3
