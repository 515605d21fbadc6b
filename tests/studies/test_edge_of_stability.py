"""Where descent leaves the flow, on a valley in closed form and on digits."""

import functools
import math

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import KernelFlow
from gflow.scenario import validate
from gflow.studies.edge_of_stability import edge_of_stability
from tests.helpers import relative
from tests.valleys import EDGE, STEP, valley

START, GOAL = (90.0, 70.0), (104.0, 90.0)
ARRIVAL = math.log(14 / 4)  # of the flow's eigenvalue at 2/η


@functools.cache
def study(t_end=12.0, sizes=(STEP, STEP / 2), points=120):
    flow, y0 = valley(START, GOAL, y=1e-3)
    return edge_of_stability(flow, y0, t_end, sizes, smoothing=2.0, points=points)


@functools.cache
def of_digits():
    keys = {"samples": 100, "width": 24, "depth": 4, "t_end": 130.0, "step_sizes": (0.24,)}
    made = validate({"setting": "edge-of-stability", "data": "digits"} | keys, "a test")
    setup = made.setup()
    # The window holds a few of the bursts in which descent oscillates.
    options = {"smoothing": 30.0, "points": 45, "rtol": 1e-5, "atol": 1e-8}
    return edge_of_stability(setup.flow, setup.y0, made.t_end, made.step_sizes, **options)


@pytest.mark.slow
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


@pytest.mark.slow
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
    result = study(4.0, (STEP,), 30)
    edge, path = result.edges[0], result.trajectory
    last = path.ys[path.ts <= edge.crossing][-1]
    far = (last - path.ys[0]).norm()
    gd = gflow.descend(path.flow, path.ys[0], STEP, 100)
    at = int((edge.gap.ts - gd.ts[100]).abs().argmin())
    row = int((path.ts - gd.ts[100]).abs().argmin())
    apart = (path.ys[row] - gd.ys[-1]).norm() / far
    assert float(edge.relative_parameter_gap[at]) == pytest.approx(float(apart), rel=1e-9)


@pytest.mark.slow
def test_on_digits_descent_leaves_the_flow_at_the_edge_and_the_central_flow_follows_its_average():
    result = of_digits()
    (edge,) = result.edges
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


@pytest.mark.slow
def test_the_flow_crosses_the_edges_of_the_default_step_sizes():
    flow, y0 = valley(START, GOAL)
    result = edge_of_stability(flow, y0, 4.0, points=20)
    # The eigenvalue goes from 90 to 104 − 14e^{−4}: 1/2, 2/3 and 5/6 of the way.
    highest = 104 - 14 * math.exp(-4)
    for edge, share in zip(result.edges, (1 / 2, 2 / 3, 5 / 6), strict=True):
        assert edge.step_size == pytest.approx(2 / (90 + share * (highest - 90)), rel=5e-3)
        assert edge.crossing is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flow": KernelFlow.example()[0]}, "the edge of stability needs a flow of parameters"),
        ({"step_sizes": [0.1, -0.1]}, "each of step_sizes must be a positive number"),
        ({"step_sizes": []}, "step_sizes must hold at least one number"),
        ({"smoothing": 30.0}, "smoothing must be positive and at most t_end = 20, got 30"),
        ({"t_end": 0.0}, "t_end must be a positive number, got 0"),
        ({"y0": torch.stack([valley()[1]] * 2)}, "a study takes one start, got an ensemble"),
    ],
)
def test_input_errors(change, message):
    flow, y0 = valley()
    good = {"flow": flow, "y0": y0, "t_end": 20.0, "step_sizes": [STEP]}
    with pytest.raises(InputError, match=message):
        edge_of_stability(**(good | change))
