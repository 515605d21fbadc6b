"""``wide-network``: two-layer ReLU networks of several widths beside their kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from gflow.scenario import Count, Positive
from gflow.settings._points import PointScenario

if TYPE_CHECKING:
    from torch import Tensor

    from gflow.results import Outcome, Setup
    from gflow.studies.flow_and_descent import Stages


class WideNetwork(PointScenario):
    """First layer trained from N(0, 1) on two classes with unit inputs, sum ½‖u − y‖²."""

    setting: ClassVar[str] = "wide-network"

    t_end: Positive | None = Field(  # type: ignore[assignment]
        None, description="length of the path in `converge`; a run's is epochs * step_size"
    )
    widths: tuple[Count, ...] = Field((128, 512, 2048), min_length=1, description="hidden widths m")
    seeds: Count = Field(2, description="number of random starts for each width")
    epochs: Count = Field(2000, description="full-batch steps of descent")
    estimate_error: bool = Field(
        False, description="measure the solver's error by a second solve of each network"
    )

    def _samples(self) -> tuple[Tensor, Tensor]:
        import torch

        from gflow.preparation import signs, unit_rows

        options = self.torch_options()
        data = self.points_on_sphere(self.samples or 100)
        targets = torch.as_tensor(signs(data), **options)[:, 0]
        return torch.as_tensor(unit_rows(data.inputs), **options), targets

    def setup(self) -> Setup:
        """The narrowest network's flow, for step-size studies."""
        from gflow.flows import NetworkFlow
        from gflow.results import Setup
        from gflow.studies.width import TwoLayerReLU, half_squared_error

        inputs, targets = self._samples()
        module = TwoLayerReLU(inputs.shape[1], min(self.widths), self.seed).to(inputs)
        flow = NetworkFlow(module, half_squared_error, inputs, targets)
        return Setup(flow, flow.pack(), facts={"width": min(self.widths)})

    def run(self, stages: Stages) -> Outcome:
        """Networks and kernel by flow and by descent, for every width and seed."""
        from gflow.errors import InputError
        from gflow.results import width_outcome
        from gflow.studies.width import width_study

        if self.step_sizes is not None and len(self.step_sizes) > 1:
            raise InputError(f"wide-network takes one step size, got {len(self.step_sizes)}")
        if self.time != "linear":
            raise InputError(f"wide-network compares at epochs of its own, got time={self.time}")
        inputs, targets = self._samples()
        study = width_study(
            inputs,
            targets,
            self.widths,
            range(self.seed, self.seed + self.seeds),
            self.epochs,
            self.step_sizes[0] if self.step_sizes else None,
            points=self.points,
            method=self.method,
            rtol=self.rtol,
            atol=self.atol,
            max_evals=self.max_evals,
            estimate_error=self.estimate_error,
            stages=stages,
        )
        return width_outcome(study)
