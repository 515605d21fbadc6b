"""What settings on a network share: its model, its loss, and the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from gflow.settings.base import RUNS_CODE, Count, Scenario, Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from gflow.data.named import Data
    from gflow.flows import NetworkFlow
    from gflow.results.base import Setup

_BUILT_IN = ("mlp", "linear", "cnn")


class NetworkScenario(Scenario):
    """A setting whose flow is that of a network's parameters, L a mean over samples."""

    model: Text = Field(
        "mlp",
        description="mlp, linear, cnn, or your own by import path: package.module:make_model, "
        "called without arguments; said on the command line only, as it runs code",
        json_schema_extra=RUNS_CODE,
    )
    width: Count = Field(64, description="of a built-in model: width of the hidden layers")
    depth: Annotated[int, Field(ge=0, le=1000)] = Field(
        2, description="of mlp and linear: number of hidden layers"
    )
    activation: Literal["tanh", "relu", "gelu", "silu", "elu", "softplus"] = Field(
        "tanh", description="of mlp and cnn"
    )
    bias: bool = Field(True, description="of mlp: biases; linear has none, cnn always")
    criterion: Literal["squared-error", "cross-entropy"] = Field(
        "squared-error",
        description="mean over samples of half the squared error (one-hot classes), or of the "
        "cross-entropy",
    )
    chunk: Count | None = Field(
        None, description="take so many samples at a time, where all do not fit in memory"
    )
    inputs: Count = Field(10, description="with synthetic data: dimension of the inputs")

    def _data(self) -> Data:
        from gflow.data.named import load
        from gflow.data.synthetic import synthetic_regression
        from gflow.preparation import subset

        if self.data == "synthetic":
            return synthetic_regression(self.samples or 100, self.inputs, 1, 0.1, self.seed)
        return subset(load(self.data), self.samples, self.classes)

    def _factory(self, data: Data, outputs: int) -> Callable[[], nn.Module]:
        from gflow.errors import InputError
        from gflow.settings import architectures as built_in
        from gflow.text import unknown

        inputs = data.inputs.shape[1]
        if self.model == "mlp":
            shape = (inputs, outputs, self.width, self.depth)
            return lambda: built_in.mlp(*shape, self.activation, self.bias)
        if self.model == "linear":
            return lambda: built_in.linear(inputs, outputs, self.width, self.depth)
        if self.model == "cnn":
            image = data.image
            if image is None:
                raise InputError(
                    f"a cnn needs images, but those of {data.name} have no known shape; use "
                    "digits, mnist:FOLDER, cifar10:FOLDER, or --model mlp"
                )
            return lambda: built_in.cnn(image, outputs, self.width, self.activation)
        if ":" in self.model:
            return built_in.factory(self.model)
        raise InputError(f"{unknown('model', self.model, _BUILT_IN)}; or package.module:function")

    def setup(self) -> Setup:
        """The network's flow and start."""
        from gflow.results.base import Setup

        flow, start, _, facts = self._build()
        return Setup(flow, start, facts=facts)

    def _build(self) -> tuple[NetworkFlow, Tensor, Tensor | None, dict[str, Any]]:
        """Flow, start, the samples' classes where there are any, and facts for the summary.

        Centred images or standardised columns, one-hot classes or standardised numbers.
        """
        import torch
        from torch import nn

        from gflow.distributed import current
        from gflow.errors import InputError
        from gflow.flows import NetworkFlow
        from gflow.preparation import one_hot, regression_targets, standardise
        from gflow.settings.architectures import build, require_fit

        options, team = self.torch_options(), current()
        # Of a team every process takes its own rows to its device.
        held = options if team is None else {**options, "device": "cpu"}
        data = self._data()
        rows = data.inputs
        rows = standardise(rows) if data.image is None else rows - rows.mean(axis=0)
        inputs = torch.as_tensor(rows, **held)
        table = regression_targets(data) if data.classes is None else one_hot(data)
        targets = torch.as_tensor(table, **held)
        module = build(self._factory(data, targets.shape[1]), self.seed, options["dtype"])
        module = module.to(options["device"]).eval()
        require_fit(module, inputs[:2].to(options["device"]), targets.shape[1])
        criterion: Callable[[Tensor, Tensor], Tensor] = half_squared_error
        goal = targets
        if self.criterion == "cross-entropy":
            if data.classes is None:
                raise InputError(
                    f"cross-entropy needs classes, but the targets of {data.name} are numbers; "
                    "use --criterion squared-error"
                )
            criterion, goal = nn.functional.cross_entropy, targets.argmax(1)
        flow = NetworkFlow(module, criterion, inputs, goal, chunk=self.chunk, team=team)
        start = flow.pack()
        labels = None if data.classes is None else targets.argmax(1).to(start.device)
        facts = {"samples": len(inputs), "parameters": len(start), "model": self.model}
        return flow, start, labels, facts


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """½ squared error, summed over outputs and averaged over samples."""
    return 0.5 * (outputs - targets).square().sum(1).mean()
