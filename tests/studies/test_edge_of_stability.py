"""Where descent leaves the flow, on a valley in closed form and on digits."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import CentralFlow, FactorFlow, KernelFlow
from gflow.flows.sharpness import sharpness
from gflow.scenario import validate
from gflow.studies.central_path import central_path
from gflow.studies.edge_of_stability import edge_of_stability
from gflow.studies.oscillation import moving_mean, oscillating_descent
from tests.helpers import randn, relative
from tests.valleys import EDGE, STEP, eigenvalues, valley

START, GOAL = (90.0, 70.0), (104.0, 90.0)
ARRIVAL = math.log(14 / 4)  # of the flow's eigenvalue at 2/η


@functools.cache
def study():
    flow, y0 = valley(START, GOAL, y=1e-3)
    return edge_of_stability(flow, y0, 20.0, [STEP, STEP / 2], smoothing=2.0, points=200)


@functools.cache
def of_digits():
    keys = {"samples": 100, "width": 24, "depth": 4, "t_end": 170.0, "step_sizes": (0.24, 0.19)}
    made = validate({"setting": "edge-of-stability", "data": "digits"} | keys, "a test")
    setup = made.setup()
    # The window holds a few of the bursts in which descent oscillates.
    options = {"smoothing": 30.0, "points": 60, "rtol": 1e-5, "atol": 1e-8}
    return edge_of_stability(setup.flow, setup.y0, made.t_end, made.step_sizes, **options)


# -- descent, step by step ------------------------------------------------------------


def test_oscillating_descent_is_descent():
    flow, y0 = FactorFlow.example()
    steps = [0, 1, 4, 9]
    found, gd = oscillating_descent(flow, y0, 0.05, steps), gflow.descend(flow, y0, 0.05, 9)
    assert torch.equal(found.descent.ys, gd.ys[steps])
    assert relative(found.losses, gd.losses) <= 1e-14
    assert found.step_ts.tolist() == pytest.approx(gd.ts.tolist())
    for k, value in zip(steps, found.sharpness, strict=True):
        top = sharpness(flow, gd.ys[k], tol=1e-9).values
        assert float(value) == pytest.approx(float(top), rel=5e-3)


def bowl():
    """½(4θ_1² + θ_2²) from (1, 1)."""
    module = torch.nn.Linear(2, 1, bias=False).double()
    X = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    criterion = lambda u, y: 0.5 * (u - y).square().sum()  # noqa: E731
    flow = gflow.NetworkFlow(module, criterion, X, torch.zeros(2, 1).double())
    return flow, torch.ones(2, dtype=torch.float64)


def test_oscillation_is_what_alternates():
    # θ_k = q^k·θ_0 along each axis: δ_k = θ_k(2 − q − 1/q)/4.
    flow, y0 = bowl()
    found = oscillating_descent(flow, y0, 0.48, [0, 3, 4, 10])
    q = 1 - 0.48 * torch.tensor([4.0, 1.0], dtype=torch.float64)
    states = q ** torch.arange(11)[:, None]
    delta = (states * (2 - q - 1 / q) / 4)[1:-1]
    assert relative(found.variances[1:-1], delta.square().sum(1)) <= 1e-12
    sign = float(torch.sign(found.oscillation[1] * delta[0, 0]))
    assert relative(sign * found.oscillation[1:-1], delta[:, 0]) <= 1e-6
    assert found.oscillation[[0, -1]].isnan().all()
    assert (found.oscillation[1:-2] * found.oscillation[2:-1] < 0).all()


def test_oscillating_descent_ends_where_descent_diverges():
    flow, y0 = bowl()
    found = oscillating_descent(flow, y0, 0.6, [0, 2, 10, 100, 200])
    assert 10 <= found.descent.diverged_at < 100
    assert found.descent.steps.tolist() == [0, 2, 10]
    assert torch.isfinite(found.descent.ys).all()
    assert len(found.sharpness) == len(found.descent.steps)
    assert len(found.losses) == len(found.variances) == len(found.step_ts)


def test_moving_mean_is_the_mean_of_the_window():
    values = randn(30)
    values[0] = values[-1] = torch.nan
    found = moving_mean(values, 4).numpy()
    for k in range(1, 29):
        reach = min(4, k, 29 - k)
        window = values[k - reach : k + reach + 1].numpy()
        assert found[k] == pytest.approx(np.nanmean(window), abs=1e-14)
    assert np.isnan(found[[0, -1]]).all()


# -- the central path -------------------------------------------------------------------


def test_central_path_is_of_first_order():
    flow, y0 = valley((80.0, 70.0), (150.0, 120.0))
    central = CentralFlow(flow, STEP, rate=20.0)
    ts = [0.0, 0.3, 0.6]
    truth = gflow.integrate(central, y0, ts, "dopri5", 1e-10, 1e-10).ys
    errors = []
    for step in (0.02, 0.01, 0.005):
        path = central_path(central, y0, ts, step)
        errors.append(float((path.ys - truth).norm()))
    assert errors[-1] < 1e-2 * float(truth.norm())
    assert all(1.7 <= a / b <= 2.4 for a, b in itertools.pairwise(errors)), errors


def test_central_path_reports_what_the_flow_says_at_its_states():
    flow, y0 = valley((80.0, 70.0), (150.0, 120.0))
    central = CentralFlow(flow, STEP)
    path = central_path(central, y0, [0.0, 0.5, 2.0])
    there = central.observables(path.ys)
    assert relative(path.losses, there["loss"]) <= 1e-14
    assert relative(path.variances, there["variance"]) <= 1e-12
    assert relative(path.averaged_losses, there["averaged_loss"]) <= 1e-12
    assert path.ranks.tolist() == [0, 1, 2]
    assert relative(path.sharpness, eigenvalues(path.ys).amax(1)) <= 1e-12


@pytest.mark.parametrize(
    ("change", "say"),
    [
        (
            {"y0": valley((101.0, 70.0))[1]},
            "sharpness at the start must be below the edge, 2/η = 100, got",
        ),
        ({"ts": [0.0, 1.0, 1.0]}, "ts must be at least one time, strictly increasing"),
        ({"ts": []}, "ts must be at least one time"),
        ({"step": 1.0}, "step must be positive and at most 1/rate = 0.04, got 1.0"),
        ({"y0": torch.stack([valley()[1]] * 2)}, "a central path takes one start"),
    ],
)
def test_central_path_refuses(change, say):
    flow, y0 = valley()
    good = {"flow": CentralFlow(flow, STEP), "y0": y0, "ts": [0.0, 1.0]}
    with pytest.raises(InputError, match=say):
        central_path(**(good | change))


# -- the study ----------------------------------------------------------------------------


def test_crossing_is_when_the_sharpness_of_the_flow_is_at_the_edge():
    edge, finer = study().edges
    assert edge.step_size == STEP
    assert edge.crossing == pytest.approx(ARRIVAL, abs=2e-3)
    assert finer.crossing is None
    assert finer.central is None
    assert math.isnan(finer.central_error)
    assert math.isnan(finer.after(finer.relative_gap))
    exact = 104 - 14 * torch.exp(-study().trajectory.ts)
    assert relative(study().sharpness, exact) <= 1e-4


def test_after_the_crossing_descent_stays_at_the_edge_and_follows_the_central_flow():
    edge = study().edges[0]
    assert edge.before(edge.relative_gap) < 1e-2 < edge.after(edge.relative_gap)
    assert float(edge.descent.sharpness[-1]) == pytest.approx(EDGE, rel=1e-2)
    half = len(edge.descent.losses) // 2
    assert float(edge.smooth_variances[half:-50].mean()) == pytest.approx(8.0, rel=0.05)
    assert float(edge.central.variances[-1]) == pytest.approx(8.0, rel=1e-6)
    assert edge.settled > 10
    assert edge.descent_crossing == pytest.approx(ARRIVAL, abs=0.05)


def test_relative_gap_is_relative_to_the_distance_travelled_by_the_crossing():
    result = study()
    edge, path = result.edges[0], result.trajectory
    last = path.ys[path.ts <= edge.crossing][-1]
    far = (last - path.ys[0]).norm()
    gd = gflow.descend(path.flow, path.ys[0], STEP, 100)
    at = int((edge.gap.ts - gd.ts[100]).abs().argmin())
    row = int((path.ts - gd.ts[100]).abs().argmin())
    apart = (path.ys[row] - gd.ys[-1]).norm() / far
    assert float(edge.relative_parameter_gap[at]) == pytest.approx(float(apart), rel=1e-9)


def test_on_digits_descent_leaves_at_the_edge_and_the_central_flow_follows_its_average():
    result = of_digits()
    for edge in result.edges:
        limit = 2 / edge.step_size
        assert edge.crossing is not None
        assert float(result.sharpness.max()) > limit
        assert edge.settled > 10
        assert edge.before(edge.relative_gap) < 1e-2
        assert edge.after(edge.relative_gap) > 3 * edge.before(edge.relative_gap)
        assert edge.central_error < 0.1
        assert float(edge.central.sharpness.max()) <= limit * 1.01


def test_a_start_beyond_the_edge_has_no_central_flow():
    flow, y0 = valley(START, GOAL, y=1e-6)
    (edge,) = edge_of_stability(flow, y0, 1.0, [2 / 85], points=10).edges
    assert edge.crossing == 0.0
    assert edge.central is None
    assert edge.before(edge.relative_gap) == 0.0
    assert torch.isfinite(edge.relative_gap).all()
    assert 0 < edge.after(edge.relative_gap) < math.inf


def test_default_step_sizes_have_edges_that_the_flow_passes():
    flow, y0 = valley(START, GOAL)
    result = edge_of_stability(flow, y0, 4.0, points=20)
    # The eigenvalue goes from 90 to 104 − 14e^{−4}: 1/2, 2/3 and 5/6 of the way.
    highest = 104 - 14 * math.exp(-4)
    for edge, share in zip(result.edges, (1 / 2, 2 / 3, 5 / 6), strict=True):
        assert edge.step_size == pytest.approx(2 / (90 + share * (highest - 90)), rel=5e-3)
        assert edge.crossing is not None


@pytest.mark.parametrize(
    ("change", "say"),
    [
        ({"flow": KernelFlow.example()[0]}, "the edge of stability needs a flow of parameters"),
        ({"step_sizes": [0.1, -0.1]}, "step_sizes must be positive numbers"),
        ({"step_sizes": []}, "step_sizes must be positive numbers"),
        ({"smoothing": 30.0}, "smoothing must be positive and at most t_end = 20, got 30"),
        ({"t_end": 0.0}, "t_end must be a positive number, got 0"),
        ({"y0": torch.stack([valley()[1]] * 2)}, "a study takes one start, got an ensemble"),
    ],
)
def test_refuses(change, say):
    flow, y0 = valley()
    good = {"flow": flow, "y0": y0, "t_end": 20.0, "step_sizes": [STEP]}
    with pytest.raises(InputError, match=say):
        edge_of_stability(**(good | change))
