"""The work of settings with one flow and one start: the flow beside descent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.results.base import Result
    from gflow.settings.base import Scenario


def run_paths(scenario: Scenario, stages: Stages) -> Result:
    """Run the flow, the parameter flow and the descents of a scenario.

    Parameters
    ----------
    scenario : Scenario
    stages : callable
        ``stages(name, t_end)`` gives a progress callback for each part.

    Returns
    -------
    Result

    Examples
    --------
    >>> from gflow.scenario import load_scenario
    >>> scenario = load_scenario("deep-linear", {"data": "synthetic", "t_end": 0.1, "points": 2})
    >>> outcome = run_paths(scenario, lambda name, t_end: None)
    >>> "loss" in outcome.dataset
    True
    """
    # Imported with torch, which a help text does not need.
    from gflow.results.flow_and_descent import FlowAndDescentResult
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
    return FlowAndDescentResult.from_study(result, setup)
