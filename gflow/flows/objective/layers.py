r"""Value and gradient of a stack of linear layers by a backward pass of its own, without a graph.

    z_l = h_{l−1}W_lᵀ + b_l,  h_l = φ(z_l),   δ_l = φ'(z_l) ∘ (δ_{l+1}W_{l+1}),
    ∂ℓ/∂W_l = δ_lᵀh_{l−1},  ∂ℓ/∂b_l = Σ_rows δ_l,   from δ_L = φ'(z_L) ∘ ∂ℓ/∂h_L

These are the operations of autograd in its order, so the digits are the same. What is saved is all
around them: the substitution of parameters, the recording of the graph, and the engine that walks
it. That is a third of an evaluation of 500 samples of 64 numbers, and most of one of a few samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gflow.flows.objective.chunks import Chunk, Criterion, require_scalar
from gflow.flows.objective.criteria import HalfSquaredError

_aten = torch.ops.aten


class _Activation(NamedTuple):
    """An activation whose slope follows from its values.

    Both work in place: at 500 samples the memory of another array takes longer than the arithmetic.
    """

    apply: Callable[[Tensor], Tensor]  #: z ↦ φ(z)
    pull_back: Callable[..., Tensor]  #: δ, φ(z) ↦ φ'(z) ∘ δ, into the memory ``grad_input``


def _relu_backward(slope: Tensor, h: Tensor, *, grad_input: Tensor) -> Tensor:
    result: Tensor = _aten.threshold_backward.grad_input(slope, h, 0, grad_input=grad_input)
    return result


_ACTIVATIONS: Mapping[type[nn.Module], _Activation] = {
    nn.Tanh: _Activation(torch.tanh_, _aten.tanh_backward.grad_input),
    nn.Sigmoid: _Activation(torch.sigmoid_, _aten.sigmoid_backward.grad_input),
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
    """

    def __init__(self, module: nn.Sequential, criterion: Criterion, layers: Sequence[Layer]):
        self._module, self._criterion, self._layers = module, criterion, layers
        self._children = tuple(module)

    def is_unchanged(self) -> bool:
        """Whether the module is as it was when its layers were found, without hooks."""
        children = tuple(self._module)
        return children == self._children and not any(map(_has_hooks, (self._module, *children)))

    def outputs(self, inputs: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Compute the outputs (n, k) of inputs (n, d)."""
        return self._forward(inputs, parameters)[-1]

    def value(self, chunk: Chunk, parameters: Sequence[Tensor]) -> Tensor:
        """Compute a chunk's part of the loss."""
        loss = self._criterion(self.outputs(chunk.inputs, parameters), chunk.targets)
        require_scalar(loss)
        return loss if chunk.weight == 1.0 else chunk.weight * loss

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
        path = self._forward(chunk.inputs, parameters)
        loss, slope = self._loss_and_slope(path[-1], chunk)
        gradients: list[Tensor] = [slope] * len(parameters)
        for i in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[i]
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
        criterion, targets = self._criterion, chunk.targets
        # Where shapes are broadcast, the gradient is a sum.
        is_alike = outputs.shape == targets.shape and outputs.dtype == targets.dtype
        if isinstance(criterion, HalfSquaredError) and is_alike and chunk.weight == 1.0:
            return criterion(outputs, targets), criterion.slope(outputs, targets)
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            loss = criterion(outputs, targets)
            require_scalar(loss)
            loss = loss if chunk.weight == 1.0 else chunk.weight * loss
            (slope,) = torch.autograd.grad(loss, outputs)
        return loss, slope

    def _forward(self, inputs: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return the values h of every layer."""
        path, h = [], inputs
        for layer in self._layers:
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


def _has_hooks(module: nn.Module) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(vars(module).get(name) for name in hooks)
