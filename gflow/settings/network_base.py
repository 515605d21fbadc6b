"""The base of settings on a network: its model, its loss, and the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from gflow.settings.base import RUNS_CODE, Count, Scenario, Text

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor, nn

    from gflow.data.named import Data
    from gflow.flows import NetworkFlow
    from gflow.results.base import Setup

_BUILT_IN = ("mlp", "linear", "cnn")


class NetworkScenario(Scenario):
    """A setting on the flow of a network's parameters, with L a mean over samples."""

    model: Text = Field(
        "mlp",
        description="mlp, linear, cnn, or your own by import path, package.module:make_model, a "
        "function without arguments. An import path runs code, so it must be given on the command "
        "line",
        json_schema_extra=RUNS_CODE,
    )
    width: Count = Field(64, description="width of the hidden layers of a built-in model")
    depth: Annotated[int, Field(ge=0, le=1000)] = Field(
        2, description="number of hidden layers of an mlp or linear network"
    )
    activation: Literal["tanh", "relu", "gelu", "silu", "elu", "softplus"] = Field(
        "tanh", description="activation of an mlp or cnn"
    )
    bias: bool = Field(
        True, description="biases of an mlp; a linear network never has them, a cnn always"
    )
    criterion: Literal["squared-error", "cross-entropy"] = Field(
        "squared-error",
        description="loss, a mean over samples: half the squared error (one-hot classes), or the "
        "cross-entropy",
    )
    chunk: Count | None = Field(
        None,
        description="number of samples to compute at a time; without one, all, which needs more "
        "memory",
    )
    test_samples: Count | None = Field(
        None,
        description="number of held-out samples, the rows after those of --samples; without "
        "--samples, the last rows",
    )
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="λ of ½λ‖θ‖², which is added to the loss"
    )
    measure: tuple[Text, ...] | None = Field(
        None,
        min_length=1,
        description="what to measure beside loss, accuracy, margin, gradient and norms: "
        "kernel_distance, kernel_alignment, hessian_eigenvalues:10, effective_ranks, ...",
    )
    inputs: Count = Field(10, description="with synthetic data: dimension of the inputs")

    def _data(self) -> tuple[Data, Data | None]:
        """Return the samples, and held-out ones if there are any."""
        from gflow.data.named import load
        from gflow.data.synthetic import synthetic_regression
        from gflow.preparation import split_off, subset

        held_out = self.test_samples or 0
        if self.data == "synthetic":
            count = (self.samples or 100) + held_out
            data = synthetic_regression(count, self.inputs, 1, 0.1, self.seed)
        elif held_out:
            data = subset(load(self.data), None, self.classes)
        else:
            data = self.load_data()
        return split_off(data, self.samples, held_out) if held_out else (data, None)

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
                    f"a cnn needs images, but the samples of {data.name} have no image shape; use "
                    "digits, mnist:FOLDER, cifar10:FOLDER, or --model mlp"
                )
            return lambda: built_in.cnn(image, outputs, self.width, self.activation)
        if ":" in self.model:
            return built_in.factory(self.model)
        raise InputError(f"{unknown('model', self.model, _BUILT_IN)}; or package.module:function")

    def setup(self) -> Setup:
        """Make the network's flow and its start."""
        from gflow.results.base import Setup

        flow, start, facts = self._build()
        return Setup(flow, start, facts=facts)

    def _build(self) -> tuple[NetworkFlow, Tensor, dict[str, Any]]:
        """Return flow, start, and facts for the summary.

        Inputs are centred images or standardised columns, targets one-hot classes or standardised
        numbers.
        """
        import torch
        from torch import nn

        from gflow.distributed import current
        from gflow.errors import InputError
        from gflow.flows import NetworkFlow
        from gflow.settings.architectures import build, require_fit

        options, team = self.torch_options(), current()
        # In a team every process moves its own rows to its device.
        data_options = options if team is None else {**options, "device": "cpu"}
        data, held_out = self._data()

        def tensors(part: Data) -> tuple[Tensor, Tensor]:
            rows, table = _tables(part, data)
            return torch.as_tensor(rows, **data_options), torch.as_tensor(table, **data_options)

        inputs, targets = tensors(data)
        test = None if held_out is None else tensors(held_out)
        module = build(self._factory(data, targets.shape[1]), self.seed, options["dtype"])
        module = module.to(options["device"]).eval()
        require_fit(module, inputs[:2].to(options["device"]), targets.shape[1])
        criterion: Callable[[Tensor, Tensor], Tensor] = half_squared_error
        criterion_targets = targets
        if self.criterion == "cross-entropy":
            if data.classes is None:
                raise InputError(
                    f"cross-entropy needs classes, but the targets of {data.name} are numbers; "
                    "use --criterion squared-error"
                )
            criterion, criterion_targets = nn.functional.cross_entropy, targets.argmax(1)
            test = None if test is None else (test[0], test[1].argmax(1))
        if test is not None:
            test = test[0].to(options["device"]), test[1].to(options["device"])
        flow = NetworkFlow(
            module,
            criterion,
            inputs,
            criterion_targets,
            weight_decay=self.weight_decay,
            test=test,
            measure=self.measure or (),
            chunk=self.chunk,
            team=team,
        )
        start = flow.pack()
        facts = {"samples": len(inputs), "parameters": len(start), "model": self.model}
        if test is not None:
            facts["test_samples"] = len(test[0])
        return flow, start, facts


def _tables(part: Data, train: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets of some samples, scaled as those to train on."""
    from gflow.preparation import one_hot, regression_targets, standardise

    rows, known = part.inputs, train.inputs
    by = None if part is train else known  # one computation, to the bit, without held-out data
    rows = standardise(rows, by) if part.image is None else rows - known.mean(axis=0)
    if part.classes is not None:
        return rows, one_hot(part)
    whole = regression_targets(train)  # checks them
    return rows, whole if part is train else standardise(part.targets, train.targets)


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return half the squared error, summed over outputs and averaged over samples.

    Parameters
    ----------
    outputs, targets : Tensor, shape (n, k)

    Returns
    -------
    Tensor, shape ()

    Examples
    --------
    >>> import torch
    >>> half_squared_error(torch.ones(4, 2), torch.zeros(4, 2))
    tensor(1.)
    """
    return 0.5 * (outputs - targets).square().sum(1).mean()
