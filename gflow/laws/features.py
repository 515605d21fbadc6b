"""Tensors in a network, with the streams of features on their axes, and what affine maps do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from gflow.laws.law import View
from gflow.laws.scales import Stream
from gflow.laws.symmetries import Symmetries
from gflow.laws.uses import End


@dataclass(frozen=True)
class Features:
    """A tensor in the network, with the streams on its axes, which are counted from the last.

    ``order`` says how an axis that was flattened is made up: ``"outer"`` where the stream's
    features come first, as the channels of images, ``"inner"`` where they come last. ``product``
    is the stream of the factor of a contraction that the tensor is.
    """

    streams: Mapping[int, Stream] = field(default_factory=dict)
    order: str = ""
    product: Stream | None = None


#: Names of the trainable parameters by identity.
Names = Mapping[int, str]


def fixed(found: Symmetries, *inputs: object) -> Features:
    """Fix all that an operation reads of which nothing is known.

    Parameters
    ----------
    found : Symmetries
        Changed in place.
    *inputs : Features or object
        What is none has no streams.

    Returns
    -------
    Features
        The output, without streams.

    Examples
    --------
    >>> found = Symmetries()
    >>> fixed(found, Features({-1: found.stream()}), 2.0)
    Features(streams={}, order='', product=None)
    """
    for x in inputs:
        if isinstance(x, Features):
            for stream in x.streams.values():
                found.fix(stream)
            alone(found, x)
    return Features()


def alone(found: Symmetries, x: Features) -> Features:
    """Return a tensor for an operation that passes no factor of a contraction on: fix it.

    Parameters
    ----------
    found : Symmetries
        Changed in place.
    x : Features

    Returns
    -------
    Features

    Examples
    --------
    >>> found = Symmetries()
    >>> alone(found, Features(product=found.factor()))
    Features(streams={}, order='', product=None)
    """
    if x.product is None:
        return x
    found.fix(x.product)
    return Features(x.streams, x.order)


def only(found: Symmetries, x: Features, axis: int) -> Stream:
    """Return the stream on one axis, and fix those on the others.

    Parameters
    ----------
    found : Symmetries
        Changed in place.
    x : Features
    axis : int

    Returns
    -------
    int
        The stream: a new one that is fixed where the axis has none.

    Examples
    --------
    >>> found = Symmetries()
    >>> only(found, Features({-1: found.stream()}), -1)
    0
    """
    for other, stream in x.streams.items():
        if other != axis:
            found.fix(stream)
    return x.streams[axis] if axis in x.streams else found.fixed()


def homogeneous(found: Symmetries, x: Features, power: float = 1.0) -> Features:
    """Pass on an element-wise function with φ(λx) = λᵏφ(x) for λ > 0.

    Parameters
    ----------
    found : Symmetries
        Changed in place.
    x : Features
    power : float
        k.

    Returns
    -------
    Features

    Examples
    --------
    >>> found = Symmetries()
    >>> homogeneous(found, Features({-1: found.stream()})).streams
    {-1: 1}
    """
    streams = {}
    for axis, stream in x.streams.items():
        streams[axis] = found.stream(found.widths[stream])
        found.powers(streams[axis], {stream: power})
    product = None if x.product is None else found.factor({x.product: power})
    return Features(streams, x.order, product)


def as_it_is(W: Tensor) -> Tensor:
    """View a matrix by the features of its rows."""
    return W


def by_columns(W: Tensor) -> Tensor:
    """View a matrix by the features of its columns."""
    return W.mT


def affine(
    found: Symmetries,
    x: Features,
    axis: int,
    weight: str | None,
    bias: str | None,
    *,
    rows: View = as_it_is,
    columns: View = by_columns,
    transposed: bool = False,
    width: int = 1,
) -> Features:
    """Record a linear map of the features on one axis, and its bias.

    Parameters
    ----------
    found : Symmetries
        Changed in place.
    x : Features
    axis : int
    weight, bias : str or None
        Names of the parameters; None where they are not trainable.
    rows, columns : callable
        Views of the weight by the features that it writes, and by those that it reads.
    transposed : bool
        Whether the weight is (in, out).
    width : int
        Number of features that it writes.

    Returns
    -------
    Features

    Examples
    --------
    >>> found = Symmetries()
    >>> y = affine(found, Features(), -1, "weight", "bias", width=3)
    >>> [use.parameter for use in found.uses], found.widths[y.streams[-1]]
    (['weight', 'bias'], 3)
    """
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
    """Return the name of a layer's trainable parameter; None where it is frozen or computed.

    Parameters
    ----------
    names : mapping of int to str
        Of the trainable parameters, by identity.
    layer : nn.Module
    parameter : str
        Its name in the layer.

    Returns
    -------
    str or None

    Examples
    --------
    >>> layer = nn.Linear(1, 1)
    >>> name_of({id(layer.weight): "0.weight"}, layer, "weight")
    '0.weight'
    """
    return names.get(id(layer._parameters.get(parameter)))
