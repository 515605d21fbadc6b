"""``incremental-learning``: modes of a matrix are learned one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from gflow.settings.base import Count, Positive
from gflow.settings.laboratory_base import LaboratoryScenario

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.losses import MatrixSensing
    from gflow.results.base import Result, Setup

Mode = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]

_MAX_NUMBERS = 500_000_000  # 4 GB


class IncrementalLearning(LaboratoryScenario):
    """Matrix sensing of W* = diag(modes) by Gaussian measurements, from W = init_scale·I."""

    setting: ClassVar[str] = "incremental-learning"
    papers: ClassVar[tuple[str, ...]] = ("gissin2020implicit", "arora2019implicit")

    depth: Annotated[int, Field(ge=1, le=100)] = Field(2, description="number of layers N")
    size: Annotated[int, Field(ge=1, le=1000)] = Field(50, description="size d of the matrix")
    modes: tuple[Mode, ...] = Field(
        (12.0, 6.0, 4.0, 3.0), min_length=1, description="singular values of the target"
    )
    samples: Count | None = Field(
        None,
        description="number of measurements <A_i, W> with Gaussian A_i",
        json_schema_extra={"without": "20 times the size"},
    )
    init_scales: tuple[Positive, ...] = Field(
        (1e-4, 1e-6, 1e-8),
        min_length=1,
        description="scales of the starts W = init_scale * identity",
    )

    def problem(self) -> MatrixSensing:
        """Draw the measurements.

        Raises
        ------
        InputError
            If there are more modes than rows, or the measurements are too large.
        """
        import torch

        from gflow.errors import InputError
        from gflow.losses import MatrixSensing

        if len(self.modes) > self.size:
            raise InputError(
                f"a matrix of size {self.size} has at most {self.size} modes, got "
                f"{len(self.modes)}; give fewer modes or a larger size"
            )
        count = self.samples or 20 * self.size
        if count * self.size**2 > _MAX_NUMBERS:
            raise InputError(
                f"measurements must have at most {_MAX_NUMBERS:,} numbers together, got {count:,} "
                f"of {self.size} x {self.size}; use fewer samples or a smaller size"
            )
        shape = (count, self.size, self.size)
        A = torch.randn(shape, generator=self.generator(), dtype=torch.float64)
        largest = torch.tensor(sorted(self.modes, reverse=True), dtype=torch.float64)
        values = A.diagonal(dim1=1, dim2=2)[:, : len(largest)] @ largest
        options = self.torch_options()
        return MatrixSensing(A.to(**options), values.to(**options))

    def setup(self) -> Setup:
        """Make the flow from the largest start."""
        from gflow.results.base import Setup
        from gflow.studies.mode_times import flow_from

        problem = self.problem()
        facts = {"size": self.size, "measurements": self.samples or 20 * self.size}
        return Setup(*flow_from(problem, self.depth, max(self.init_scales)), facts=facts)

    def run(self, stages: Stages) -> Result:
        """Follow W from every start, and measure when each mode is learned."""
        from gflow.results.mode_times import ModeTimesResult
        from gflow.studies.mode_times import mode_times

        study = mode_times(
            self.problem(),
            self.modes,
            self.init_scales,
            self.depth,
            options=self.solve_options(),
            stages=stages,
            t_end=self.t_end,
        )
        return ModeTimesResult.from_study(study)
