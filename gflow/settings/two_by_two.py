"""``two-by-two``: the unobserved entry of a 2 × 2 matrix grows while the loss falls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from gflow.errors import InputError
from gflow.settings.base import Positive
from gflow.settings.laboratory_base import LaboratoryScenario

if TYPE_CHECKING:
    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.results.base import Result, Setup


Depth = Annotated[int, Field(ge=2, le=100)]


class TwoByTwo(LaboratoryScenario):
    """Completion of [[?, 1], [1, 0]] by deep factorization, from a start with det W > 0."""

    setting: ClassVar[str] = "two-by-two"
    papers: ClassVar[tuple[str, ...]] = ("razin2020implicit",)

    depths: tuple[Depth, ...] = Field((2, 3, 4, 5), min_length=1, description="numbers of layers N")
    loss_end: Annotated[float, Field(ge=1e-12, lt=1 / 3, allow_inf_nan=False)] = Field(
        1e-8, description="loss at which a path ends"
    )
    init_scale: Positive = Field(
        1e-2, description="the start is W = init_scale * [[1.2, 0.3], [0.3, 0.9]]"
    )

    def _start(self) -> Tensor:
        import torch

        shape = torch.tensor([[1.2, 0.3], [0.3, 0.9]], **self.torch_options())
        start = self.init_scale * shape
        if not 0 < float(torch.linalg.det(start)) < math.inf:
            raise InputError(
                f"the determinant of the start must be a {self.dtype} above 0, but with init_scale "
                f"{self.init_scale:g} it is not; use one nearer to 1"
            )
        return start

    def setup(self) -> Setup:
        """Make the flow of the least depth."""
        from gflow.flows import SpectralFlow
        from gflow.results.base import Setup
        from gflow.studies.unobserved_entry import two_by_two

        start = self._start()
        flow = SpectralFlow(two_by_two(start), depth=min(self.depths))
        return Setup(flow, flow.start(start), facts={"observed_entries": 3})

    def run(self, stages: Stages) -> Result:
        """Follow W at every depth until the loss is reached."""
        from gflow.results.unobserved_entry import UnobservedEntryResult
        from gflow.studies.unobserved_entry import unobserved_entry

        study = unobserved_entry(
            self._start(),
            self.depths,
            self.loss_end,
            options=self.solve_options(),
            stages=stages,
            t_end=self.t_end,
        )
        return UnobservedEntryResult.from_study(study)
