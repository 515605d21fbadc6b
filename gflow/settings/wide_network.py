"""``wide-network``: two-layer ReLU networks of several widths beside their kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from gflow.settings.base import Count, Positive
from gflow.settings.sphere_base import PointScenario

if TYPE_CHECKING:
    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.results.base import Setup
    from gflow.results.paths import Outcome

_SAMPLES = 100


class WideNetwork(PointScenario):
    """First layer trained from N(0, 1) on unit inputs and the sum ½‖u − y‖².

    Epoch k is one full-batch step of size η on that sum, at time t = kη; on a mean over n
    points the same path takes the step nη.
    """

    setting: ClassVar[str] = "wide-network"

    t_end: Positive | None = Field(  # type: ignore[assignment]
        None, description="length of the path in `converge`; a run's is epochs * step_size"
    )
    step_sizes: tuple[Positive, ...] | None = Field(
        None,
        min_length=1,
        description="the step size of descent, one; by default a quarter of 2/lambda_max",
    )
    widths: tuple[Count, ...] = Field((128, 512, 2048), min_length=1, description="hidden widths m")
    seeds: Count = Field(2, description="number of random starts for each width")
    epochs: Count = Field(2000, description="full-batch steps of descent")
    outputs: Literal["single", "all"] = Field(
        "single", description="one output, -1 and +1 for two classes, or one for every class"
    )
    test_samples: Count = Field(
        200, description="at most so many samples kept for testing, after the first ones"
    )
    estimate_error: bool = Field(
        True, description="measure the solver's error by a second solve of each width's first seed"
    )

    def _samples(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets, the training samples first."""
        import torch

        from gflow.data.named import load
        from gflow.preparation import one_hot, signs, subset, unit_rows

        train = self.samples or _SAMPLES
        if self.data == "synthetic":
            data = self.points_on_sphere(train + self.test_samples)
        else:
            whole = subset(load(self.data), None, self.classes)
            data = subset(whole, max(train, min(train + self.test_samples, len(whole.inputs))))
        if self.outputs == "single":
            targets = signs(data)[:, 0]
        else:
            targets = one_hot(data)
            targets = targets - targets[:train].mean(axis=0)
        options = self.torch_options()
        inputs = torch.as_tensor(unit_rows(data.inputs), **options)
        return inputs, torch.as_tensor(targets, **options)

    def setup(self) -> Setup:
        """The narrowest network's flow, for step-size studies."""
        from gflow.flows import TwoLayerFlow
        from gflow.results.base import Setup
        from gflow.studies.one_width import random_networks

        inputs, targets = (part[: self.samples or _SAMPLES] for part in self._samples())
        flow, start = random_networks(inputs, targets, min(self.widths), [self.seed])
        lone = TwoLayerFlow(inputs, targets, flow.signs[0])
        return Setup(lone, start[0], facts={"width": min(self.widths)})

    def run(self, stages: Stages) -> Outcome:
        """Networks and kernel by flow and by descent, for every width and seed."""
        from gflow.errors import InputError
        from gflow.results.width import width_outcome
        from gflow.studies.width import width_study

        if self.step_sizes is not None and len(self.step_sizes) > 1:
            raise InputError(f"wide-network takes one step size, got {len(self.step_sizes)}")
        inputs, targets = self._samples()
        train = self.samples or _SAMPLES
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
        return width_outcome(study)
