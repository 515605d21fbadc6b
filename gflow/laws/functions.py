"""What functions of torch do to the streams of features of their arguments.

One function a kind: ``function(found, *arguments, **options)`` of `Features`, of `Weight` where the
network uses a parameter itself, and of constants. A function that is not in `FUNCTIONS` fixes what
it reads.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from gflow.laws.attention import residual
from gflow.laws.features import (
    Features,
    affine,
    alone,
    as_it_is,
    by_columns,
    column,
    fixed,
    homogeneous,
    only,
)
from gflow.laws.layers import flattened
from gflow.laws.symmetries import Symmetries
from gflow.laws.uses import End

Result = object


@dataclass(frozen=True)
class Weight:
    """A parameter that the network uses without a layer; its name is None where it is frozen."""

    name: str | None
    shape: tuple[int, ...]
    transposed: bool = False


def _add(found: Symmetries, x: object, y: object, **options: object) -> Result:
    """Add two tensors, or a bias."""
    if options or not (isinstance(x, Features) and isinstance(y, (Features, Weight))):
        swapped = isinstance(x, Weight) and isinstance(y, Features) and not options
        return _add(found, y, x) if swapped else fixed(found, x, y)
    if isinstance(y, Features):
        return residual(found, x, y)
    stream = x.streams.get(-1)
    if stream is None or y.name is None or y.shape != (found.widths[stream],) or x.order:
        return fixed(found, x)
    for axis, other in x.streams.items():
        if axis != -1:
            found.fix(other)
    found.use(y.name, End(stream, column, y.name))
    return Features({-1: stream})


def _subtract(found: Symmetries, x: object, y: object) -> Result:
    """Subtract two tensors: a sign changes no law."""
    return _add(found, x, y) if isinstance(x, Features) else fixed(found, x, y)


def _multiply(found: Symmetries, x: object, y: object) -> Result:
    """Multiply by a number, by a factor for each feature, or by another tensor of the network."""
    if not isinstance(x, Features):
        return _multiply(found, y, x) if isinstance(y, Features) else fixed(found, x, y)
    if isinstance(y, (int, float)):
        return x
    x = alone(found, x)
    if isinstance(y, Weight):
        return _gain(found, x, y)
    y = alone(found, y) if isinstance(y, Features) else y
    if not isinstance(y, Features) or x.order != y.order or set(x.streams) != set(y.streams):
        return fixed(found, x, y)
    streams = {}
    for axis, stream in x.streams.items():
        other = y.streams[axis]
        streams[axis] = found.stream(found.widths[stream])
        both = {stream: 2.0} if stream == other else {stream: 1.0, other: 1.0}
        found.powers(streams[axis], both)
    return Features(streams, x.order)


def _divide(found: Symmetries, x: object, y: object) -> Result:
    """Divide by a number."""
    return _multiply(found, x, y) if isinstance(y, (int, float)) else fixed(found, x, y)


def _gain(found: Symmetries, x: Features, gain: Weight) -> Features:
    stream = x.streams.get(-1)
    if gain.name is None or x.order or (stream and gain.shape != (found.widths[stream],)):
        return fixed(found, x)
    if len(gain.shape) != 1:
        return fixed(found, x)
    before, after = only(found, x, -1), found.stream(gain.shape[0])
    found.scalings_only(before)
    found.scalings_only(after)
    found.use(gain.name, End(after, column, gain.name), End(before, column, gain.name))
    return Features({-1: after})


def _power(found: Symmetries, x: object, exponent: object) -> Result:
    """Raise to a power: homogeneous of that degree."""
    if isinstance(x, Features) and isinstance(exponent, (int, float)) and exponent > 0:
        return homogeneous(found, x, float(exponent))
    return fixed(found, x)


def _linear(found: Symmetries, x: object, weight: object, bias: object = None) -> Result:
    """Map the last axis by a parameter."""
    if not isinstance(x, Features) or not isinstance(weight, Weight):
        return fixed(found, x)
    y = _map(found, x, -1, weight)
    return y if bias is None else _add(found, y, bias)


def _map(found: Symmetries, x: Features, axis: int, weight: Weight) -> Features:
    """Multiply the features on one axis by a matrix (out, in), or by the transpose of (in, out)."""
    if len(weight.shape) != 2:
        return fixed(found, x)
    if not weight.transposed:
        return affine(found, x, axis, weight.name, None, width=weight.shape[0])
    swapped = {"rows": by_columns, "columns": as_it_is}
    width = weight.shape[1]
    return affine(found, x, axis, weight.name, None, **swapped, transposed=True, width=width)


def _matmul(found: Symmetries, x: object, y: object) -> Result:
    """Multiply by a parameter, or contract the features of two tensors."""
    if isinstance(x, Features) and isinstance(y, Weight):
        return _map(found, alone(found, x), -1, Weight(y.name, y.shape, not y.transposed))
    if isinstance(x, Weight) and isinstance(y, Features):
        return _map(found, alone(found, y), -2, x)
    if not (isinstance(x, Features) and isinstance(y, Features)) or x.order or y.order:
        return fixed(found, x, y)
    left, right = x.streams.get(-1), y.streams.get(-2)
    carried = {-2: x.streams.get(-2), -1: y.streams.get(-1)}
    streams = {axis: stream for axis, stream in carried.items() if stream is not None}
    if left is not None and right is not None:
        x, y = alone(found, x), alone(found, y)
        if not streams:  # logits
            return Features(product=found.contracted(left, right))
        found.same(left, right, -1)
    elif left is not None or right is not None:
        found.fix(left if left is not None else right)  # type: ignore[arg-type]
    if x.product is not None and len(streams) == 1 and y.product is None:
        streams = {axis: found.times(stream, x.product) for axis, stream in streams.items()}
    else:
        alone(found, x), alone(found, y)
    return Features(streams)


def _dot_product_attention(
    found: Symmetries, query: object, key: object, value: object, **options: object
) -> Result:
    """Attend: queries and keys are contracted, values are averaged over tokens."""
    if not all(isinstance(x, Features) and set(x.streams) <= {-1} for x in (query, key, value)):
        return fixed(found, query, key, value)
    fixed(found, _matmul(found, query, _transpose(found, key, -2, -1)))  # by the softmax
    return value


def _transpose(found: Symmetries, x: object, *axes: object) -> Result:
    """Swap the last two axes."""
    if isinstance(x, Weight):
        return Weight(x.name, x.shape, not x.transposed)
    if not isinstance(x, Features) or x.order or (axes and set(axes) != {-1, -2}):
        return fixed(found, x)
    streams = {{-1: -2, -2: -1}.get(axis, axis): s for axis, s in x.streams.items()}
    return Features(streams, product=x.product)


def _flatten(found: Symmetries, x: object, start_dim: object = 0, end_dim: object = -1) -> Result:
    """Flatten all axes but the first."""
    if isinstance(x, Features) and (start_dim, end_dim) == (1, -1):
        return flattened(found, x)
    return fixed(found, x)


def _activation(found: Symmetries, x: object, *options: object, **named: object) -> Result:
    """Pass on a function of degree 1."""
    return homogeneous(found, x) if isinstance(x, Features) else fixed(found, x)


def _unchanged(found: Symmetries, x: object, *options: object, **named: object) -> Result:
    """Pass on an operation that is linear and acts alike on all features."""
    return x


def _item(found: Symmetries, x: object, index: object) -> Result:
    """Take one output of several."""
    return x[index] if isinstance(x, tuple) and isinstance(index, int) else fixed(found, x)


#: The functions that pass on the factor of a contraction; others get a tensor with it fixed.
PASSING: frozenset[Callable[..., Result]] = frozenset(
    (_multiply, _divide, _matmul, _transpose, _unchanged, _activation)
)

FUNCTIONS: dict[object, Callable[..., Result]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _add),
    **dict.fromkeys((operator.sub, torch.sub, "sub"), _subtract),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul"), _multiply),
    **dict.fromkeys((operator.pow, torch.pow, "pow"), _power),
    **dict.fromkeys((torch.square, "square"), lambda found, x: _power(found, x, 2)),
    **dict.fromkeys(
        (operator.matmul, torch.matmul, torch.mm, torch.bmm, "matmul", "mm", "bmm"), _matmul
    ),
    **dict.fromkeys(
        (F.relu, torch.relu, F.leaky_relu, torch.abs, "relu", "relu_", "abs"), _activation
    ),
    **dict.fromkeys((F.dropout, operator.neg, torch.neg, "contiguous", "neg"), _unchanged),
    **dict.fromkeys((torch.transpose, "transpose", "t", torch.t, "mT", "T"), _transpose),
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    F.linear: _linear,
    F.scaled_dot_product_attention: _dot_product_attention,
    operator.getitem: _item,
    operator.truediv: _divide,
}
