"""Networks of growing width beside their kernel, each part against a separate computation."""

import math
import warnings

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import TwoLayerFlow
from gflow.kernels import two_layer_relu_gram
from gflow.studies.width import width_study
from gflow.studies.width_experiment import random_networks
from tests.helpers import randn, relative, slow_except

N, D = 8, 4
X = torch.nn.functional.normalize(randn(N, D), dim=1)
Y = torch.sign(randn(N, seed=3))
X_TEST = torch.nn.functional.normalize(randn(5, D, seed=8), dim=1)
Y_TEST = torch.sign(randn(5, seed=9))
H = two_layer_relu_gram(X)
OPTIONS = {"rtol": 1e-3, "atol": 1e-7, "points": 8}
LARGEST = float(torch.linalg.eigvalsh(H)[-1])


@pytest.fixture(scope="module")
def study():
    return width_study(X, Y, [64, 512, 2048], [0, 1, 2], 60, test=(X_TEST, Y_TEST), **OPTIONS)


def network(seed, width=64, targets=Y):
    flow, W = random_networks(X, targets, width, [seed])
    return TwoLayerFlow(X, targets, flow.signs[0]), W[0]


def test_the_study_has_its_shapes_times_and_defaults(study):
    saved = len(study.epochs)
    assert (study.epochs[0], study.epochs[-1]) == (0, 60)
    assert study.stability_limit == pytest.approx(2 / LARGEST, rel=1e-12)
    assert study.step_size == pytest.approx(0.5 / LARGEST, rel=1e-12)
    assert study.kernel_norm == pytest.approx(float(H.norm()), rel=1e-14)
    assert study.diverged_at == ((None,) * 3,) * 3
    for name, values in study.measured.items():
        lead = (3, saved) if name == "solver_error" else (3, 3, saved)
        assert values.shape == lead[: values.ndim], name
        assert torch.isfinite(values).all(), name
        assert (values >= 0).all(), name
    assert all(c.holds for row in study.certificates for c in row)


def test_network_and_kernel_start_together(study):
    for name in (
        "descent_distance",
        "flow_distance",
        "linear_distance",
        "frozen_distance",
        "kernel_drift",
        "parameter_distance",
        "test_distance",
    ):
        assert float(study.measured[name][..., 0].max()) <= 1e-13, name


def test_descent_is_that_of_explicit_steps(study):
    flow, W = network(seed=1)
    W0, u, v = W, flow.end_to_end(W), flow.outputs(W, X_TEST)
    to_test = two_layer_relu_gram(X_TEST, X)

    def value_at(name, k):
        return float(study.measured[name][0, 1, study.epochs.index(k)])

    for k in range(study.epochs[4] + 1):
        if k in study.epochs:
            test = flow.outputs(W, X_TEST)
            by_hand = {
                "descent_distance": (flow.end_to_end(W) - u).norm(),
                "kernel_drift": (flow.gram(W) - flow.gram(W0)).norm(),
                "parameter_distance": (W - W0).norm(),
                "test_distance": (test - v).norm() / 5**0.5,
                "test_disagreement": ((test > 0) != (v > 0)).double().mean(),
                "test_error": (torch.sign(test) != Y_TEST).double().mean(),
                "kernel_test_error": (torch.sign(v) != Y_TEST).double().mean(),
            }
            for name, value in by_hand.items():
                assert value_at(name, k) == pytest.approx(float(value), abs=1e-12), name
        W = W + study.step_size * flow(0.0, W)
        u, v = u - study.step_size * H @ (u - Y), v - study.step_size * to_test @ (u - Y)
    assert float(study.measured["kernel_error"][0, 1]) == pytest.approx(
        float((flow.gram(W0) - H).norm()), rel=1e-12
    )
    assert float(study.measured["parameter_norm"][0, 1]) == pytest.approx(float(W0.norm()))
    assert float(study.measured["sharpness"][0, 1]) == pytest.approx(
        float(torch.linalg.eigvalsh(flow.gram(W0))[-1]), rel=1e-12
    )


def test_flow_agrees_with_a_separate_solve(study):
    flow, W = network(seed=0)
    k = 4
    times = [0.0, study.epochs[k] * study.step_size]
    alone = gflow.integrate(flow, W, times, "rk4", step_size=0.005)
    u, u0 = flow.end_to_end(alone.ys[-1]), flow.end_to_end(W)
    decay = torch.linalg.matrix_exp(-times[1] * H)
    decay_at_start = torch.linalg.matrix_exp(-times[1] * flow.gram(W))
    limit, linear = Y + decay @ (u0 - Y), Y + decay_at_start @ (u0 - Y)
    error = float(study.measured["solver_error"][0, k])
    for name, value in {
        "flow_distance": (u - limit).norm(),
        "linear_distance": (u - linear).norm(),
        "frozen_distance": (linear - limit).norm(),
    }.items():
        measured = float(study.measured[name][0, 0, k])
        assert measured == pytest.approx(float(value), abs=2 * error + 1e-10), name
    kernel_loss = 0.5 * float((limit - Y).square().sum())
    assert float(study.measured["kernel_loss"][0, 0, k]) == pytest.approx(kernel_loss, rel=1e-9)
    assert float(study.measured["network_loss"][0, 0, k]) == pytest.approx(
        0.5 * float((u - Y).square().sum()), rel=1e-2
    )


def test_solvers_error_is_far_below_the_distances(study):
    error = study.measured["solver_error"].amax(-1)
    assert (error > 0).all()
    assert (error < study.measured["flow_distance"].amax((1, 2)) / 20).all()


def test_descent_follows_the_flow_for_small_steps():
    small = width_study(X, Y, [64], [0], 400, 0.02, estimate_error=False, **OPTIONS).measured
    assert relative(small["descent_distance"], small["flow_distance"]) < 0.03


def test_distances_fall_with_the_width_as_predicted(study):
    """Exactly −1/2 in the limit; three seeds and an eight-point kernel leave some room."""
    for name in ("descent_peak", "flow_peak", "linear_peak", "kernel_error", "kernel_drift"):
        assert study.slopes[name].slope == pytest.approx(-0.5, abs=0.2), name
    moved = study.measured["parameter_distance"][..., -1].median(dim=1).values
    assert float(moved.max() / moved.min()) < 1.5  # ‖W − W(0)‖ does not grow with the width


def test_distance_of_wide_networks_rises_then_falls(study):
    wide = study.measured["descent_distance"][-1]
    at = wide.argmax(dim=1)
    assert ((at > 0) & (at < len(study.epochs) - 1)).all()
    assert (wide[:, -1] < wide.amax(dim=1)).all()


def test_outputs_of_many_classes_follow_the_kernel_with_an_identity():
    y = torch.eye(3).double()[torch.arange(N) % 3] - 1 / 3
    test = (X_TEST, torch.eye(3).double()[torch.arange(5) % 3])
    study = width_study(X, y, [64, 1024], [0, 1], 12, test=test, **OPTIONS)
    flow, W = network(seed=1, width=64, targets=y)
    u = flow.end_to_end(W)
    full = torch.kron(H, torch.eye(3).double())
    assert study.kernel_norm == pytest.approx(float(full.norm()), rel=1e-12)
    error = float((flow.gram(W) - full).norm())
    assert float(study.measured["kernel_error"][0, 1]) == pytest.approx(error, rel=1e-12)
    for _ in range(12):
        W = W + study.step_size * flow(0.0, W)
        u = u - study.step_size * (full @ (u - y).flatten()).reshape(N, 3)
    distance = float((flow.end_to_end(W) - u).norm())
    assert float(study.measured["descent_distance"][0, 1, -1]) == pytest.approx(distance, rel=1e-9)
    wrong = float((flow.outputs(W, X_TEST).argmax(1) != torch.arange(5) % 3).double().mean())
    assert float(study.measured["test_error"][0, 1, -1]) == pytest.approx(wrong)


@pytest.mark.parametrize(
    "fault",
    slow_except(
        ["twins", "a zero row", "one point", "constant", "unnormalised", "zero targets"],
        "one point",
        "unnormalised",
        "zero targets",
    ),
)
def test_unusual_data_give_finite_numbers(fault):
    x, y = X, Y
    if fault == "twins":
        x, y = torch.cat([X, X[:1]]), torch.cat([Y, -Y[:1]])
    elif fault == "a zero row":
        x, y = torch.cat([X, 0 * X[:1]]), torch.cat([Y, Y[:1]])
    elif fault == "one point":
        x, y = X[:1], Y[:1]
    elif fault == "constant":
        y = torch.ones_like(Y)
    elif fault == "unnormalised":
        x = X * torch.linspace(0.1, 10, N).double()[:, None]
    else:
        y = 0 * Y
    study = width_study(x, y, [64, 256], [0, 1], 10, test=(X_TEST, Y_TEST), **OPTIONS)
    for name, values in study.measured.items():
        assert torch.isfinite(values).all(), name
    if fault == "a zero row":  # its output stays 0 in both
        assert float(study.measured["descent_distance"].max()) < 10


def test_one_width_and_one_seed_have_no_slope():
    study = width_study(X, Y, [16], [0], 3, **OPTIONS)
    assert set(study.slopes.values()) == {None}
    assert "test_error" not in study.measured


def test_divergence_warns_and_ends_the_distances():
    with pytest.warns(UserWarning, match=r"step size 20 is beyond 2/λ_max = .* of the kernel"):
        study = width_study(X, Y, [16], [0, 1], 10, 20.0, estimate_error=False, **OPTIONS)
    assert study.diverged_at == ((0, 0),)
    assert torch.isnan(study.measured["descent_distance"][..., 1:]).all()
    assert torch.isfinite(study.measured["flow_distance"]).all()


def test_a_step_between_the_limits_is_flagged_for_the_network():
    flow, W = random_networks(X, Y, 8, range(20))
    limits = 2 / torch.linalg.eigvalsh(flow.gram(W))[:, -1]
    seed = int(limits.argmin())
    step = 0.5 * (float(limits[seed]) + 2 / LARGEST)
    assert limits[seed] < step < 2 / LARGEST
    with pytest.warns(UserWarning, match="of a network at its start"):
        width_study(X, Y, [8], [seed], 2, step, estimate_error=False, **OPTIONS)


def test_stable_steps_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        width_study(X, Y, [64], [0], 2, estimate_error=False, **OPTIONS)


def test_error_is_estimated_on_request_only():
    study = width_study(X, Y, [16], [0], 1, estimate_error=False, **OPTIONS)
    assert "solver_error" not in study.measured


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": []}, "widths must hold at least one number"),
        ({"widths": [0]}, "each of widths must be a whole number of at least 1"),
        ({"seeds": []}, "seeds must hold at least one number"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"step_size": 0.0}, "step_size must be a positive number"),
        ({"step_size": math.nan}, "step_size must be a positive number"),
        ({"step_size": math.inf}, "step_size must be a positive number"),
        ({"inputs": 0 * X}, "the kernel must not be zero"),
        ({"targets": Y[:3]}, "targets must have shape"),
        ({"method": "exact"}, "no closed form"),
    ],
)
def test_input_errors(change, message):
    good = {"inputs": X, "targets": Y, "widths": [4], "seeds": [0], "epochs": 2}
    with pytest.raises(InputError, match=message):
        width_study(**(good | change))
