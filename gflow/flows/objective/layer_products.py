r"""Products with the Hessian of a stack of linear layers, without a graph.

Along a direction of weights V_l and biases c_l, with a dot for the derivative:

    ż_l = ḣ_{l−1}W_lᵀ + h_{l−1}V_lᵀ + c_l,      ḣ_l = φ'(z_l) ∘ ż_l,     ḣ_0 = 0
    ṡ_l = δ̇_{l+1}W_{l+1} + δ_{l+1}V_{l+1},      δ̇_l = φ'(z_l) ∘ ṡ_l + (φ''/φ')(z_l) ∘ s_l ∘ ḣ_l
    (Hv)_{W_l} = δ̇_lᵀh_{l−1} + δ_lᵀḣ_{l−1},     (Hv)_{b_l} = Σ_rows δ̇_l

from ṡ_L = (∂²ℓ/∂h_L²)ḣ_L, with s_l = ∂ℓ/∂h_l and δ_l = ∂ℓ/∂z_l of `gflow.flows.objective.layers`.
Values and slopes at θ are computed once for all products (Pearlmutter 1994).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gflow.flows.objective.chunks import Chunk
from gflow.flows.objective.layers import LayeredLoss
from gflow.flows.pullback import pull_back


class LayeredHessian:
    """The gradient of a chunk's part of the loss at one θ, and products with its Hessian.

    Parameters
    ----------
    loss : LayeredLoss
    chunk : Chunk
        Without a regulariser.
    parameters : sequence of Tensor
        Of the module, in the order of the gradient.

    Examples
    --------
    >>> from gflow.flows.objective.layers import find_layers
    >>> stack, x = nn.Sequential(nn.Linear(1, 1, bias=False)), torch.ones(1, 1)
    >>> own, chunk = list(stack.parameters()), Chunk(x, 0 * x, 1.0)
    >>> loss = find_layers(stack, nn.functional.mse_loss, own, chunk)
    >>> LayeredHessian(loss, chunk, [torch.ones(1, 1)]).product(torch.ones(1))   # of w²
    tensor([2.])
    """

    def __init__(self, loss: LayeredLoss, chunk: Chunk, parameters: Sequence[Tensor]):
        self._layers, self._parameters = loss.layers, parameters
        path = loss.forward(chunk.inputs, parameters)
        self._inputs, self._values = [chunk.inputs, *path[:-1]], path
        slope, self._curvature = _slope_and_curvature(loss, path[-1], chunk)
        #: δ_l, and (φ''/φ')(z_l) ∘ s_l
        self._slopes: list[Tensor] = [slope] * len(path)
        self._bends: list[Tensor | None] = [None] * len(path)
        for i in range(len(path) - 1, -1, -1):
            layer = self._layers[i]
            if layer.activation is not None:
                if layer.activation.bend is not None:
                    self._bends[i] = layer.activation.bend(path[i]).mul_(slope)
                slope = layer.activation.pull_back(slope, path[i], grad_input=slope)
            self._slopes[i] = slope
            if i:
                slope = slope @ parameters[layer.weight]

    def gradient(self) -> Tensor:
        """Compute ∇L(θ), (p,)."""
        gradients = list(self._parameters)
        for layer, slope, inputs in zip(self._layers, self._slopes, self._inputs, strict=True):
            gradients[layer.weight] = slope.t() @ inputs
            if layer.bias is not None:
                gradients[layer.bias] = slope.sum(0)
        return _vector(gradients)

    def product(self, v: Tensor) -> Tensor:
        """Compute ∇²L(θ)·v of a direction (p,)."""
        parts = v.detach().split([p.numel() for p in self._parameters])
        along = [x.reshape(p.shape) for x, p in zip(parts, self._parameters, strict=True)]
        changes = self._forward(along)
        products: list[Tensor] = [v] * len(along)
        slope = self._curvature(changes[-1])
        for i in range(len(changes) - 1, -1, -1):
            layer, bend = self._layers[i], self._bends[i]
            if layer.activation is not None:
                slope = layer.activation.pull_back(slope, self._values[i], grad_input=slope)
            if bend is not None:
                slope.addcmul_(bend, changes[i])
            products[layer.weight] = slope.t() @ self._inputs[i]
            if layer.bias is not None:
                products[layer.bias] = slope.sum(0)
            if i:
                products[layer.weight].addmm_(self._slopes[i].t(), changes[i - 1])
                slope = slope @ self._parameters[layer.weight]
                slope.addmm_(self._slopes[i], along[layer.weight])
        return _vector(products)

    def _forward(self, along: Sequence[Tensor]) -> list[Tensor]:
        """Compute the changes ḣ_l of the values of every layer."""
        changes: list[Tensor] = []
        for i, layer in enumerate(self._layers):
            bias = None if layer.bias is None else along[layer.bias]
            change = nn.functional.linear(self._inputs[i], along[layer.weight], bias)
            if changes:
                change.addmm_(changes[-1], self._parameters[layer.weight].t())
            if layer.activation is not None:
                change = layer.activation.pull_back(change, self._values[i], grad_input=change)
            changes.append(change)
        return changes


def _vector(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _slope_and_curvature(
    loss: LayeredLoss, outputs: Tensor, chunk: Chunk
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Compute s = ∂ℓ/∂outputs, (n, k), and return u ↦ (∂²ℓ/∂outputs²)u; both in new memory."""
    half_square = loss.half_square(outputs, chunk)
    if half_square is not None:
        share = 1 / len(outputs)
        return half_square.slope(outputs, chunk.targets), lambda u: share * u
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss.at_outputs(leaf, chunk), leaf, create_graph=True)
    if not slope.requires_grad:  # an affine criterion
        return slope.detach().contiguous().clone(), torch.zeros_like
    return (
        slope.detach().contiguous().clone(),
        lambda u: pull_back([slope], [leaf], [u], retain_graph=True)[0].contiguous().clone(),
    )
