"""What settings with one flow and one start share: run it beside descent."""

from __future__ import annotations

from gflow.callbacks import Stages
from gflow.results.paths import Outcome, flow_and_descent_outcome
from gflow.settings.base import Scenario
from gflow.studies.flow_and_descent import flow_and_descent


def run_paths(scenario: Scenario, stages: Stages) -> Outcome:
    """Flow, parameter flow and descents of a scenario's setup."""
    setup = scenario.setup()
    result = flow_and_descent(
        setup.flow,
        setup.y0,
        scenario.t_end,
        scenario.step_sizes,
        sharpness=setup.sharpness,
        options=scenario.solve_options(),
        stages=stages,
    )
    return flow_and_descent_outcome(result, setup)
