"""``max-margin``: logistic regression on separable data, to a loss of 1e-300."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from gflow.settings.base import Positive
from gflow.settings.laboratory_base import LaboratoryScenario

if TYPE_CHECKING:
    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.results.base import Result, Setup

_DRAWN = 50  # times the samples: points of which those with a margin are used


class MaxMargin(LaboratoryScenario):
    """A linear classifier without bias on Gaussian points that a random plane separates."""

    setting: ClassVar[str] = "max-margin"
    papers: ClassVar[tuple[str, ...]] = ("soudry2018implicit", "lyu2020gradient")

    t_end: Positive | None = Field(
        None,
        description="longest path on the clock tau of the normalised flow, d tau = loss * dt; "
        "length of the path of `gflow converge` in the time t",
        json_schema_extra={"without": "long enough, by theory"},
    )
    samples: Annotated[int, Field(ge=2, le=100_000)] | None = Field(
        None, description="number of samples", json_schema_extra={"without": "50"}
    )
    inputs: Annotated[int, Field(ge=1, le=2000)] = Field(5, description="number of weights d")
    gap: Positive = Field(
        0.2, description="least distance of a sample from the plane that labels it"
    )
    criterion: Literal["logistic", "exponential"] = Field(
        "logistic", description="loss of a margin m: log(1 + e^-m), or e^-m"
    )
    log10_loss_end: Annotated[float, Field(lt=0, ge=-10_000, allow_inf_nan=False)] = Field(
        -300.0, description="log10 of the loss at which the path ends"
    )

    def problem(self) -> tuple[Tensor, Tensor]:
        """Draw points on both sides of a random plane, none nearer than the gap.

        Raises
        ------
        InputError
            If hardly any point is as far from the plane, or all are on one side.
        """
        import torch

        from gflow.errors import InputError

        generator, count = self.generator(), self.samples or 50
        w = torch.randn(self.inputs, generator=generator, dtype=torch.float64)
        shape = _DRAWN * count, self.inputs
        X = torch.randn(shape, generator=generator, dtype=torch.float64)
        along = X @ (w / w.norm())
        far = along.abs() >= self.gap
        if int(far.sum()) < count:
            raise InputError(
                f"gap must leave {count} of {len(X)} Gaussian points, but {int(far.sum())} are "
                f"{self.gap:g} from the plane; use a smaller gap"
            )
        X, labels = X[far][:count], (along[far][:count] > 0).long()
        if bool((labels == labels[0]).all()):
            raise InputError(
                f"samples must be on both sides of the plane, got {count} on one; use more samples "
                "or another seed"
            )
        options = self.torch_options()
        return X.to(**options), labels.to(options["device"])

    def setup(self) -> Setup:
        """Make the flow of the weights, which descent follows, from w = 0."""
        import torch

        from gflow.flows import NetworkFlow
        from gflow.results.base import Setup

        X, labels = self.problem()
        linear = torch.nn.Linear(X.shape[1], 1, bias=False, device=X.device).to(X.dtype)
        flow = NetworkFlow(linear, self.criterion, X, labels)
        facts = {"samples": X.shape[0], "inputs": X.shape[1]}
        return Setup(flow, torch.zeros_like(flow.pack()), facts=facts)

    def run(self, stages: Stages) -> Result:
        """Follow w on the clock dτ = φ dt to the loss."""
        from gflow.results.margin_path import MarginPathResult
        from gflow.studies.margin_path import margin_path

        study = margin_path(
            *self.problem(),
            self.log10_loss_end,
            self.criterion,
            options=self.solve_options(),
            stages=stages,
            t_end=self.t_end,
        )
        return MarginPathResult.from_study(study)
