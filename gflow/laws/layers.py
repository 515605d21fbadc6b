"""What the layers of torch do to the streams of features between them.

One function a kind of layer: ``function(found, names, layer, *inputs)`` records its parameters and
constraints, and returns its output. A layer that is not in `LAYERS` fixes what it reads, which
makes no false law.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from gflow.laws.features import (
    Features,
    Names,
    affine,
    by_columns,
    column,
    fixed,
    homogeneous,
    name_of,
    only,
)
from gflow.laws.law import View
from gflow.laws.symmetries import Symmetries
from gflow.laws.uses import End, Reader

Layer = Callable[..., Any]
Normalisation = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.InstanceNorm1d
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


def _unchanged(found: Symmetries, names: Names, layer: nn.Module, x: Features) -> Features:
    """Pass on an operation that is linear and acts alike on all features."""
    return x


def _activation(found: Symmetries, names: Names, layer: nn.Module, x: Features) -> Features:
    """Pass on a (leaky) ReLU, or another function of degree 1."""
    return homogeneous(found, x)


def _linear(found: Symmetries, names: Names, layer: nn.Linear, x: Features) -> Features:
    """Record y = Wx + b on the last axis."""
    weight, bias = name_of(names, layer, "weight"), name_of(names, layer, "bias")
    if bias is None and layer.bias is not None:
        return fixed(found, affine(found, x, -1, weight, None, width=layer.out_features))
    return affine(found, x, -1, weight, bias, width=layer.out_features)


def _convolution(found: Symmetries, names: Names, layer: Convolution, x: Features) -> Features:
    """Record a convolution, whose features are the channels."""
    space = len(layer.kernel_size)
    axis, groups = -1 - space, layer.groups
    rows, columns = _channels(space, groups)
    if groups > 1:
        for stream in x.streams.values():
            found.scalings_only(stream)
    weight, bias = name_of(names, layer, "weight"), name_of(names, layer, "bias")
    width = layer.out_channels
    y = affine(found, x, axis, weight, bias, rows=rows, columns=columns, width=width)
    if groups > 1:
        for stream in y.streams.values():
            found.scalings_only(stream)
    return fixed(found, y) if bias is None and layer.bias is not None else y


def _channels(space: int, groups: int) -> tuple[View, View]:
    """Return the views of a kernel (..., out, in/groups, *size) by channels written and read."""

    def rows(W: Tensor) -> Tensor:
        return W.flatten(-1 - space)

    def columns(W: Tensor) -> Tensor:
        grouped = W.unflatten(-2 - space, (groups, -1)).transpose(-2 - space, -1 - space)
        return grouped.flatten(-1 - space).flatten(-3, -2)

    return rows, columns


def _embedding(found: Symmetries, names: Names, layer: nn.Embedding, x: Features) -> Features:
    """Record a table that writes a row of features for each token."""
    weight = name_of(names, layer, "weight")
    if weight is None or layer.max_norm is not None:
        return Features()
    after = found.stream(layer.embedding_dim)
    found.use(weight, End(after, by_columns, f"{weight}ᵀ"))
    return Features({-1: after})


def _pooling_by_maximum(found: Symmetries, names: Names, layer: nn.Module, x: Features) -> Features:
    """Pass on an operation that commutes with scalings of features alone."""
    for stream in x.streams.values():
        found.scalings_only(stream)
    return x


def _flatten(found: Symmetries, names: Names, layer: nn.Flatten, x: Features) -> Features:
    """Flatten all axes but the first."""
    if (layer.start_dim, layer.end_dim) != (1, -1):
        return fixed(found, x)
    return flattened(found, x)


def flattened(found: Symmetries, x: Features) -> Features:
    """Flatten all axes but the first, of images with channels first or of tokens.

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
    >>> flattened(found, Features({-3: found.stream()}))
    Features(streams={-1: 0}, order='outer', product=None)
    """
    if len(x.streams) != 1 or x.order:
        return x if not x.streams or x.order else fixed(found, x)
    ((axis, stream),) = x.streams.items()
    return Features({-1: stream}, "inner" if axis == -1 else "outer")


def _normalised_features(
    found: Symmetries, names: Names, layer: nn.LayerNorm | nn.RMSNorm, x: Features
) -> Features:
    """Record layer normalisation of the last axis."""
    if len(layer.normalized_shape) != 1 or x.order:
        return fixed(found, x)
    over = "features" if isinstance(layer, nn.LayerNorm) else "size"
    found.fix(only(found, x, -1), Reader(over, no_epsilon=layer.eps == 0))
    return _gains(found, names, layer, -1)


def _normalised_channels(
    found: Symmetries, names: Names, layer: Normalisation, x: Features
) -> Features:
    """Record batch or instance normalisation."""
    running = layer.track_running_stats and not layer.training
    for axis, stream in x.streams.items():
        if running or x.order or (axis == -1 and isinstance(layer, _IMAGES)):
            found.fix(stream)
        else:
            found.fix(stream, Reader("batch", no_epsilon=layer.eps == 0))
    return _gains(found, names, layer, next(iter(x.streams), 0)) if not x.order else Features()


def _normalised_groups(
    found: Symmetries, names: Names, layer: nn.GroupNorm, x: Features
) -> Features:
    """Record normalisation of groups of channels."""
    if x.order or len(x.streams) != 1:
        return fixed(found, x)
    ((axis, stream),) = x.streams.items()
    found.fix(stream, Reader("features", layer.num_groups, layer.eps == 0))
    return _gains(found, names, layer, axis)


def _gains(found: Symmetries, names: Names, layer: nn.Module, axis: int) -> Features:
    """Record the factor and the offset of each feature after normalisation; axis 0: not known."""
    weight, bias = name_of(names, layer, "weight"), name_of(names, layer, "bias")
    has_bias = getattr(layer, "bias", None) is not None
    if axis == 0 or weight is None or (bias is None and has_bias):
        return Features()
    after = found.stream(layer.get_parameter("weight").numel())
    found.scalings_only(after)
    for name in (weight, bias):
        if name:
            found.use(name, End(after, column, name))
    return Features({axis: after})


def layer_of(
    found: Symmetries, names: Names, layer: nn.Module, *inputs: Features, **options: object
) -> Features:
    """Record a layer by the function for its type; fix what is read where there is none.

    Parameters
    ----------
    found : Symmetries
        Changed in place.
    names : mapping of int to str
        Of the trainable parameters, by identity.
    layer : nn.Module
    *inputs : Features
    **options : Features
        Inputs by name, and other options of the layer's call.

    Returns
    -------
    Features
        Its output; of attention, a tuple.

    Examples
    --------
    >>> found = Symmetries()
    >>> layer_of(found, {}, nn.ReLU(), Features({-1: found.stream()})).streams
    {-1: 1}
    """
    record = LAYERS.get(type(layer)) if is_plain(layer) else None
    if record is None:
        return fixed(found, *inputs, *options.values())
    return record(found, names, layer, *inputs, **options)


def is_plain(layer: nn.Module) -> bool:
    """Return whether a layer computes what its type does: no hook, no parametrisation."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks)
    return not any(hooks) and not hasattr(layer, "parametrizations")


_IMAGES = (nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm2d, nn.InstanceNorm3d)

LAYERS: dict[type[nn.Module], Layer] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.Flatten: _flatten,
    nn.LayerNorm: _normalised_features,
    nn.GroupNorm: _normalised_groups,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    **dict.fromkeys((nn.ReLU, nn.LeakyReLU, nn.PReLU), _activation),
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d), _unchanged),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _unchanged),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), _unchanged),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), _pooling_by_maximum),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d), _pooling_by_maximum),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _normalised_channels),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d), _normalised_channels),
    nn.RMSNorm: _normalised_features,
}
