import pytest
import torch

import gflow
from gflow.flows import EndToEndFlow, FactorFlow, KernelFlow, LayerwiseFlow, TwoLayerFlow
from gflow.flows.from_loss import LossFlow
from gflow.losses import LinearRegression, SquaredDistance
from gflow.trajectory import Certificate, certify, relative_error
from tests.helpers import altered, flow_classes, make_loss, randn, slow_except, times

BOUNDS = {
    "energy_residual": 1e-3,
    "loss_increase": 1e-5,
    "invariant_drift": 1e-3,
    "velocity_error": 1e-3,
    "error_estimate": 1e-3,
}


def certificate(**measured):
    values = {
        "energy_residual": 0.0,
        "loss_increase": 0.0,
        "invariant_drift": {"balance": 0.0},
        "velocity_error": 0.0,
        "error_estimate": None,
        "bounds": BOUNDS,
    }
    return Certificate(**(values | measured))


def test_clean_certificate_holds():
    clean = certificate()
    assert clean.holds
    assert clean.failures() == []
    assert "holds" in repr(clean)
    assert "DOES NOT HOLD" not in repr(clean)


@pytest.mark.parametrize(
    ("measured", "phrase"),
    [
        ({"energy_residual": 0.1}, "energy_residual 0.1 > 0.001"),
        ({"energy_residual": float("nan")}, "energy_residual nan"),
        ({"loss_increase": 1e-4}, "loss_increase 0.0001 > 1e-05"),
        ({"velocity_error": 2.0}, "velocity_error 2 > 0.001"),
        ({"error_estimate": 0.5}, "error_estimate 0.5 > 0.001"),
        ({"invariant_drift": {"balance": 0.2}}, "drift of balance 0.2 > 0.001"),
        ({"invariant_drift": {"a": 0.0, "b": float("nan")}}, "drift of b nan"),
    ],
)
def test_one_bad_measurement_is_a_failure(measured, phrase):
    broken = certificate(**measured)
    assert not broken.holds
    assert any(phrase in failure for failure in broken.failures())
    assert "DOES NOT HOLD" in repr(broken)


def numeric_path(rtol=1e-8):
    flow = LayerwiseFlow(make_loss("distance", 2, 3), [3, 3, 2])
    y0 = 0.6 * randn(15)
    return flow, gflow.integrate(flow, y0, [0.0, 0.5, 1.0, 2.0], "dopri5", rtol, 1e-3 * rtol)


def recertified(flow, ys, **changes):
    loss = flow.loss(ys)
    arguments = {
        "rtol": 1e-6,
        "resolution": 0.0,
        "dissipated": loss[0] - loss[-1],
        "largest_rise": torch.zeros_like(loss[0]),
        "error_estimate": None,
    }
    return certify(flow, ys, **(arguments | changes))


def test_measurements_are_their_definitions():
    flow, path = numeric_path()
    loss = flow.loss(path.ys)
    drop = loss[0] - loss[-1]
    assert recertified(flow, path.ys).energy_residual == 0
    missing = recertified(flow, path.ys, dissipated=drop - 0.1 * loss[0])
    assert missing.energy_residual == pytest.approx(0.1, rel=1e-12)
    rise = recertified(flow, path.ys, largest_rise=0.2 * loss[0])
    assert rise.loss_increase == pytest.approx(0.2, rel=1e-14)
    moved = path.ys.clone()
    moved[-1] *= 1.1
    D = flow.invariants(moved)["balancedness_1"]
    scale = max(float(flow.invariant_scales(y)["balancedness_1"]) for y in moved)
    drift = recertified(flow, moved).invariant_drift["balancedness_1"]
    assert drift == pytest.approx(float((D - D[0]).flatten(1).norm(dim=1).max()) / scale, rel=1e-12)


@pytest.mark.parametrize("factor", [-1.0, 0.5, 1.01, 2.0])
def test_velocity_error_is_the_relative_error_of_the_right_hand_side(factor):
    flow, path = numeric_path()
    wrong = altered(flow, lambda inner, t, y: factor * inner(t, y))
    measured = recertified(wrong, path.ys, rtol=1e-14).velocity_error
    assert measured == pytest.approx(abs(factor - 1), rel=1e-9)


def test_energy_residual_reveals_a_wrong_speed():
    flow, path = numeric_path()
    wrong = altered(flow, lambda inner, t, y: 2 * inner(t, y))
    fast = gflow.integrate(wrong, path.ys[0], path.ts, "dopri5", 1e-8, 1e-11)
    # dφ/dt = −2|∇φ|² against the measured −4|∇φ|²: twice the drop is dissipated.
    drop = float((fast.losses[0] - fast.losses[-1]) / fast.losses[0])
    assert fast.certificate.energy_residual == pytest.approx(drop, rel=1e-6)


def test_bounds_follow_the_tolerance_and_the_dtype():
    flow, path = numeric_path()
    assert recertified(flow, path.ys, rtol=1e-6).bounds["energy_residual"] == pytest.approx(1e-3)
    assert recertified(flow, path.ys, rtol=1e-1).bounds["energy_residual"] == 0.05
    assert recertified(flow, path.ys, rtol=1e-15).bounds["energy_residual"] < 1e-11
    single = SquaredDistance(make_loss("distance", 2, 3).target.float())
    bounds = recertified(LayerwiseFlow(single, [3, 3, 2]), path.ys.float(), rtol=1e-6).bounds
    assert bounds["invariant_drift"] > 1e-3


def test_relative_error():
    flow = FactorFlow(make_loss("distance", 2, 2))
    truth = torch.stack([torch.eye(2), 3 * torch.eye(2)]).double()
    ys = truth.clone()
    ys[0, 0, 0] += 0.03 * 2**0.5
    assert relative_error(flow, ys, truth) == pytest.approx(0.01, rel=1e-12)
    assert relative_error(flow, truth * float("nan"), truth) == float("inf")
    assert relative_error(flow, truth * 0, truth * 0) == 0


def test_error_estimate_is_of_the_size_of_the_error():
    flow = LayerwiseFlow(make_loss("completion", 3, 3), [3, 3, 3, 3])
    y0 = 0.7 * randn(27)
    ts = [0.0, 1.0, 5.0]
    truth = gflow.integrate(flow, y0, ts, "dopri8", 1e-13, 1e-16)
    for rtol in (1e-4, 1e-6, 1e-8):
        path = gflow.integrate(flow, y0, ts, "dopri5", rtol, 1e-3 * rtol, estimate_error=True)
        error = relative_error(flow, path.ys, truth.ys)
        assert 0.5 * error <= path.certificate.error_estimate <= 2 * error
        plain = gflow.integrate(flow, y0, ts, "dopri5", rtol, 1e-3 * rtol)
        assert plain.certificate.error_estimate is None
        assert torch.equal(plain.ys, path.ys)


def test_error_estimate_against_the_closed_form_is_the_error():
    flow = KernelFlow(torch.diag(times(1.0, 10.0)), times(1.0, -1.0))
    u0 = torch.zeros(2).double()
    path = gflow.integrate(flow, u0, [0.0, 0.3, 1.0], "bosh3", 1e-5, 1e-8)
    error = relative_error(flow, path.ys, flow.exact(path.ts, u0))
    assert path.certificate.error_estimate == error
    assert 1e-9 < error < 1e-4


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("size", [1e-2, 1e-6])
def test_energy_of_the_exact_path(depth, size):
    """Modes leave a small start late, and then fast: the quadrature must resolve this."""
    M = torch.diag(times(3.0, 1.0, 0.2))
    flow = EndToEndFlow(SquaredDistance(M), depth)
    for T in (1e-3, 1.0, 100.0, 1e4, 1e6):
        path = gflow.integrate(flow, size * torch.eye(3).double(), [0.0, T], atol=1e-12)
        assert path.stats.method == "exact"
        assert path.certificate.energy_residual <= 1e-7
        assert path.certificate.holds, path.certificate


@pytest.mark.parametrize(
    "kind",
    slow_except(flow_classes(), EndToEndFlow, FactorFlow, KernelFlow, LossFlow, TwoLayerFlow),
    ids=lambda c: c.__name__,
)
def test_energy_residual_shrinks_with_the_tolerance(kind):
    flow, y0 = kind.example()
    residuals = [
        gflow.integrate(
            flow, y0, [0.0, 2.0], "dopri5", rtol, 1e-3 * rtol
        ).certificate.energy_residual
        for rtol in (1e-3, 1e-6, 1e-9)
    ]
    assert residuals[1] <= 0.1 * residuals[0] + 1e-12
    assert residuals[2] <= 1e-7


@pytest.mark.parametrize("method", ["dopri5", "rkc2", "scipy:LSODA"])
def test_certificate_holds_at_a_minimum(method):
    X, W = randn(20, 3), randn(2, 3)
    flow = EndToEndFlow(LinearRegression(X, X @ W.mT), 3)
    path = gflow.integrate(flow, W, [0.0, 1.0, 10.0], method)
    assert path.certificate.holds, path.certificate


class Unchecked(FactorFlow):
    """A flow whose checks behind the solve cannot run."""

    def reference(self, y):
        raise RuntimeError("derivative for aten::thing is not implemented\nand more")

    def invariants(self, y):
        if y.ndim > 2 and not torch.equal(y[0], y[-1]):  # not when the start is checked
            raise TypeError("no invariants here")
        return {}


def test_a_path_is_kept_where_a_check_cannot_run():
    flow, U = FactorFlow.example()
    right = gflow.integrate(flow, U, [0.0, 1.0])
    path = gflow.integrate(Unchecked(flow._loss), U, [0.0, 1.0])
    assert torch.allclose(path.ys, right.ys, rtol=0, atol=1e-12)
    assert path.certificate.holds
    assert path.certificate.velocity_error is None
    assert path.certificate.not_run == (
        "invariant_drift (TypeError: no invariants here)",
        "velocity_error (RuntimeError: derivative for aten::thing is not implemented)",
    )
    assert "not run: invariant_drift (TypeError" in repr(path.certificate)


def test_nothing_but_the_loss_is_no_evidence():
    flow, U = FactorFlow.example()
    measured = recertified(Unchecked(flow._loss), torch.stack([U, 0.9 * U]), dissipated=None)
    assert not measured.holds


def test_an_error_estimate_that_cannot_be_computed_does_not_lose_the_path(monkeypatch):
    from gflow.solvers import solve

    def out_of_memory(*args, **options):
        raise MemoryError("no memory for the finer solve")

    monkeypatch.setattr(solve, "finer_states", out_of_memory)
    flow, theta = gflow.NetworkFlow.example()
    path = gflow.integrate(flow, theta, [0.0, 1.0], estimate_error=True)
    assert path.certificate.holds
    assert path.certificate.error_estimate is None
    assert "error_estimate (MemoryError" in path.certificate.not_run[0]
