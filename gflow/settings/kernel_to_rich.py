"""``kernel-to-rich``: the scale of the start chooses between least ‖w‖₂ and least ‖w‖₁."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from gflow.settings.base import Count
from gflow.settings.laboratory_base import LaboratoryScenario

if TYPE_CHECKING:
    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.results.base import Result, Setup


Scale = Annotated[float, Field(ge=1e-30, le=1e6, allow_inf_nan=False)]


class KernelToRich(LaboratoryScenario):
    """A diagonal network w = u∘u − v∘v on sparse regression, from starts u = v = init_scale."""

    setting: ClassVar[str] = "kernel-to-rich"
    papers: ClassVar[tuple[str, ...]] = ("woodworth2020kernel",)

    samples: Count | None = Field(
        None,
        description="number of samples n, at most that of the inputs",
        json_schema_extra={"without": "20"},
    )
    inputs: Annotated[int, Field(ge=1, le=2000)] = Field(40, description="number of weights d")
    nonzero: Annotated[int, Field(ge=1, le=4)] = Field(
        4, description="number of weights that the targets are made of: 1, -0.7, 0.5, 0.3"
    )
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.05, description="standard deviation of the noise in the targets"
    )
    init_scales: tuple[Scale, ...] = Field(
        (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8),
        min_length=1,
        description="starts are u = v = init_scale",
    )
    loss_end: Annotated[float, Field(ge=1e-30, allow_inf_nan=False)] = Field(
        1e-20, description="loss at which a path ends"
    )

    def problem(self) -> tuple[Tensor, Tensor]:
        """Draw Gaussian inputs, and targets of a sparse w with noise."""
        import torch

        generator, options = self.generator(), self.torch_options()
        shape = self.samples or 20, self.inputs
        X = torch.randn(shape, generator=generator, dtype=torch.float64)
        w = torch.zeros(max(4, self.inputs), dtype=torch.float64)
        w[: self.nonzero] = torch.tensor([1.0, -0.7, 0.5, 0.3], dtype=torch.float64)[: self.nonzero]
        noise = torch.randn(shape[0], generator=generator, dtype=torch.float64)
        y = X @ w[: self.inputs] + self.noise * noise
        return X.to(**options), y.to(**options)

    def setup(self) -> Setup:
        """Make the flow from the largest start."""
        from gflow.flows import DiagonalFlow
        from gflow.results.base import Setup

        X, y = self.problem()
        flow, facts = DiagonalFlow(X, y), {"samples": X.shape[0], "inputs": X.shape[1]}
        return Setup(flow, flow.start(max(self.init_scales)), facts=facts)

    def run(self, stages: Stages) -> Result:
        """Follow every start to its end, beside the minimiser of the potential."""
        from gflow.results.rich_limit import RichLimitResult
        from gflow.studies.rich_limit import rich_limit

        study = rich_limit(
            *self.problem(),
            self.init_scales,
            self.loss_end,
            options=self.solve_options(),
            stages=stages,
            t_end=self.t_end,
        )
        return RichLimitResult.from_study(study)
