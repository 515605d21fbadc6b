"""What networks are measured by, in the results of all scenarios of networks."""

import numpy as np
import pytest

from gflow.plots import figures
from gflow.scenario import validate
from tests.helpers import slow_except

SMALL = {"data": "synthetic", "samples": 12, "inputs": 3, "width": 4, "t_end": 2.0, "points": 5}
HELD_OUT = {"test_samples": 6, "measure": ("effective_ranks", "kernel_distance")}
SETTINGS = {
    "implicit-regularization": ("", "save", {"step_sizes": (0.2, 0.1, 0.05)}),
    "edge-of-stability": ("", "save", {"step_sizes": (0.2,)}),
    "continuous-vs-discrete": ("flow_", "time", {"step_sizes": (0.1,), "activation": "tanh"}),
}


@pytest.mark.parametrize(
    "setting", slow_except(SETTINGS, "edge-of-stability", "continuous-vs-discrete")
)
def test_flow_and_descent_are_measured_on_held_out_data(setting):
    prefix, descent_times, keys = SETTINGS[setting]
    scenario = validate({"setting": setting, **SMALL, **HELD_OUT, **keys}, "a test")
    result = scenario.run(lambda name, t_end: None)
    ds, setup = result.dataset, scenario.setup()
    for name in ("test_loss", "kernel_distance", "gradient_norm"):
        flow, descent = ds[f"{prefix}{name}"], ds[f"descent_{name}"]
        assert descent.dims[-1] == descent_times
        start = float(setup.flow.observables(setup.y0)[name])
        # The last of several networks is the scenario's own.
        np.testing.assert_allclose(flow.values[..., 0].flat[-1], start, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(descent.values[..., 0].flat[-1], start, rtol=1e-12, atol=1e-12)
        of = result.summary if prefix == "" else result.summary["networks"][-1]
        assert of[f"final_{name}"] == flow.values[..., -1].flat[-1]
    assert any(name.startswith("held_out") for name in figures(ds))


@pytest.mark.slow
def test_central_flows_are_measured_beside_their_descent():
    keys = {"samples": 30, "width": 8, "depth": 2, "t_end": 60.0, "points": 20, "data": "digits"}
    scenario = validate(
        {"setting": "edge-of-stability", **keys, "step_sizes": (0.6,), "test_samples": 20}, "a test"
    )
    ds = scenario.run(lambda name, t_end: None).dataset
    (central,) = ds["central_test_loss"].values
    beside = np.interp(ds["central_time"].values[0], ds["time"].values, ds["test_loss"].values)
    assert np.isfinite(central).all()
    assert abs(central[0] / beside[0] - 1) < 0.05  # it leaves the flow from here on
    assert ds["central_test_accuracy"].dims == ("step_size", "saved_central")
