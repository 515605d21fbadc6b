"""Pairs of points of a fully connected network, layer by layer."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gflow.kernels.angles import one_minus_and_plus_cosine, unit_and_square
from gflow.kernels.layers import Layers, Split, split
from gflow.kernels.pairs import first_pair, join, sine


class Side(NamedTuple):
    """One side of the kernel: unit vectors, and every layer's deviations."""

    unit: Tensor
    splits: tuple[Split, ...]  # of the pre-activations, depth + 1
    features: tuple[Tensor, ...]  # √E[φ²], depth

    def part(self, rows: slice, shape: tuple[int, ...]) -> Side:
        """Some of the points, their numbers in a shape that broadcasts against the others'."""
        return Side(
            self.unit[rows],
            tuple(Split(*(v[rows].reshape(shape) for v in s)) for s in self.splits),
            tuple(h[rows].reshape(shape) for h in self.features),
        )


def make_side(x: Tensor, layers: Layers) -> Side:
    """Points (n, d) with what every layer makes of each alone."""
    unit, square = unit_and_square(x)
    splits = [split(square * (layers.w[0] / math.sqrt(x.shape[1])) ** 2, layers.b[0])]
    features = []
    for w, b in zip(layers.w[1:], layers.b[1:], strict=True):
        variance = layers.activation.feature_variance(splits[-1].std, splits[-1].variance)
        features.append(variance.sqrt())
        splits.append(split(w * w * variance, b))
    return Side(unit, tuple(splits), tuple(features))


def _propagate(u: Tensor, s: Tensor, a: Side, b: Side, layers: Layers) -> Tensor:
    """Θ, or K where nothing is trained, from u and s of the first pre-activations.

    It is divided by the deviations of the two points' outputs, and so is Θ all along.
    """
    theta = 1.0 - u if layers.trained[0] else None
    for k in range(layers.depth):
        a_in, b_in, a_out, b_out = a.splits[k], b.splits[k], a.splits[k + 1], b.splits[k + 1]
        u, slope = layers.activation.pair(
            a_in.std, b_in.std, a.features[k], b.features[k], u, s if k == 0 else sine(u)
        )
        if theta is not None:
            theta.mul_(slope)
        if layers.b[k + 1]:
            u = join(u, a_out, b_out)
            if theta is not None:
                theta.mul_(a_out.cos * b_out.cos)
        if layers.trained[k + 1]:
            theta = 1.0 - u if theta is None else theta.sub_(u).add_(1.0)
    return 1.0 - u if theta is None else theta


def propagate(a: Side, b: Side, layers: Layers) -> Tensor:
    """Θ, or K where nothing is trained, of all pairs: a's numbers are columns, b's are rows."""
    minus, plus = one_minus_and_plus_cosine(a.unit, b.unit)
    biased, even = layers.b[0] > 0, layers.activation.even
    u, s = first_pair(minus, plus, a.splits[0], b.splits[0], biased, even)
    return _propagate(u, s, a, b, layers).mul_(a.splits[-1].std).mul_(b.splits[-1].std)


def diagonal(a: Side, layers: Layers) -> Tensor:
    """The kernel of each point with itself, without the rounding of an angle."""
    same = torch.zeros_like(a.features[0])
    return _propagate(same, same.clone(), a, a, layers).mul_(a.splits[-1].variance)
