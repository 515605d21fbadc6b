"""The base of settings on a network: its model, its loss, and the data."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from gflow.settings.base import RUNS_CODE, Count, Scales, Scenario, Text

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor, nn

    from gflow.data.named import Data
    from gflow.flows import NetworkFlow
    from gflow.results.base import Setup

_BUILT_IN = ("mlp", "linear", "cnn", "transformer", "linear-attention")
_OF_TABLES = ("mlp", "linear", "cnn")  # they take rows of numbers, scaled
_DRAWN = "in-context-regression"


class NetworkScenario(Scenario):
    """A setting on the flow of a network's parameters, with L a mean over samples."""

    model: Text = Field(
        "mlp",
        description="mlp, linear, cnn, transformer, linear-attention, or your own by import path, "
        "package.module:make_model, a function without arguments. An import path runs code, so it "
        "must be given on the command line",
        json_schema_extra=RUNS_CODE,
    )
    width: Count = Field(
        64,
        description="width of the hidden layers of a built-in model; in linear attention the rank "
        "of keys and queries",
    )
    heads: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1, description="attention heads of a transformer or of linear attention"
    )
    init_scale: Scales = Field(
        1.0,
        description="number that multiplies all initial parameters, or one for each layer",
    )
    depth: Annotated[int, Field(ge=0, le=1000)] = Field(
        2, description="number of hidden layers of an mlp or linear network"
    )
    activation: Literal["tanh", "relu", "gelu", "silu", "elu", "softplus", "square"] = Field(
        "tanh", description="activation of an mlp, cnn or transformer; square is z²"
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
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="λ of ½λ‖θ‖², which is added to the loss"
    )
    inputs: Count = Field(10, description="with data that are drawn: dimension of the inputs")
    length: Count = Field(
        32, description="with in-context-regression: number of examples in a sequence"
    )

    def _held_out(self) -> int:
        """Return the number of held-out samples."""
        return 0

    def _train_fraction(self) -> float | None:
        """Return the part of the samples to train on, where it is given."""
        return None

    def _samples_of(self, data: Data, held_out: int) -> int | None:
        """Return the number of samples to train on; None where all that are left are used."""
        count = self.samples
        if count is not None and self.may_have_fewer(data, count + held_out):
            return None
        return count

    def _measures(self) -> tuple[str, ...]:
        """Return what to measure beside what costs little."""
        return ()

    def _data(self) -> tuple[Data, Data | None]:
        """Return the samples, and held-out ones if there are any."""
        from gflow.data.sequences import in_context_regression
        from gflow.data.synthetic import synthetic_regression
        from gflow.errors import InputError
        from gflow.preparation import split_off, subset

        held_out, fraction = self._held_out(), self._train_fraction()
        if fraction is not None and held_out:
            raise InputError(
                "train_fraction and test_samples both say how many samples are held out; leave "
                "out one"
            )
        if self.data in ("synthetic", _DRAWN):
            count = (self.samples or 100) + held_out
            if self.data == _DRAWN:
                data = in_context_regression(count, self.length, self.inputs, seed=self.seed)
            else:
                data = synthetic_regression(count, self.inputs, 1, 0.1, self.seed)
        elif held_out or fraction is not None:
            data = self.whole_data(tokens=True)
        else:
            data = self.load_data(tokens=True)
        if fraction is None and not held_out:
            return data, None
        if fraction is None:
            return split_off(data, self._samples_of(data, held_out), held_out)
        if self.samples is not None and self.fewer_samples:
            warnings.warn(
                f"train_fraction splits all {len(data.inputs)} samples of {data.name}, not the "
                f"first {self.samples} of the scenario; give --samples to split these",
                stacklevel=2,
            )
        elif self.samples is not None:
            data = subset(data, self.samples)
        count = len(data.inputs)
        train = min(max(1, round(fraction * count)), count - 1)
        return split_off(data, train, count - train)

    def _factory(self, data: Data, outputs: int) -> Callable[[], nn.Module]:
        from gflow.errors import InputError
        from gflow.settings import architectures as built_in
        from gflow.text import unknown

        inputs = data.inputs.shape[1] * (data.symbols or 1)  # one-hot tokens
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
        if self.model == "transformer":
            return self._transformer(data, outputs)
        if self.model == "linear-attention":
            return self._linear_attention(data, outputs)
        if ":" in self.model:
            return built_in.factory(self.model)
        raise InputError(f"{unknown('model', self.model, _BUILT_IN)}; or package.module:function")

    def _transformer(self, data: Data, outputs: int) -> Callable[[], nn.Module]:
        from gflow.errors import InputError
        from gflow.networks.attention import Transformer
        from gflow.settings.architectures import activation_layer

        if data.shape is None or len(data.shape) != (2 if data.symbols is None else 1):
            raise InputError(
                f"a transformer needs sequences, but the samples of {data.name} are rows of "
                "numbers; use modular:P, in-context-regression, or an .npz file with an array "
                "tokens (samples, length) or inputs (samples, length, channels)"
            )
        if self.width % self.heads:
            raise InputError(
                f"the heads of a transformer must divide its width, got {self.heads} heads and "
                f"width {self.width}; change one"
            )
        shape = (data.shape, data.symbols, outputs, self.width, self.heads)
        return lambda: Transformer(*shape, activation_layer(self.activation))

    def _linear_attention(self, data: Data, outputs: int) -> Callable[[], nn.Module]:
        from gflow.errors import InputError
        from gflow.networks.attention import LinearAttention

        shape = data.shape
        if shape is None or len(shape) != 2 or data.symbols is not None or shape[0] < 2:
            raise InputError(
                f"linear attention needs sequences of at least two vectors, but {data.name} has "
                "none; use in-context-regression, or an .npz file with inputs (samples, length, "
                "channels)"
            )
        if outputs != 1:
            raise InputError(
                f"linear attention predicts one number, but {data.name} has {outputs} targets a "
                "sample; use data with one"
            )
        return lambda: LinearAttention(shape[1], self.heads, self.width)

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
        from gflow.flows.objective.criteria import HalfSquaredError
        from gflow.settings.architectures import build, require_fit, scale_layers

        options, team = self.torch_options(), current()
        # In a team every process moves its own rows to its device.
        data_options = options if team is None else {**options, "device": "cpu"}
        data, held_out = self._data()

        of_tables = self.model in _OF_TABLES

        def tensors(part: Data) -> tuple[Tensor, Tensor]:
            rows, table = _tables(part, data) if of_tables else _samples(part, data)
            inputs = torch.as_tensor(rows, **data_options)
            if data.symbols is not None and not of_tables:
                inputs = inputs.long()
            return inputs, torch.as_tensor(table, **data_options)

        inputs, targets = tensors(data)
        test = None if held_out is None else tensors(held_out)
        module = build(self._factory(data, targets.shape[1]), self.seed, options["dtype"])
        module = module.to(options["device"]).eval()
        if self.init_scale != 1:
            scale_layers(module, self.init_scale)
        require_fit(module, inputs[:2].to(options["device"]), targets.shape[1])
        criterion: Callable[[Tensor, Tensor], Tensor] = HalfSquaredError()
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
            measure=self._measures(),
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
    from gflow.preparation import one_hot_tokens, standardise

    if part.symbols is not None:
        return one_hot_tokens(part).inputs, _targets(part, train)
    rows, known = part.inputs, train.inputs
    by = None if part is train else known  # one computation, to the bit, without held-out data
    rows = standardise(rows, by) if part.image is None else rows - known.mean(axis=0)
    return rows, _targets(part, train)


def _targets(part: Data, train: Data) -> np.ndarray:
    from gflow.preparation import one_hot, regression_targets, standardise

    if part.classes is not None:
        return one_hot(part)
    whole = regression_targets(train)  # checks them
    return whole if part is train else standardise(part.targets, train.targets)


def _samples(part: Data, train: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return samples in their own shape: sequences as they are, rows scaled as those to train on.

    Targets of sequences of vectors are as they are, too.
    """
    if part.shape is None:
        return _tables(part, train)
    rows = part.inputs.reshape(len(part.inputs), *part.shape)
    return rows, part.targets if part.classes is None else _targets(part, train)
