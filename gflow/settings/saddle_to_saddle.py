"""``saddle-to-saddle``: a diagonal network switches weights on, and off again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from gflow.settings.base import Count
from gflow.settings.laboratory_base import LaboratoryScenario

if TYPE_CHECKING:
    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.results.base import Result, Setup


Power = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class SaddleToSaddle(LaboratoryScenario):
    """A diagonal network w = u∘u − v∘v on Gaussian data, from u = v = 10^−power, ever smaller."""

    setting: ClassVar[str] = "saddle-to-saddle"
    papers: ClassVar[tuple[str, ...]] = ("pesme2023saddle",)

    samples: Count | None = Field(
        None, description="number of samples n", json_schema_extra={"without": "6"}
    )
    inputs: Annotated[int, Field(ge=1, le=2000)] = Field(
        10, description="number of weights d, more than half of the samples"
    )
    powers: tuple[Power, ...] = Field(
        (20.0, 80.0, 320.0, 1000.0), min_length=1, description="starts are u = v = 10^-power"
    )
    jumps: Count = Field(6, description="number of jumps to follow, at most those that there are")

    def problem(self) -> tuple[Tensor, Tensor]:
        """Draw inputs and targets, independent and Gaussian.

        Raises
        ------
        InputError
            If n + 1 = 2d, where the state of the dual variable cannot be told from [u; v].
        """
        import torch

        from gflow.errors import InputError

        if (self.samples or 6) + 1 == 2 * self.inputs:
            raise InputError(
                f"inputs must be another number than half of samples + 1, got {self.inputs} with "
                f"{self.samples or 6} samples; use one more"
            )
        generator, options = self.generator(), self.torch_options()
        shape = self.samples or 6, self.inputs
        X = torch.randn(shape, generator=generator, dtype=torch.float64)
        y = torch.randn(shape[0], generator=generator, dtype=torch.float64)
        return X.to(**options), y.to(**options)

    def setup(self) -> Setup:
        """Make the flow from the largest start."""
        import math

        from gflow.flows import DiagonalFlow
        from gflow.results.base import Setup

        X, y = self.problem()
        flow, facts = DiagonalFlow(X, y), {"samples": X.shape[0], "inputs": X.shape[1]}
        start = flow.start(math.exp(-min(self.powers) * math.log(10)))
        return Setup(flow, start, facts=facts)

    def run(self, stages: Stages) -> Result:
        """Follow every start through the jumps, beside the algorithm for an infinitesimal one."""
        from gflow.results.saddle_times import SaddleTimesResult
        from gflow.studies.saddle_times import saddle_times

        study = saddle_times(
            *self.problem(),
            self.powers,
            self.jumps,
            options=self.solve_options(),
            stages=stages,
            t_end=self.t_end,
        )
        return SaddleTimesResult.from_study(study)
