r"""Value and gradient of a stack of linear layers by a backward pass of its own, without a graph.

    z_l = h_{l−1}W_lᵀ + b_l,  h_l = φ(z_l),   δ_l = φ'(z_l) ∘ (δ_{l+1}W_{l+1}),
    ∂ℓ/∂W_l = δ_lᵀh_{l−1},  ∂ℓ/∂b_l = Σ_rows δ_l,   from δ_L = φ'(z_L) ∘ ∂ℓ/∂h_L

These are the operations of autograd in its order, so the digits are the same but for the last one
of tanh. What is saved is all around them: the substitution of parameters, the recording of the
graph, and the engine that walks it. That is a third of an evaluation of 500 samples of 64 numbers,
and most of one of a few samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gflow.flows.objective.chunks import Chunk, Criterion, require_scalar
from gflow.flows.objective.criteria import HalfSquaredError

_aten = torch.ops.aten
_FEW = 512  # numbers
_GRAIN, _FEW_THREADS = 2**15, 3  # numbers for each of torch's threads


class _Activation(NamedTuple):
    """An activation whose slope follows from its values.

    Both work in place: at 500 samples the memory of another array takes longer than the arithmetic.
    """

    apply: Callable[[Tensor], Tensor]  #: z ↦ φ(z)
    pull_back: Callable[..., Tensor]  #: δ, φ(z) ↦ φ'(z) ∘ δ, into the memory ``grad_input``
    bend: Callable[[Tensor], Tensor] | None = None  #: φ(z) ↦ φ''(z)/φ'(z); None where φ'' = 0


def _tanh(z: Tensor) -> Tensor:
    """tanh in place, by NumPy on the processor: on one thread it takes a third of torch's time.

    Both are right to about one unit in the last place. Few numbers are not worth the call, and many
    are divided among torch's threads.
    """
    threads = min(torch.get_num_threads(), z.numel() // _GRAIN)
    if z.device.type != "cpu" or z.numel() < _FEW or threads > _FEW_THREADS:
        return torch.tanh_(z)
    array = z.numpy()
    np.tanh(array, out=array)
    return z


def _relu_backward(slope: Tensor, h: Tensor, *, grad_input: Tensor) -> Tensor:
    result: Tensor = _aten.threshold_backward.grad_input(slope, h, 0, grad_input=grad_input)
    return result


_ACTIVATIONS: Mapping[type[nn.Module], _Activation] = {
    nn.Tanh: _Activation(_tanh, _aten.tanh_backward.grad_input, lambda h: -2 * h),
    nn.Sigmoid: _Activation(torch.sigmoid_, _aten.sigmoid_backward.grad_input, lambda h: 1 - 2 * h),
    nn.ReLU: _Activation(torch.relu_, _relu_backward),
}


class Layer(NamedTuple):
    """A linear layer and the activation behind it, if any.

    Attributes
    ----------
    weight : int
        The place of W among the parameters.
    bias : int or None
        The place of b.
    activation : _Activation or None
    """

    weight: int
    bias: int | None
    activation: _Activation | None


class LayeredLoss:
    """The criterion of a stack of linear layers, with its gradient.

    Parameters
    ----------
    module : nn.Sequential
    criterion : callable
        ``criterion(outputs, targets)`` → scalar tensor, which depends on the outputs alone.
    layers : sequence of Layer
        Of the module, as `find_layers` returns them.

    Attributes
    ----------
    criterion, layers
        As given.
    width : int
        Of the widest layer, inputs and outputs included.
    """

    def __init__(self, module: nn.Sequential, criterion: Criterion, layers: Sequence[Layer]):
        self._module, self.criterion, self.layers = module, criterion, layers
        self._children = tuple(module)
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        self._hooks = tuple(vars(m)[name] for m in (module, *module) for name in hooks)
        self.width = max(max(p.shape) for p in module.parameters())

    def is_unchanged(self) -> bool:
        """Whether the module is as it was when its layers were found, without hooks."""
        return tuple(self._module) == self._children and not any(self._hooks)

    def outputs(self, inputs: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Compute the outputs (n, k) of inputs (n, d)."""
        return self.forward(inputs, parameters)[-1]

    def value(self, chunk: Chunk, parameters: Sequence[Tensor]) -> Tensor:
        """Compute a chunk's part of the loss."""
        return self.at_outputs(self.outputs(chunk.inputs, parameters), chunk)

    def value_and_gradient(
        self, chunk: Chunk, parameters: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Compute a chunk's part of the loss and its gradient, (p,).

        Parameters
        ----------
        chunk : Chunk
            Without a regulariser.
        parameters : sequence of Tensor
            Of the module, in the order of the gradient.

        Returns
        -------
        loss : Tensor, shape ()
        gradient : Tensor, shape (p,)
        """
        path = self.forward(chunk.inputs, parameters)
        loss, slope = self._loss_and_slope(path[-1], chunk)
        gradients: list[Tensor] = [slope] * len(parameters)
        for i in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[i]
            if layer.activation is not None:
                slope = layer.activation.pull_back(slope, path[i], grad_input=slope)
            gradients[layer.weight] = slope.t() @ (path[i - 1] if i else chunk.inputs)
            if layer.bias is not None:
                gradients[layer.bias] = slope.sum(0)
            if i:
                slope = slope @ parameters[layer.weight]
        return loss.detach(), torch.cat([gradient.flatten() for gradient in gradients])

    def _loss_and_slope(self, outputs: Tensor, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """Compute a chunk's part of the loss and its gradient by the outputs."""
        half_square = self.half_square(outputs, chunk)
        if half_square is not None:
            targets = chunk.targets
            return half_square(outputs, targets), half_square.slope(outputs, targets)
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            loss = self.at_outputs(outputs, chunk)
            (slope,) = torch.autograd.grad(loss, outputs)
        return loss, slope

    def half_square(self, outputs: Tensor, chunk: Chunk) -> HalfSquaredError | None:
        """Return the criterion where it is the squared error, with a slope of its own."""
        criterion, targets = self.criterion, chunk.targets
        # Where shapes are broadcast, the gradient is a sum.
        is_alike = outputs.shape == targets.shape and outputs.dtype == targets.dtype
        if isinstance(criterion, HalfSquaredError) and is_alike and chunk.weight == 1.0:
            return criterion
        return None

    def at_outputs(self, outputs: Tensor, chunk: Chunk) -> Tensor:
        """Compute a chunk's part of the loss from its outputs."""
        loss = self.criterion(outputs, chunk.targets)
        require_scalar(loss)
        return loss if chunk.weight == 1.0 else chunk.weight * loss

    def forward(self, inputs: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Compute the values h_l of every layer."""
        path, h = [], inputs
        for layer in self.layers:
            bias = None if layer.bias is None else parameters[layer.bias]
            h = nn.functional.linear(h, parameters[layer.weight], bias)
            if layer.activation is not None:
                h = layer.activation.apply(h)
            path.append(h)
        return path


def find_layers(
    module: nn.Module, criterion: Criterion, parameters: Sequence[Tensor], chunk: Chunk
) -> LayeredLoss | None:
    """Return the loss of a module by its layers; None where it is no plain stack of them.

    Parameters
    ----------
    module : nn.Module
    criterion : callable
        ``criterion(outputs, targets)`` → scalar tensor.
    parameters : sequence of nn.Parameter
        The trainable ones.
    chunk : Chunk
        Samples, on which the criterion is tried.

    Returns
    -------
    LayeredLoss or None
        None as well where the criterion depends on parameters beside the outputs.

    Examples
    --------
    >>> stack, x = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), torch.ones(5, 2)
    >>> own, chunk = list(stack.parameters()), Chunk(x, x[:, :1], 1.0)
    >>> found = find_layers(stack, nn.functional.mse_loss, own, chunk)
    >>> found.value_and_gradient(chunk, [p.detach() for p in own])[1].shape
    torch.Size([13])
    >>> find_layers(nn.Sequential(nn.Linear(2, 1), nn.LayerNorm(1)), None, own, chunk) is None
    True
    """
    places = {id(p): i for i, p in enumerate(parameters)}
    layers = _stack(module, places)
    if layers is None or not isinstance(module, nn.Sequential) or not _are_rows(chunk.inputs):
        return None
    with torch.no_grad():
        outputs = module(chunk.inputs)
    with torch.enable_grad():
        if criterion(outputs, chunk.targets).requires_grad:
            return None
    found = LayeredLoss(module, criterion, layers)
    return found if found.is_unchanged() else None


def _stack(module: nn.Module, places: Mapping[int, int]) -> list[Layer] | None:
    """Return the layers of a plain stack in which each parameter has one place; else None."""
    if type(module) is not nn.Sequential or "forward" in vars(module):
        return None
    layers: list[Layer] = []
    used: list[int] = []
    for child in module:
        if "forward" in vars(child):
            return None
        if type(child) is nn.Linear:
            weight = places.get(id(child.weight))
            bias = None if child.bias is None else places.get(id(child.bias), -1)
            if weight is None or bias == -1:  # not trained
                return None
            layers.append(Layer(weight, bias, None))
            used += [weight] if bias is None else [weight, bias]
        elif type(child) in _ACTIVATIONS and layers and layers[-1].activation is None:
            layers[-1] = layers[-1]._replace(activation=_ACTIVATIONS[type(child)])
        else:
            return None
    return layers if sorted(used) == list(range(len(places))) else None


def _are_rows(inputs: Tensor) -> bool:
    """Whether inputs are plain (n, d), which nobody differentiates by."""
    is_plain = type(inputs) is Tensor and inputs.layout is torch.strided
    return is_plain and inputs.ndim == 2 and inputs.is_floating_point() and not inputs.requires_grad
