"""``matrix-completion``: matrix completion by deep factorization, beside the least nuclear norm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from gflow.settings.base import Count, Positive
from gflow.settings.laboratory_base import LaboratoryScenario

if TYPE_CHECKING:
    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.results.base import Result, Setup


Depth = Annotated[int, Field(ge=1, le=20)]


class MatrixCompletionScenario(LaboratoryScenario):
    """Completion of a random low-rank matrix, from Gaussian layers of several scales."""

    setting: ClassVar[str] = "matrix-completion"
    papers: ClassVar[tuple[str, ...]] = ("arora2019implicit",)

    t_end: Positive | None = Field(
        None,
        description="length of the path in time of `gflow converge`; a run ends at loss_end",
    )
    points: Annotated[int, Field(ge=2, le=100_000)] = Field(
        100, description="number of times of `gflow converge`; a run measures the ends"
    )
    estimate_error: bool = Field(
        False, description="measure the solver's error by a second, finer solve"
    )
    size: Annotated[int, Field(ge=1, le=5000)] = Field(100, description="size d of the matrix")
    rank: Count = Field(5, description="rank of the matrix, at most its size")
    samples: Count | None = Field(
        None,
        description="number of observed entries",
        json_schema_extra={"without": "a fifth of all"},
    )
    depths: tuple[Depth, ...] = Field((2, 3, 4), min_length=1, description="numbers of layers N")
    init_scales: tuple[Positive, ...] = Field(
        (1e-3, 1e-4), min_length=1, description="scales α of the starts, about those of W"
    )
    seeds: Annotated[int, Field(ge=1, le=1000)] = Field(
        2, description="number of starts for each depth and scale"
    )
    loss_end: Positive = Field(
        5e-7, description="loss at which a path ends; the entries have mean square 1"
    )
    convex: bool = Field(True, description="find the matrix of least nuclear norm, too")

    def problem(self) -> tuple[Tensor, Tensor]:
        """Draw a product of Gaussian factors of Frobenius norm d, and the observed entries.

        Raises
        ------
        InputError
            If more entries are observed, or the rank is larger, than there can be.
        """
        import torch

        from gflow.errors import InputError

        d, generator = self.size, self.generator()
        count = self.samples or max(1, d * d // 5)
        if count > d * d:
            raise InputError(
                f"samples must be at most the {d * d} entries of the matrix, got {count}; use fewer"
            )
        if self.rank > d:
            raise InputError(f"rank must be at most the size {d}, got {self.rank}; use less")
        A, B = (torch.randn(d, self.rank, generator=generator, dtype=torch.float64) for _ in "AB")
        matrix = A @ B.mT
        matrix *= d / matrix.norm()
        mask = torch.zeros(d * d, dtype=torch.bool)
        mask[torch.randperm(d * d, generator=generator)[:count]] = True
        options = self.torch_options()
        return matrix.to(**options), mask.reshape(d, d).to(options["device"])

    def _start_seeds(self) -> range:
        return range(self.seed + 1, self.seed + 1 + self.seeds)  # the matrix has the seed itself

    def setup(self) -> Setup:
        """Make the flow of the least depth from the first start."""
        from gflow.flows import LayerwiseFlow
        from gflow.losses import MatrixCompletion
        from gflow.results.base import Setup
        from gflow.studies.completed import gaussian_layers

        matrix, mask = self.problem()
        loss = MatrixCompletion(matrix, mask)
        depth = min(self.depths)
        flow = LayerwiseFlow(loss, [self.size] * (depth + 1))
        like, seed = loss.reference_tensor, self._start_seeds()[0]
        layers = gaussian_layers(self.size, depth, max(self.init_scales), seed, like)
        facts = {"size": self.size, "observed_entries": int(mask.sum())}
        return Setup(flow, flow.pack(layers), facts=facts)

    def run(self, stages: Stages) -> Result:
        """Complete the matrix from every start, and by the least nuclear norm."""
        from gflow.results.completion import CompletionResult
        from gflow.studies.completion import completion_study

        study = completion_study(
            *self.problem(),
            self.depths,
            self.init_scales,
            self._start_seeds(),
            loss_end=self.loss_end,
            convex=self.convex,
            options=self.solve_options(),
            stages=stages,
        )
        return CompletionResult.from_study(study)
