"""Networks of growing width beside their kernel, each part against a separate computation."""

import math

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import KernelFlow, NetworkFlow
from gflow.kernels import two_layer_relu_gram
from gflow.studies.width import TwoLayerReLU, half_squared_error, kernel_descent, width_study
from tests.helpers import randn, relative

N, D = 8, 4
X = torch.nn.functional.normalize(randn(N, D), dim=1)
Y = torch.sign(randn(N, seed=3))
OPTIONS = {"method": "dopri5", "rtol": 1e-3, "atol": 1e-7, "points": 8}


@pytest.fixture(scope="module")
def study():
    return width_study(X, Y, [32, 2048], [0, 1], 60, **OPTIONS)


@pytest.mark.parametrize("step_size", [0.1, 0.7])
def test_kernel_descent_by_powers_is_k_explicit_steps(step_size):
    H, u = two_layer_relu_gram(X), randn(N, seed=5)
    fast = kernel_descent(KernelFlow(H, Y), u, step_size, [0, 1, 2, 7])
    path = [u]
    for _ in range(7):
        path.append(path[-1] - step_size * (H @ (path[-1] - Y)))
    for k, found in zip([0, 1, 2, 7], fast, strict=True):
        assert relative(found, path[k]) <= 1e-13


def test_module_is_the_formula():
    module = TwoLayerReLU(D, 5, seed=2)
    by_hand = torch.zeros(N, dtype=torch.float64)
    for r in range(5):
        by_hand += module.a[r] * (X @ module.W[r]).clamp_min(0) / math.sqrt(5)
    assert relative(module(X).detach(), by_hand.detach()) <= 1e-14
    assert set(module.a.tolist()) <= {-1.0, 1.0}
    assert [name for name, _ in module.named_parameters()] == ["W"]
    assert torch.equal(module.W, TwoLayerReLU(D, 5, seed=2).W)
    assert not torch.equal(module.W, TwoLayerReLU(D, 5, seed=3).W)


def test_kernel_of_wide_modules_is_the_limit():
    def miss(width):
        module = TwoLayerReLU(D, width, seed=0)
        flow = NetworkFlow(module, half_squared_error, X, Y)
        rows = [torch.autograd.grad(module(X)[i], module.W)[0].flatten() for i in range(N)]
        J = torch.stack(rows)
        assert J.shape == (N, flow.pack().numel())
        return relative(J @ J.mT, two_layer_relu_gram(X))

    assert miss(100_000) < 0.02
    assert miss(100_000) < miss(100) / 5


def test_shapes_times_and_defaults(study):
    assert study.epochs[0] == 0
    assert study.epochs[-1] == 60
    saved = len(study.epochs)
    assert study.descent_distance.shape == (2, 2, saved)
    assert study.flow_distance.shape == study.network_loss.shape == (2, saved)
    largest = float(torch.linalg.eigvalsh(two_layer_relu_gram(X))[-1])
    assert study.stability_limit == pytest.approx(2 / largest, rel=1e-12)
    assert study.step_size == pytest.approx(1 / largest, rel=1e-12)
    assert study.diverged_at == ((None, None), (None, None))


def test_distances_start_at_zero(study):
    assert float(study.descent_distance[..., 0].abs().max()) <= 1e-13  # round-off of y + (u − y)
    assert float(study.flow_distance[:, 0].abs().max()) <= 1e-13


def test_peak_falls_with_the_width(study):
    peaks = study.descent_distance.amax(dim=2).median(dim=1).values
    assert peaks[1] < peaks[0] / 2
    assert study.flow_distance[1].max() < study.flow_distance[0].max() / 2


def test_distance_of_wide_networks_rises_then_falls(study):
    wide = study.descent_distance[1]
    at = wide.argmax(dim=1)
    assert ((at > 0) & (at < len(study.epochs) - 1)).all()
    assert (wide[:, -1] < wide.amax(dim=1) / 2).all()


def test_descent_distance_is_that_of_explicit_steps(study):
    module = TwoLayerReLU(D, 32, seed=1)
    H = two_layer_relu_gram(X)
    u = module(X).detach()
    for k in range(study.epochs[4] + 1):
        if k in study.epochs:
            found = study.descent_distance[0, 1, study.epochs.index(k)]
            assert float((module(X).detach() - u).norm() - found) == pytest.approx(0, abs=1e-12)
        (rate,) = torch.autograd.grad(half_squared_error(module(X), Y), module.W)
        with torch.no_grad():
            module.W -= study.step_size * rate
        u = u - study.step_size * (H @ (u - Y))


def test_network_is_the_flow_integrated_separately(study):
    flow = NetworkFlow(TwoLayerReLU(D, 32, seed=0), half_squared_error, X, Y)
    k = 4
    times = [0.0, study.epochs[k] * study.step_size]
    alone = gflow.integrate(flow, flow.pack(), times, "rk4", step_size=0.01)
    path = study.trajectories[0]
    assert float(path.ts[k]) == pytest.approx(times[1], rel=1e-12)
    u, v = flow.end_to_end(path.ys[k]), flow.end_to_end(alone.ys[-1])
    assert relative(u, v) <= 1e-2  # rtol 1e-3 of ‖θ‖
    kernel = KernelFlow(two_layer_relu_gram(X), Y)
    limit = kernel.exact(torch.tensor([times[1]], dtype=torch.float64), flow.end_to_end(path.ys[0]))
    assert float((u - limit[0]).norm()) == pytest.approx(float(study.flow_distance[0, k]), rel=1e-9)
    assert float(study.network_loss[0, k]) == pytest.approx(float(0.5 * (u - Y).square().sum()))
    assert float(study.kernel_loss[0, k]) == pytest.approx(
        float(0.5 * (limit - Y).square().sum()), rel=1e-9
    )


def test_divergence_is_told_and_distances_end_there():
    study = width_study(X, Y, [16], [0, 1], 60, 20.0, **OPTIONS)
    assert study.diverged_at == ((0, 0),)
    assert torch.isnan(study.descent_distance[..., -1]).all()
    assert torch.isfinite(study.descent_distance[..., :3]).all()
    assert torch.isfinite(study.flow_distance).all()


def test_error_is_estimated_when_asked():
    options = OPTIONS | {"points": 2}
    plain = width_study(X, Y, [16], [0], 1, **options)
    asked = width_study(X, Y, [16], [0], 1, estimate_error=True, **options)
    assert plain.trajectories[0].certificate.error_estimate is None
    assert asked.trajectories[0].certificate.error_estimate > 0


@pytest.mark.parametrize(
    ("change", "say"),
    [
        ({"widths": []}, "must be there and positive"),
        ({"widths": [0]}, "must be there and positive"),
        ({"seeds": []}, "must be there and positive"),
        ({"epochs": 0}, "must be there and positive"),
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"step_size": math.nan}, "step_size must be positive"),
        ({"inputs": 0 * X}, "the kernel of these inputs is zero"),
    ],
)
def test_refuses(change, say):
    good = {"inputs": X, "targets": Y, "widths": [4], "seeds": [0], "epochs": 2}
    with pytest.raises(InputError, match=say):
        width_study(**(good | change))
