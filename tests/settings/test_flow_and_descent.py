"""`run_paths` runs the study of flow and descent with the options of the scenario."""

import numpy as np

from gflow.results.flow_and_descent import FlowAndDescentResult
from gflow.scenario import validate
from gflow.settings.flow_and_descent import run_paths
from gflow.studies import flow_and_descent

KEYS = {"setting": "deep-linear", "data": "synthetic", "samples": 12, "t_end": 1.0}


def test_result_is_that_of_the_study_with_the_options_of_the_scenario():
    scenario = validate({**KEYS, "points": 5, "method": "tsit5", "rtol": 1e-5}, "a test")
    stages = []

    def stage(name, t_end):
        stages.append((name, t_end))

    result = run_paths(scenario, stage)
    setup = scenario.setup()
    study = flow_and_descent(
        setup.flow, setup.y0, 1.0, scenario.step_sizes, options=scenario.solve_options()
    )
    expected = FlowAndDescentResult.from_study(study, setup)
    for name, values in expected.dataset.variables.items():
        np.testing.assert_array_equal(result.dataset[name].values, values)
    assert result.summary["cost"]["method"] == "tsit5"
    assert stages
    assert {t_end for _, t_end in stages} == {1.0}
