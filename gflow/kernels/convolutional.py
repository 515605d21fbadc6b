r"""NTK and NNGP kernels of convolutional networks of infinite width, for small images.

depth convolutions k×k (k odd, stride 1, zero padding that keeps the size: SAME), each followed
by the activation, then flatten or global average pooling, then a dense read-out. For pixels
p of x and p' of x', with P pixels and the pixels δ of a k×k window around 0,

    K⁰(p, p') = w₀²/(k²C) Σ_δ Σ_c x_c(p+δ)x'_c(p'+δ) + b₀²          Θ⁰ = K⁰
    Kˡ(p, p') = w_l²/k² Σ_δ E[φφ'](p+δ, p'+δ) + b_l²
    Θˡ(p, p') = Kˡ(p, p') + w_l²/k² Σ_δ (E[φ′φ′]·Θˡ⁻¹)(p+δ, p'+δ)
    flatten:   Θ = w²·mean_p [E[φφ'] + E[φ′φ′]Θ](p, p) + b²          P numbers a pair of images
    average:   Θ = w²·mean_{p,p'} [the same](p, p') + b²             P² numbers a pair

(Arora et al. 2019, arXiv:1904.11955, section 4 and appendix; NTK parametrisation as in
`gflow.kernels.analytic`, fan-in k²C. Theirs has w_std = (k·√C, √c_σ, …), no biases.) Time unit
and normalisation are those of `ntk`.

Pairs are carried by u = 1 − ρ as in the dense kernels. A convolution adds up squared distances
E[(φ − φ')²], whose sum is never a difference.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, unfold

from gflow.errors import InputError
from gflow.kernels.activations import safe_inverse
from gflow.kernels.angles import one_minus_and_plus_cosine, unit_and_square
from gflow.kernels.blocks import Memory, Progress, fill, matrix, require_room, tile_numbers
from gflow.kernels.layers import (
    AnyActivation,
    Layers,
    PerLayer,
    Split,
    check_points,
    make_layers,
    split,
)
from gflow.kernels.pairs import first_pair, sine

Pooling = Literal["flatten", "average"]
_ARRAYS_AT_WORK = 12


def conv_ntk(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int = 1,
    activation: AnyActivation = "relu",
    w_std: PerLayer = 1.0,
    b_std: PerLayer = 0.0,
    pooling: Pooling = "flatten",
    kernel_size: int = 3,
    trained: Sequence[int] | None = None,
    out: str | Path | None = None,
    max_memory: float | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Neural tangent kernel of a convolutional network of infinite width.

    Parameters
    ----------
    x1 : Tensor, shape (n1, C, H, W)
        Images with C channels.
    x2 : Tensor, shape (n2, C, H, W), optional
        Further images; x1 itself by default, then exactly symmetric.
    depth : int
        Convolutions; the dense read-out is one layer more.
    pooling : {"flatten", "average"}
        What stands before the read-out. ``average`` costs (HW)² numbers a pair of images,
        ``flatten`` HW.
    kernel_size : int
        k, odd.
    activation, w_std, b_std, trained, out, max_memory, progress
        As for `ntk`.

    Returns
    -------
    Tensor, shape (n1, n2)

    Raises
    ------
    InputError
        If an argument does not fit, or the call needs more than ``max_memory``.

    Examples
    --------
    >>> import torch
    >>> image = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    >>> [round(conv_ntk(image, w_std=2**0.5, pooling=p).item(), 4) for p in ("flatten", "average")]
    [2.7778, 1.8868]
    """
    layers = make_layers(depth, activation, w_std, b_std, trained)
    return _gram(x1, x2, layers, pooling, kernel_size, out, max_memory, progress)


def conv_nngp(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int = 1,
    activation: AnyActivation = "relu",
    w_std: PerLayer = 1.0,
    b_std: PerLayer = 0.0,
    pooling: Pooling = "flatten",
    kernel_size: int = 3,
    out: str | Path | None = None,
    max_memory: float | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Covariance of the outputs of a random convolutional network of infinite width.

    Arguments, result and errors are those of `conv_ntk`.

    Examples
    --------
    >>> import torch
    >>> image = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    >>> round(conv_nngp(image, w_std=2**0.5).item(), 4)
    1.3889
    """
    layers = make_layers(depth, activation, w_std, b_std)
    none = dataclasses.replace(layers, trained=(False,) * (depth + 1))
    return _gram(x1, x2, none, pooling, kernel_size, out, max_memory, progress)


def conv_memory_needed(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    pooling: Pooling = "flatten",
    kernel_size: int = 3,
    depth: int = 1,
    out: str | Path | None = None,
) -> Memory:
    """Bytes that `conv_ntk` or `conv_nngp` of these images take, the images themselves aside.

    Examples
    --------
    >>> import torch
    >>> x = torch.empty(1000, 1, 28, 28, device="meta")
    >>> print(conv_memory_needed(x, pooling="average"))
    0.139 GB of memory: the matrix 0.004 GB, work 0.135 GB
    """
    images = len(x1) + (0 if x2 is None else len(x2))
    entries = len(x1) * len(x1 if x2 is None else x2)
    channels, height, width = x1.shape[1:]
    patches = images * height * width * (2 * kernel_size**2 * channels + 2 * depth + 8)
    tile = math.prod(_step(x1, pooling)) * _numbers_a_pair(x1, pooling)
    padded = (1 + kernel_size / height) * (1 + kernel_size / width)
    work = patches + round(_ARRAYS_AT_WORK * tile * (padded**2 if pooling == "average" else padded))
    result = entries * x1.element_size()
    return Memory(0 if out else result, work * x1.element_size(), result if out else 0)


class Images(NamedTuple):
    """One side of the kernel: unit patches, and deviations of every pixel, (n, H, W)."""

    unit: Tensor  # (n, H, W, k²C)
    first: Split  # of the first pre-activations
    stds: tuple[Tensor, ...]  # of all pre-activations but the read-out's, depth
    features: tuple[Tensor, ...]  # √E[φ²], depth


def _images(x: Tensor, layers: Layers, size: int) -> Images:
    height, width = x.shape[-2:]
    patches = unfold(x, size, padding=size // 2).mT.unflatten(1, (height, width))
    unit, square = unit_and_square(patches)
    first = split(square * (layers.w[0] ** 2 / patches.shape[-1]), layers.b[0])
    stds, features = [], []
    now = first
    for w, b in zip(layers.w[1:], layers.b[1:], strict=True):
        variance = layers.activation.feature_variance(now.std, now.variance)
        stds.append(now.std)
        features.append(variance.sqrt())
        now = split(_convolve(variance, size, 1) * (w / size) ** 2, b)
    return Images(unit, first, tuple(stds), tuple(features))


def _windows(v: Tensor, size: int, images: int) -> Iterator[Tensor]:
    """v at p+δ for every δ of the window, zero outside; the last two dimensions are pixels,
    or the last four for a pair of images."""
    *_, height, width = v.shape
    padded = pad(v, [size // 2] * (4 * images))
    for dy in range(size):
        for dx in range(size):
            window = (slice(dy, dy + height), slice(dx, dx + width))
            yield padded[(..., *(window * images))]


def _sides(v1: Tensor, v2: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor]:
    """Pixels (n1, H, W) and (n2, H, W) so that they broadcast to pairs: (n1, n2, H, W) before
    flattening, (n1, n2, H, W, H, W) before averaging."""
    if pooling == "flatten":
        return v1[:, None], v2
    return v1[:, None, :, :, None, None], v2[:, None, None]


def _first(a: Images, b: Images, layers: Layers, pooling: Pooling) -> tuple[Tensor, Tensor]:
    """u and s of the first pre-activations."""
    if pooling == "flatten":
        e1, e2 = (e.permute(1, 2, 0, 3) for e in (a.unit, b.unit))
        pair = [v.permute(2, 3, 0, 1).contiguous() for v in one_minus_and_plus_cosine(e1, e2)]
    else:
        e1, e2 = a.unit.flatten(0, 2), b.unit.flatten(0, 2)
        shape = (*a.unit.shape[:3], *b.unit.shape[:3])
        order = (0, 3, 1, 2, 4, 5)
        pair = [
            v.reshape(shape).permute(order).contiguous() for v in one_minus_and_plus_cosine(e1, e2)
        ]
    sides = [_sides(v1, v2, pooling) for v1, v2 in zip(a.first, b.first, strict=True)]
    s1, s2 = Split(*(v1 for v1, _ in sides)), Split(*(v2 for _, v2 in sides))
    return first_pair(pair[0], pair[1], s1, s2, layers.b[0] > 0, layers.activation.even)


def _propagate(a: Images, b: Images, layers: Layers, pooling: Pooling, size: int) -> Tensor:
    """Θ, or K where nothing is trained, of all pairs of images."""
    images = _images_a_window(pooling)
    u, s = _first(a, b, layers, pooling)
    theta = 1.0 - u if layers.trained[0] else None  # divided by the deviations, as u is
    for k in range(layers.depth):
        w, bias, trained = layers.w[k + 1], layers.b[k + 1], layers.trained[k + 1]
        r1, r2 = _sides(a.stds[k], b.stds[k], pooling)
        h1, h2 = _sides(a.features[k], b.features[k], pooling)
        defect, slope = layers.activation.pair(r1, r2, h1, h2, u, s)
        if theta is not None:
            theta.mul_(slope).mul_(h1).mul_(h2)
        if k + 1 < layers.depth:
            r1, r2 = _sides(a.stds[k + 1], b.stds[k + 1], pooling)
            inverse1, inverse2 = safe_inverse(r1), safe_inverse(r2)
            distance = _squared_distance(a.features[k], b.features[k], defect, pooling, size)
            u = distance.mul_((w / size) ** 2).sub_((r1 - r2).square()).clamp_min_(0.0)
            u = u.mul_(0.5 * inverse1).mul_(inverse2)
            s = sine(u)
            if theta is not None:
                theta = _convolve(theta, size, images).mul_((w / size) ** 2)
                theta.mul_(inverse1).mul_(inverse2)
            if trained:
                theta = 1.0 - u if theta is None else theta.sub_(u).add_(1.0)
    pixels = tuple(range(-2 * images, 0))
    kernel = (1.0 - defect).mul_(h1).mul_(h2).mean(pixels).mul_(w * w).add_(bias * bias)
    if theta is None:
        return kernel
    theta = theta.mean(pixels).mul_(w * w)
    return theta.add_(kernel) if trained else theta


def _images_a_window(pooling: Pooling) -> int:
    return 1 if pooling == "flatten" else 2


def _convolve(v: Tensor, size: int, images: int) -> Tensor:
    """Σ_δ v(p+δ), or Σ_δ v(p+δ, p'+δ)."""
    total = torch.zeros_like(v)
    for part in _windows(v, size, images):
        total.add_(part)
    return total


def _squared_distance(
    h1: Tensor, h2: Tensor, defect: Tensor, pooling: Pooling, size: int
) -> Tensor:
    """Σ_δ E[(φ − φ')²](p+δ, p'+δ); features outside of an image are zero."""
    f1, f2 = _sides(h1, h2, pooling)
    total = _convolve(defect * f1 * f2, size, _images_a_window(pooling)).mul_(2.0)
    for v1, v2 in zip(_windows(h1, size, 1), _windows(h2, size, 1), strict=True):
        first, second = _sides(v1, v2, pooling)
        total.add_((first - second).square_())
    return total


def _numbers_a_pair(x: Tensor, pooling: Pooling) -> int:
    return math.prod(x.shape[-2:]) ** _images_a_window(pooling)


def _step(x: Tensor, pooling: Pooling) -> tuple[int, int]:
    """Images a tile, on each side."""
    side = max(1, math.isqrt(tile_numbers(x) // _numbers_a_pair(x, pooling)))
    return side, side


@torch.no_grad()
def _gram(
    x1: Tensor,
    x2: Tensor | None,
    layers: Layers,
    pooling: Pooling,
    size: int,
    out: str | Path | None,
    max_memory: float | None,
    progress: Progress | None,
) -> Tensor:
    check_points(x1, x2, "(n, C, H, W)")
    if pooling not in ("flatten", "average"):
        raise InputError(f"pooling must be 'flatten' or 'average', got {pooling!r}")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % 2 == 0:
        raise InputError(f"kernel_size must be an odd whole number, got {size}")
    needed = conv_memory_needed(
        x1, x2, pooling=pooling, kernel_size=size, depth=layers.depth, out=out
    )
    require_room(needed, max_memory)
    side1 = _images(x1, layers, size)
    side2 = side1 if x2 is None else _images(x2, layers, size)

    def tile(below: slice, right: slice) -> Tensor:
        a, b = _part(side1, below), _part(side2, right)
        return _propagate(a, b, layers, pooling, size)

    with matrix((len(x1), len(side2.unit)), x1, out) as gram:
        fill(gram, tile, _step(x1, pooling), x2 is None, progress)
        return gram


def _part(side: Images, images: slice) -> Images:
    return Images(
        side.unit[images],
        Split(*(v[images] for v in side.first)),
        tuple(v[images] for v in side.stds),
        tuple(v[images] for v in side.features),
    )
