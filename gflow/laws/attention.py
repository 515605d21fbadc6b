r"""What attention does to the streams of features: queries, keys, values and outputs of each head.

Logits qᵀk are unchanged under q → Aq, k → A⁻ᵀk, so each head conserves
W_qW_qᵀ + b_qb_qᵀ − W_kW_kᵀ − b_kb_kᵀ; values and outputs are a linear network, so each conserves
OᵀO − W_vW_vᵀ − b_vb_vᵀ. The keys' bias adds one number to all logits of a query, which softmax does
not see: it has no gradient.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from gflow.laws.features import (
    Features,
    Names,
    affine,
    as_it_is,
    by_columns,
    column,
    fixed,
    homogeneous,
    name_of,
    only,
)
from gflow.laws.law import View
from gflow.laws.layers import LAYERS, layer_of
from gflow.laws.scales import Stream
from gflow.laws.symmetries import Symmetries
from gflow.laws.uses import End
from gflow.networks.attention import LinearAttention
from gflow.networks.context_moments import MapAttention, MomentAttention


def _attention(
    found: Symmetries,
    names: Names,
    layer: nn.MultiheadAttention,
    query: Features,
    key: Features,
    value: Features,
    **options: object,
) -> tuple[Features, Features]:
    """Record multi-head attention."""
    parts = _projections(names, layer)
    if parts is None or layer.bias_k is not None or layer.add_zero_attn:
        return fixed(found, query, key, value), Features()
    bias = name_of(names, layer, "in_proj_bias")
    streams: list[Stream] = []
    for i, (x, (weight, rows)) in enumerate(zip((query, key, value), parts, strict=True)):
        part, heads = "qkv"[i], _by_head(layer.num_heads)
        stream = found.stream(layer.head_dim)
        reads = End(only(found, x, -1), _chained(rows, by_columns), f"{weight}[{part}]ᵀ")
        writes = End(stream, _chained(rows, heads), f"{weight}[{part}]")
        found.use(weight, writes, reads, part)
        if bias:
            one = _chained(_rows(i, layer.embed_dim), column, heads)
            found.use(bias, End(stream, one, f"{bias}[{part}]"), part=part)
        streams.append(stream)
    found.same(streams[0], streams[1], -1)
    if bias:
        unseen = _chained(_rows(1, layer.embed_dim), lambda b: b.unsqueeze(-2))
        found.constant(bias, unseen, f"{bias}[k]")
    out = layer.out_proj
    matrix, offset = name_of(names, out, "weight"), name_of(names, out, "bias")
    if matrix is None or (offset is None and out.bias is not None):
        return fixed(found, Features({-1: streams[2]})), Features()
    by_head = _chained(by_columns, _by_head(layer.num_heads))
    y = affine(
        found,
        Features({-1: streams[2]}),
        -1,
        matrix,
        offset,
        columns=by_head,
        width=layer.embed_dim,
    )
    return y, Features()


def _linear_attention(
    found: Symmetries, names: Names, layer: LinearAttention, x: Features
) -> Features:
    """Record attention without softmax whose value is one number a head."""
    fixed(found, x)
    value, key, query = (name_of(names, layer, part) for part in ("value", "key", "query"))
    if value is None or key is None or query is None:
        return Features()
    rank = layer.key.shape[1]
    keys, queries, values = found.stream(rank), found.stream(rank), found.factor()
    found.use(key, End(keys, as_it_is, key))
    found.use(query, End(queries, as_it_is, query))
    found.use(value, End(values, lambda v: v.unsqueeze(-2), value))
    return Features({-1: found.times(values, found.contracted(keys, queries))})


def _projections(names: Names, layer: nn.MultiheadAttention) -> list[tuple[str, View]] | None:
    """Return the names of the three projections, each with its rows; None if any is frozen."""
    if layer._qkv_same_embed_dim:
        name = name_of(names, layer, "in_proj_weight")
        projections = [(name, _rows(i, layer.embed_dim)) for i in range(3)]
    else:
        leaves = [name_of(names, layer, f"{part}_proj_weight") for part in "qkv"]
        projections = [(name, lambda W: W) for name in leaves]
    if layer.in_proj_bias is not None and name_of(names, layer, "in_proj_bias") is None:
        return None
    known = [(name, rows) for name, rows in projections if name is not None]
    return known if len(known) == 3 else None


def _rows(part: int, size: int) -> View:
    """View one of three parts of stacked weights or biases."""

    def view(stacked: Tensor) -> Tensor:
        axis = -2 if stacked.shape[-1] != 3 * size else -1
        return stacked.narrow(axis, part * size, size)

    return view


def _by_head(heads: int) -> View:
    return lambda W: W.unflatten(-2, (heads, -1))


def _chained(*views: View) -> View:
    def view(parameter: Tensor) -> Tensor:
        for one in views:
            parameter = one(parameter)
        return parameter

    return view


def _encoder_layer(
    found: Symmetries,
    names: Names,
    layer: nn.TransformerEncoderLayer,
    x: Features,
    **options: object,
) -> Features:
    """Record a block of attention and a block of two linear maps, each with its residual."""

    def attend(x: Features) -> Features:
        return _attention(found, names, layer.self_attn, x, x, x)[0]

    def feed(x: Features) -> Features:
        hidden = layer_of(found, names, layer.linear1, x)
        if layer.activation in (F.relu, nn.functional.relu) or isinstance(
            layer.activation, nn.ReLU
        ):
            hidden = homogeneous(found, hidden)
        else:
            hidden = fixed(found, hidden)
        return layer_of(found, names, layer.linear2, hidden)

    for block, norm in ((attend, layer.norm1), (feed, layer.norm2)):
        if layer.norm_first:
            x = residual(found, x, block(layer_of(found, names, norm, x)))
        else:
            x = layer_of(found, names, norm, residual(found, x, block(x)))
    return x


def _encoder(
    found: Symmetries, names: Names, stack: nn.TransformerEncoder, x: Features, **options: object
) -> Features:
    """Record a stack of encoder layers."""
    for layer in stack.layers:
        x = _encoder_layer(found, names, layer, x)
    return x if stack.norm is None else layer_of(found, names, stack.norm, x)


def residual(found: Symmetries, x: Features, y: Features) -> Features:
    """Add two tensors, whose streams are one from here on.

    Parameters
    ----------
    found : Symmetries
        Changed in place.
    x, y : Features

    Returns
    -------
    Features

    Examples
    --------
    >>> found = Symmetries()
    >>> residual(found, Features({-1: found.stream()}), Features({-1: found.stream()})).streams
    {-1: 0}
    """
    streams: dict[int, Stream] = {}
    if x.order != y.order:
        return fixed(found, x, y)
    for axis in {*x.streams, *y.streams}:
        pair = [f.streams[axis] if axis in f.streams else found.fixed() for f in (x, y)]
        found.same(*pair)
        streams[axis] = pair[0]
    return Features(streams, x.order)


LAYERS |= {
    LinearAttention: _linear_attention,
    MomentAttention: _linear_attention,
    MapAttention: _linear_attention,
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerEncoder: _encoder,
}
