"""``wide-network``: two-layer ReLU networks of several widths beside their kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from gflow.settings.base import Count, Positive
from gflow.settings.sphere_base import SphereScenario

if TYPE_CHECKING:
    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.results.base import Result, Setup

_SAMPLES = 100


class WideNetwork(SphereScenario):
    """Two-layer networks, their first layer trained from N(0, 1) on the sum ½‖u − y‖².

    Epoch k is one full-batch step of size η on that sum, at time t = kη; on a mean over n
    points the same path needs the step size nη.
    """

    setting: ClassVar[str] = "wide-network"
    papers: ClassVar[tuple[str, ...]] = ("du2019gradient", "jacot2018neural")

    t_end: Positive | None = Field(  # type: ignore[assignment]
        None,
        description="length of the path in time of `gflow converge`; that of a run is epochs * "
        "step_size",
    )
    points: Annotated[int, Field(ge=2, le=100_000)] = Field(
        100, description="number of epochs at which networks and kernel are compared"
    )
    time: Literal["linear", "log"] = Field(
        "linear",
        description="spacing of the comparisons of `gflow converge`; a run always spaces its "
        "epochs logarithmically and accepts linear only",
    )
    step_sizes: tuple[Positive, ...] | None = Field(
        None,
        min_length=1,
        description="the step size of descent, one number; a scenario without it takes a quarter "
        "of the stability limit 2/lambda_max",
    )
    widths: tuple[Count, ...] = Field(
        (128, 512, 2048), min_length=1, description="widths of the hidden layer"
    )
    seeds: Count = Field(2, description="number of random starts for each width")
    epochs: Count = Field(2000, description="number of full-batch steps of descent")
    outputs: Literal["single", "all"] = Field(
        "single", description="one output, -1 and +1 for two classes, or one output for each class"
    )
    estimate_error: bool = Field(
        True,
        description="measure the solver's error by a second, finer solve of the first seed of each "
        "width",
    )

    def _samples(self) -> tuple[Tensor, Tensor, int]:
        """Return inputs and targets, the training samples first, and the number of those."""
        import torch

        from gflow.preparation import one_hot, signs, unit_rows

        data, train = self.points_on_sphere(_SAMPLES, held_out=0)
        if self.outputs == "single":
            targets = signs(data)[:, 0]
        else:
            targets = one_hot(data)
            targets = targets - targets[:train].mean(axis=0)
        options = self.torch_options()
        inputs = torch.as_tensor(unit_rows(data.inputs), **options)
        return inputs, torch.as_tensor(targets, **options), train

    def setup(self) -> Setup:
        """Make the flow of the narrowest network, for step-size studies."""
        from gflow.flows import TwoLayerFlow
        from gflow.results.base import Setup
        from gflow.studies.width_experiment import random_networks

        inputs, targets, train = self._samples()
        inputs, targets = inputs[:train], targets[:train]
        flow, start = random_networks(inputs, targets, min(self.widths), [self.seed])
        network = TwoLayerFlow(inputs, targets, flow.signs[0])
        return Setup(network, start[0], facts={"width": min(self.widths)})

    def run(self, stages: Stages) -> Result:
        """Run the flow and descent of the networks and of their kernel."""
        from gflow.errors import InputError
        from gflow.results.width import WidthResult
        from gflow.studies.width import width_study

        if self.step_sizes is not None and len(self.step_sizes) > 1:
            raise InputError(
                f"wide-network takes one step size, got {len(self.step_sizes)}; keep one of them"
            )
        inputs, targets, train = self._samples()
        study = width_study(
            inputs[:train],
            targets[:train],
            self.widths,
            range(self.seed, self.seed + self.seeds),
            self.epochs,
            self.step_sizes[0] if self.step_sizes else None,
            test=(inputs[train:], targets[train:]) if len(inputs) > train else None,
            options=self.solve_options(),
            stages=stages,
        )
        return WidthResult.from_study(study)
