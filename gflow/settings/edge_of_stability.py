"""``edge-of-stability``: where descent leaves the flow, and the central flow it then follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from gflow.settings.base import Positive
from gflow.settings.measured_base import MeasuredNetworkScenario

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.results.base import Result


class EdgeOfStability(MeasuredNetworkScenario):
    """A network's flow, descents and their central flows, with the sharpness along each."""

    setting: ClassVar[str] = "edge-of-stability"
    papers: ClassVar[tuple[str, ...]] = ("cohen2021gradient", "cohen2024understanding")
    can_be_split: ClassVar[bool] = True

    step_sizes: tuple[Positive, ...] | None = Field(
        None,
        min_length=1,
        description="step sizes of descent; a scenario without them takes three whose edges "
        "2/step_size the sharpness of the flow passes",
    )
    smoothing: Positive | None = Field(
        None, description="window of time over which descent is averaged; without one, t_end / 10"
    )

    def run(self, stages: Stages) -> Result:
        """Run the flow, descents and central flows."""
        from gflow.results.edge_of_stability import EdgeOfStabilityResult
        from gflow.studies.edge_of_stability import edge_of_stability

        setup = self.setup()
        study = edge_of_stability(
            setup.flow,
            setup.y0,
            self.t_end,
            self.step_sizes,
            smoothing=self.smoothing,
            options=self.solve_options(),
            stages=stages,
        )
        return EdgeOfStabilityResult.from_study(study, setup.facts)
