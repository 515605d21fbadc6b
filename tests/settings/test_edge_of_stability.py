"""The edge-of-stability setting: its result, and the inputs that it refuses."""

import math

import numpy as np
import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.scenario import load_scenario, validate

SMALL = {"samples": 20, "width": 8, "depth": 2, "t_end": 60.0, "points": 20, "rtol": 1e-4}


def make(**keys):
    keys = {"setting": "edge-of-stability", "data": "digits", "step_sizes": (0.6, 0.05)} | keys
    return validate(SMALL | keys, "a test")


@pytest.fixture(scope="module")
def outcome():
    return make().run(lambda name, t_end: None)


def test_summary_has_the_crossings_of_the_sharpness(outcome):
    ds, (first, second) = outcome.dataset, outcome.summary["descent"]
    assert first["edge"] == 2 / 0.6
    above = int(np.argmax(ds["flow_sharpness"].values >= first["edge"]))
    assert ds["time"].values[above - 1] <= first["crossing"] <= ds["time"].values[above]
    assert first["crossing"] == float(ds["crossing"][0])
    assert second["crossing"] is None
    assert np.isnan(float(ds["crossing"][1]))
    assert math.isnan(second["gap_after"])
    assert outcome.summary["parameters"] == 8 * 65 + 8 * 9 + 10 * 9
    assert outcome.summary["certificate"]["holds"]


def test_sharpness_is_that_of_the_dense_hessian(outcome):
    ds, setup = outcome.dataset, make().setup()
    gd = gflow.descend(setup.flow, setup.y0, 0.05, 60)
    rows = ds["descent_time"].values[1]
    at = int(np.argmin(np.abs(rows - gd.ts[-1].item())))
    assert rows[at] == pytest.approx(float(gd.ts[-1]))
    H = torch.autograd.functional.hessian(setup.flow.loss, gd.ys[-1])
    top = float(torch.linalg.eigvalsh(H)[-1])
    assert float(ds["edge_sharpness"][1, at]) == pytest.approx(top, rel=1e-2)
    assert float(ds["step_loss"][1, 60]) == pytest.approx(float(gd.losses[-1]), rel=1e-12)


def test_central_flow_begins_at_the_crossing(outcome):
    ds, row = outcome.dataset, outcome.summary["descent"][0]
    times = ds["central_time"].values
    assert np.isnan(times[1]).all()
    assert times[0][0] <= row["crossing"] < times[0][1]
    limit = 2 / 0.6
    assert np.nanmax(ds["central_sharpness"].values) <= limit * 1.01
    later = np.isfinite(times[0])
    spread = ds["central_averaged_loss"].values - ds["central_loss"].values
    assert spread[0][later] == pytest.approx(ds["central_variance"].values[0][later] / 0.6)
    assert np.nanmax(spread) > 0


def test_the_default_path_crosses_the_edges_of_three_step_sizes():
    scenario = load_scenario("edge-of-stability")
    assert scenario.data == "digits"
    assert len(scenario.step_sizes) == 3
    assert scenario.setup().facts["samples"] == 300


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"time": "log"}, "edge-of-stability compares at equally spaced times, got log spacing"),
        ({"smoothing": 61.0}, "smoothing must be positive and at most t_end = 60, got 61"),
        ({"smoothing": 0.0}, "smoothing: input should be greater than 0"),
        ({"step_sizes": ()}, "step-sizes: tuple should have at least 1 item"),
    ],
)
def test_input_errors(keys, message):
    with pytest.raises(InputError, match=message):
        make(**keys).run(lambda name, t_end: None)
