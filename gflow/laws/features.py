"""Tensors in a network, with the streams of features on their axes, and what affine maps do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from gflow.laws.law import View
from gflow.laws.symmetries import End, Stream, Symmetries


@dataclass(frozen=True)
class Features:
    """A tensor in the network, with the streams on its axes, counted from the last: −1, −2, …

    ``order`` says how an axis that was flattened is made up: ``"outer"`` where the stream's
    features come first, as the channels of images, ``"inner"`` where they come last.
    """

    streams: Mapping[int, Stream] = field(default_factory=dict)
    order: str = ""


#: Names of the trainable parameters by identity.
Names = Mapping[int, str]


def fixed(found: Symmetries, *inputs: object) -> Features:
    """Fix all that an operation reads of which nothing is known."""
    for x in inputs:
        for stream in x.streams.values() if isinstance(x, Features) else ():
            found.fix(stream)
    return Features()


def only(found: Symmetries, x: Features, axis: int) -> Stream:
    """Return the stream on one axis, and fix those on the others."""
    for other, stream in x.streams.items():
        if other != axis:
            found.fix(stream)
    return x.streams[axis] if axis in x.streams else found.fixed()


def homogeneous(found: Symmetries, x: Features, power: float = 1.0) -> Features:
    """Pass on an element-wise function with φ(λx) = λᵏφ(x) for λ > 0."""
    streams = {}
    for axis, stream in x.streams.items():
        streams[axis] = found.stream(found.widths[stream])
        found.powers(streams[axis], {stream: power})
    return Features(streams, x.order)


def affine(
    found: Symmetries,
    x: Features,
    axis: int,
    weight: str | None,
    bias: str | None,
    *,
    rows: View = lambda W: W,
    columns: View = lambda W: W.mT,
    transposed: bool = False,
    width: int = 1,
) -> Features:
    """Record a linear map of the features on one axis, and its bias; None is not trainable."""
    before = only(found, x, axis)
    if weight is None:
        found.fix(before)
        return Features()
    if x.order and axis in x.streams:
        columns = _unflattened(columns, x.order, found, before)
    after, texts = found.stream(width), (weight, f"{weight}ᵀ")
    written, read = texts[::-1] if transposed else texts
    found.use(weight, End(after, rows, written), End(before, columns, read))
    if bias:
        found.use(bias, End(after, column, bias))
    return Features({axis: after})


def column(vector: Tensor) -> Tensor:
    """View a vector as a matrix of one column."""
    return vector.unsqueeze(-1)


def _unflattened(columns: View, order: str, found: Symmetries, stream: Stream) -> View:
    """View the columns of features that were flattened with other axes by feature."""

    def view(W: Tensor) -> Tensor:
        flat, width = columns(W), found.widths[stream]
        if order == "outer":
            return flat.unflatten(-2, (width, -1)).flatten(-2)
        return flat.unflatten(-2, (-1, width)).transpose(-3, -2).flatten(-2)

    return view


def name_of(names: Names, layer: nn.Module, parameter: str) -> str | None:
    """Return the name of a layer's trainable parameter; None where it is frozen or computed."""
    return names.get(id(layer._parameters.get(parameter)))
