"""What all settings have: a file, a start of their flow, and the options of its solve."""

import importlib

import pytest
import torch

from gflow.errors import InputError
from gflow.scenario import setting_model, setting_models
from gflow.settings.base import Scenario
from gflow.solvers import SolveOptions
from tests.settings.scenarios import make

SETTINGS = sorted(setting_models())


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_discovered_from_its_file(name):
    model = setting_model(name)
    assert issubclass(model, Scenario)
    assert model.setting == name
    assert model.__module__ == f"gflow.settings.{name.replace('-', '_')}"
    assert importlib.import_module(model.__module__).__doc__


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_setup_is_a_start_of_the_flow_in_the_requested_dtype(name, dtype):
    extra = {
        "kernel": {"samples": 6, "test_samples": 2},
        "grokking": {"data": "modular:5"},  # other data have no classes here
    }.get(name, {})
    setup = make(name, dtype=str(dtype).removeprefix("torch."), **extra).setup()
    setup.flow.check_state(setup.y0)
    assert setup.y0.dtype == dtype
    assert torch.isfinite(setup.flow(0.0, setup.y0)).all()
    assert setup.facts


def test_options_of_the_solve_are_the_keys_of_the_scenario():
    keys = {"method": "rkc2", "rtol": 1e-4, "atol": 1e-7, "max_evals": 500, "points": 7}
    scenario = make("deep-linear", time="log", estimate_error=False, **keys)
    assert scenario.solve_options() == SolveOptions(spacing="log", estimate_error=False, **keys)


def test_a_number_of_samples_refuses_small_data_unless_it_is_the_scenarios_own():
    with pytest.raises(InputError, match="samples must be at most 150, the rows of iris, got 500"):
        make("network", data="iris", samples=500).load_data()
    scenario = make("network", data="iris", samples=500, fewer_samples=True)
    with pytest.warns(UserWarning, match="iris has 150 samples, fewer than the 500 of the"):
        assert len(scenario.load_data().inputs) == 150
    assert len(make("network", data="iris", samples=9).load_data().inputs) == 9
