"""``deep-linear``: a deep linear network regresses targets on inputs, end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from gflow.settings.base import Count, Positive, Scenario

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.data.named import Data
    from gflow.results.base import Result, Setup


class DeepLinear(Scenario):
    """Flow of W = W_N⋯W_1 from a balanced start on 1/(2n)‖XWᵀ − Y‖²; descent on the layers."""

    setting: ClassVar[str] = "deep-linear"
    papers: ClassVar[tuple[str, ...]] = (
        "arora2018optimization",
        "arora2019implicit",
        "saxe2014exact",
    )

    depth: Annotated[int, Field(ge=1, le=100)] = Field(3, description="number of layers N")
    hidden_width: Count | None = Field(
        None,
        description="width of the hidden layers; without one, the smaller of the input and output "
        "dimensions",
    )
    outputs: Literal["single", "all"] = Field(
        "single", description="regress on the first target alone, or on all targets or classes"
    )
    inputs: Count = Field(10, description="with synthetic data: dimension of the inputs")
    targets: Count = Field(5, description="with synthetic data: dimension of the targets")
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.1, description="with synthetic data: standard deviation of the noise in the targets"
    )
    init_scale: Positive = Field(0.1, description="Frobenius norm of W at the start")

    def start_keys(self) -> frozenset[str]:
        """Return the scale of the start; the seed too, unless it also draws the data."""
        return frozenset({"init_scale"} if self.data == "synthetic" else {"init_scale", "seed"})

    def _data(self) -> Data:
        from gflow.data.synthetic import synthetic_regression

        if self.data == "synthetic":
            samples = self.samples or 200
            return synthetic_regression(samples, self.inputs, self.targets, self.noise, self.seed)
        return self.load_data()

    def setup(self) -> Setup:
        """Make the flow from standardised inputs and targets, and a random W of a given norm."""
        import torch

        from gflow.errors import InputError
        from gflow.flows import EndToEndFlow
        from gflow.losses import LinearRegression
        from gflow.preparation import regression_targets, standardise
        from gflow.results.base import Setup

        options = self.torch_options()
        data = self._data()
        inputs = standardise(data.inputs)
        if not inputs.any():
            raise InputError(
                f"{self.data} must have an input that varies, got constant columns only; use other "
                "data or more samples"
            )
        targets = regression_targets(data)
        if self.outputs == "single":  # the target of a class is its index
            targets = standardise(data.targets[:, :1])
        loss = LinearRegression(
            torch.as_tensor(inputs, **options), torch.as_tensor(targets, **options)
        )
        flow = EndToEndFlow(loss, self.depth, hidden_width=self.hidden_width)
        start = torch.randn(loss.shape, generator=self.generator(), dtype=torch.float64)
        start *= self.init_scale / start.norm()
        facts = {"samples": len(inputs), "shape": list(loss.shape), "depth": self.depth}
        return Setup(flow, start.to(**options), facts=facts)

    def run(self, stages: Stages) -> Result:
        """Run the flow of W, the flow of the layers, and descent on the layers."""
        from gflow.settings.flow_and_descent import run_paths

        return run_paths(self, stages)
