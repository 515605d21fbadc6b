"""What settings with one flow and one start share: run it beside descent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.results.paths import Outcome
    from gflow.settings.base import Scenario


def run_paths(scenario: Scenario, stages: Stages) -> Outcome:
    """Flow, parameter flow and descents of a scenario's setup."""
    from gflow.results.paths import flow_and_descent_outcome  # with torch: not for a help text
    from gflow.studies.flow_and_descent import flow_and_descent

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
