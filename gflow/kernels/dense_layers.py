"""Pairs of points of a fully connected network, layer by layer."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gflow.kernels.angles import one_minus_and_plus_cosine, unit_and_square
from gflow.kernels.layers import Layers, PreActivations, pre_activations
from gflow.kernels.pairs import first_pair, join_bias, sine


class Points(NamedTuple):
    """One side of the kernel: unit vectors, and the deviations in every layer.

    Attributes
    ----------
    unit : Tensor, shape (n, d)
    pre_activations : tuple of PreActivations
        Of all depth + 1 layers.
    features : tuple of Tensor
        √E[φ²] of the depth hidden layers.
    """

    unit: Tensor
    pre_activations: tuple[PreActivations, ...]
    features: tuple[Tensor, ...]

    def part(self, rows: slice, shape: tuple[int, ...]) -> Points:
        """Return some of the points, their deviations in a shape that broadcasts."""
        return Points(
            self.unit[rows],
            tuple(
                PreActivations(*(v[rows].reshape(shape) for v in z)) for z in self.pre_activations
            ),
            tuple(h[rows].reshape(shape) for h in self.features),
        )


def propagate_points(x: Tensor, layers: Layers) -> Points:
    """Propagate single points through all layers.

    Parameters
    ----------
    x : Tensor, shape (n, d)
        Points, one a row.
    layers : Layers
        The network.

    Returns
    -------
    Points

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels.layers import make_layers
    >>> points = propagate_points(torch.tensor([[3.0, 4.0]]), make_layers(w_std=2**0.5))
    >>> [round(z.std.item(), 6) for z in points.pre_activations]   # √2·5/√2, then ReLU's half of 2
    [5.0, 5.0]
    """
    unit, square = unit_and_square(x)
    z = [pre_activations(square * (layers.w[0] / math.sqrt(x.shape[1])) ** 2, layers.b[0])]
    features = []
    for w, b in zip(layers.w[1:], layers.b[1:], strict=True):
        variance = layers.activation.feature_variance(z[-1].std, z[-1].variance)
        features.append(variance.sqrt())
        z.append(pre_activations(w * w * variance, b))
    return Points(unit, tuple(z), tuple(features))


def _propagate(u: Tensor, s: Tensor, a: Points, b: Points, layers: Layers) -> Tensor:
    """Return Θ, or K where nothing is trained, from u and s of the first pre-activations.

    Both are divided by the deviations of the two points' outputs, in every layer.
    """
    theta = 1.0 - u if layers.trained[0] else None
    for k in range(layers.depth):
        a_in, b_in = a.pre_activations[k], b.pre_activations[k]
        a_out, b_out = a.pre_activations[k + 1], b.pre_activations[k + 1]
        u, slope = layers.activation.pair(
            a_in.std, b_in.std, a.features[k], b.features[k], u, s if k == 0 else sine(u)
        )
        if theta is not None:
            theta.mul_(slope)
        if layers.b[k + 1]:
            u = join_bias(u, a_out, b_out)
            if theta is not None:
                theta.mul_(a_out.cos * b_out.cos)
        if layers.trained[k + 1]:
            theta = 1.0 - u if theta is None else theta.sub_(u).add_(1.0)
    return 1.0 - u if theta is None else theta


def propagate_pairs(a: Points, b: Points, layers: Layers) -> Tensor:
    """Propagate all pairs of points through all layers.

    Parameters
    ----------
    a, b : Points
        Points of both sides; the deviations of a are columns, those of b are rows.
    layers : Layers
        The network.

    Returns
    -------
    Tensor, shape (n_a, n_b)
        Θ, or K where nothing is trained.

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels.layers import make_layers
    >>> layers = make_layers(activation="linear")
    >>> points = propagate_points(torch.eye(2).double(), layers)
    >>> rows = slice(None)
    >>> K = propagate_pairs(points.part(rows, (-1, 1)), points.part(rows, (1, -1)), layers)
    >>> K.round(decimals=9).tolist()   # 2x·x'/d
    [[1.0, 0.0], [0.0, 1.0]]
    """
    minus, plus = one_minus_and_plus_cosine(a.unit, b.unit)
    u, s = first_pair(minus, plus, a.pre_activations[0], b.pre_activations[0], layers)
    theta = _propagate(u, s, a, b, layers)
    return theta.mul_(a.pre_activations[-1].std).mul_(b.pre_activations[-1].std)


def diagonal(a: Points, layers: Layers) -> Tensor:
    """Return the kernel of each point with itself, without the rounding of an angle.

    Parameters
    ----------
    a : Points
        Points, their deviations of shape (n,).
    layers : Layers
        The network.

    Returns
    -------
    Tensor, shape (n,)

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels.layers import make_layers
    >>> layers = make_layers(activation="linear")
    >>> diagonal(propagate_points(torch.eye(2).double(), layers), layers).round(decimals=9).tolist()
    [1.0, 1.0]
    """
    same = torch.zeros_like(a.features[0])
    theta = _propagate(same, same.clone(), a, a, layers)
    return theta.mul_(a.pre_activations[-1].variance)
