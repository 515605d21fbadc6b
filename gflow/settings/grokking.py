"""``grokking``: held-out accuracy that rises long after the training samples are learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from gflow.settings.measured_base import MeasuredNetworkScenario

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.results.base import Result, Setup


class Grokking(MeasuredNetworkScenario):
    """A network with weight decay: times at which training and held-out accuracy pass a level."""

    setting: ClassVar[str] = "grokking"
    papers: ClassVar[tuple[str, ...]] = ("power2022grokking", "gromov2023grokking")

    train_fraction: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = Field(
        0.6,
        description="part of the samples to train on; the others are held out. With "
        "--test-samples it is not used",
    )
    accuracy: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        0.95, description="accuracy that says that samples are learned"
    )

    def _train_fraction(self) -> float | None:
        return self.train_fraction if self.test_samples is None else None

    def setup(self) -> Setup:
        """Make the network's flow and its start.

        Raises
        ------
        InputError
            If there are no held-out samples, or the targets are not classes.
        """
        from gflow.errors import InputError
        from gflow.results.base import Setup

        flow, start, facts = self._build()
        if flow.classes is None:
            raise InputError(
                f"grokking needs classes, but the targets of {self.data} are numbers; use "
                "modular:P, or other data with classes"
            )
        if flow.test_targets is None:
            raise InputError(
                "grokking needs held-out samples, got none; give --train-fraction or --test-samples"
            )
        return Setup(flow, start, facts=facts)

    def run(self, stages: Stages) -> Result:
        """Run the flow and descent, and find the times at which accuracies pass the level."""
        from gflow.results.grokking import GrokkingResult
        from gflow.studies.flow_and_descent import flow_and_descent

        setup = self.setup()
        study = flow_and_descent(
            setup.flow,
            setup.y0,
            self.t_end,
            self.step_sizes,
            options=self.solve_options(),
            stages=stages,
        )
        return GrokkingResult.from_study(study, setup, self.accuracy)
