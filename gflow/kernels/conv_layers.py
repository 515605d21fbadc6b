"""Pairs of pixels of two sets of images, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple, Unpack

from torch import Tensor
from torch.nn.functional import pad, unfold

from gflow.checks import require_number, shown
from gflow.errors import InputError
from gflow.kernels.angles import one_minus_and_plus_cosine, unit_and_square
from gflow.kernels.dual_maps import safe_inverse
from gflow.kernels.layers import (
    Layers,
    NetworkOptions,
    PreActivations,
    make_layers,
    pre_activations,
)
from gflow.kernels.pairs import first_pair, sine

Pooling = Literal["flatten", "average"]


class ConvNetworkOptions(NetworkOptions, total=False):
    """Keywords that describe a convolutional network, of `conv_ntk` and of `conv_nngp`.

    Beside those of `NetworkOptions`, where ``depth`` counts convolutions: the dense read-out
    is one layer more.

    Attributes
    ----------
    pooling : {"flatten", "average"}
        What comes before the read-out; "flatten" by default. ``average`` costs (HW)² numbers
        a pair of images, ``flatten`` HW.
    kernel_size : int
        Width k of the window, odd; 3 by default.
    """

    pooling: Pooling
    kernel_size: int


@dataclasses.dataclass(frozen=True)
class ConvLayers(Layers):
    """Layers of a convolutional network, with its pooling and the size of its window."""

    pooling: Pooling
    size: int

    @property
    def images(self) -> int:
        """Images whose pixels a window covers: one where only equal pixels are paired."""
        return images_a_window(self.pooling)


def make_conv_layers(
    trained: Sequence[int] | None = None,
    pooling: Pooling = "flatten",
    kernel_size: int = 3,
    **network: Unpack[NetworkOptions],
) -> ConvLayers:
    """Validate the description of a convolutional network.

    Parameters
    ----------
    trained : sequence of int, optional
        The trained layers, from 0 to depth; all of them by default.
    pooling : {"flatten", "average"}
        Before the read-out.
    kernel_size : int
        Width of the window, odd.
    **network : NetworkOptions
        The other keywords.

    Returns
    -------
    ConvLayers

    Raises
    ------
    InputError
        If an argument is out of range.

    Examples
    --------
    >>> make_conv_layers(depth=2, kernel_size=5).size
    5
    """
    layers = make_layers(trained=trained, **network)
    require_pooling(pooling)
    size = require_odd("kernel_size", kernel_size)
    return ConvLayers(layers.activation, layers.w, layers.b, layers.trained, pooling, size)


def require_pooling(pooling: object) -> None:
    """Raise InputError unless a value is the name of a pooling."""
    if not isinstance(pooling, str) or pooling not in ("flatten", "average"):
        raise InputError(f"pooling must be 'flatten' or 'average', got {shown(pooling)}")


def require_odd(name: str, value: object) -> int:
    """Return a value as an int; raise InputError unless it is an odd positive number.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Value of the argument.

    Returns
    -------
    int

    Examples
    --------
    >>> require_odd("kernel_size", 3)
    3
    """
    number = require_number(name, value, "an odd whole number")
    if number % 2 != 1 or number < 1:
        raise InputError(f"{name} must be an odd whole number, got {shown(value)}")
    return int(number)


def images_a_window(pooling: Pooling) -> int:
    """Return 1 where only equal pixels of two images are paired, else 2."""
    return 1 if pooling == "flatten" else 2


class ImageBatch(NamedTuple):
    """One side of the kernel: unit patches, and the deviations of every pixel.

    Attributes
    ----------
    unit : Tensor, shape (n, H, W, k²C)
    first : PreActivations
        Of the first layer, (n, H, W).
    stds : tuple of Tensor
        Of the pre-activations of all layers but the read-out, depth.
    features : tuple of Tensor
        √E[φ²] of the depth convolutions.
    """

    unit: Tensor
    first: PreActivations
    stds: tuple[Tensor, ...]
    features: tuple[Tensor, ...]

    def part(self, rows: slice) -> ImageBatch:
        """Return some of the images."""
        return ImageBatch(
            self.unit[rows],
            PreActivations(*(v[rows] for v in self.first)),
            tuple(v[rows] for v in self.stds),
            tuple(v[rows] for v in self.features),
        )


def propagate_images(x: Tensor, layers: ConvLayers) -> ImageBatch:
    """Propagate each pixel of single images through all convolutions.

    Parameters
    ----------
    x : Tensor, shape (n, C, H, W)
        Images.
    layers : ConvLayers
        The network.

    Returns
    -------
    ImageBatch

    Examples
    --------
    >>> import torch
    >>> images = propagate_images(torch.ones(1, 1, 3, 3), make_conv_layers())
    >>> (9 * images.first.variance).round().tolist()   # pixels in the window
    [[[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]]
    """
    height, width = x.shape[-2:]
    size = layers.size
    patches = unfold(x, size, padding=size // 2).mT.unflatten(1, (height, width))
    unit, square = unit_and_square(patches)
    first = pre_activations(square * (layers.w[0] ** 2 / patches.shape[-1]), layers.b[0])
    stds, features = [], []
    z = first
    for w, b in zip(layers.w[1:], layers.b[1:], strict=True):
        variance = layers.activation.feature_variance(z.std, z.variance)
        stds.append(z.std)
        features.append(variance.sqrt())
        z = pre_activations(_convolve(_pad(variance, size, 1), size, 1) * (w / size) ** 2, b)
    return ImageBatch(unit, first, tuple(stds), tuple(features))


def _pad(v: Tensor, size: int, images: int) -> Tensor:
    """Pad with zeros around the pixels: the last two dimensions, or four of a pair of images."""
    return pad(v, [size // 2] * (4 * images))


def _convolve(padded: Tensor, size: int, images: int) -> Tensor:
    """Σ_δ v(p+δ), or Σ_δ v(p+δ, p'+δ), of a padded v: over rows first, then over columns."""
    for last in (-2, -1):
        total = None
        for shift in range(size):
            part = padded
            for dim in range(last, -2 * images - 1, -2):
                part = part.narrow(dim, shift, part.shape[dim] - size + 1)
            total = part.clone() if total is None else total.add_(part)
        padded = padded if total is None else total
    return padded


def _sides(v1: Tensor, v2: Tensor, layers: ConvLayers) -> tuple[Tensor, Tensor]:
    """Return pixels (n1, H, W) and (n2, H, W) in shapes that broadcast to pairs: (n1, n2, H, W)
    before flattening, (n1, n2, H, W, H, W) before averaging."""
    if layers.images == 1:
        return v1[:, None], v2
    return v1[:, None, :, :, None, None], v2[:, None, None]


def _first(a: ImageBatch, b: ImageBatch, layers: ConvLayers) -> tuple[Tensor, Tensor]:
    """Return u and s of the first pre-activations."""
    if layers.images == 1:
        e1, e2 = (e.permute(1, 2, 0, 3) for e in (a.unit, b.unit))
        pair = [v.permute(2, 3, 0, 1).contiguous() for v in one_minus_and_plus_cosine(e1, e2)]
    else:
        e1, e2 = a.unit.flatten(0, 2), b.unit.flatten(0, 2)
        shape = (*a.unit.shape[:3], *b.unit.shape[:3])
        order = (0, 3, 1, 2, 4, 5)
        pair = [
            v.reshape(shape).permute(order).contiguous() for v in one_minus_and_plus_cosine(e1, e2)
        ]
    sides = [_sides(v1, v2, layers) for v1, v2 in zip(a.first, b.first, strict=True)]
    z1, z2 = PreActivations(*(v1 for v1, _ in sides)), PreActivations(*(v2 for _, v2 in sides))
    return first_pair(pair[0], pair[1], z1, z2, layers)


def propagate_image_pairs(a: ImageBatch, b: ImageBatch, layers: ConvLayers) -> Tensor:
    """Propagate all pairs of images through all layers.

    Parameters
    ----------
    a, b : ImageBatch
        Images of both sides.
    layers : ConvLayers
        The network.

    Returns
    -------
    Tensor, shape (n_a, n_b)
        Θ, or K where nothing is trained.

    Examples
    --------
    >>> import torch
    >>> layers = make_conv_layers(activation="linear", kernel_size=1)
    >>> images = propagate_images(torch.ones(1, 1, 2, 2).double(), layers)
    >>> propagate_image_pairs(images, images, layers).round(decimals=9).tolist()
    [[2.0]]
    """
    images, size = layers.images, layers.size
    u, s = _first(a, b, layers)
    theta = 1.0 - u if layers.trained[0] else None  # divided by the deviations, as u is
    for k in range(layers.depth):
        w, bias, trained = layers.w[k + 1], layers.b[k + 1], layers.trained[k + 1]
        r1, r2 = _sides(a.stds[k], b.stds[k], layers)
        h1, h2 = _sides(a.features[k], b.features[k], layers)
        defect, slope = layers.activation.pair(r1, r2, h1, h2, u, s)
        if theta is not None:
            theta.mul_(slope).mul_(h1).mul_(h2)
        if k + 1 < layers.depth:
            r1, r2 = _sides(a.stds[k + 1], b.stds[k + 1], layers)
            inverse1, inverse2 = safe_inverse(r1), safe_inverse(r2)
            distance = _squared_distance(a.features[k], b.features[k], defect, layers)
            u = distance.mul_((w / size) ** 2).sub_((r1 - r2).square()).clamp_min_(0.0)
            u = u.mul_(0.5 * inverse1).mul_(inverse2)
            s = sine(u)
            if theta is not None:
                theta = _convolve(_pad(theta, size, images), size, images).mul_((w / size) ** 2)
                theta.mul_(inverse1).mul_(inverse2)
            if trained:
                theta = 1.0 - u if theta is None else theta.sub_(u).add_(1.0)
    pixels = tuple(range(-2 * images, 0))
    kernel = (1.0 - defect).mul_(h1).mul_(h2).mean(pixels).mul_(w * w).add_(bias * bias)
    if theta is None:
        return kernel
    theta = theta.mean(pixels).mul_(w * w)
    return theta.add_(kernel) if trained else theta


def _squared_distance(h1: Tensor, h2: Tensor, defect: Tensor, layers: ConvLayers) -> Tensor:
    """Σ_δ E[(φ(z) − φ(z'))²](p+δ, p'+δ); features outside of an image are zero."""
    images, size = layers.images, layers.size
    f1, f2 = _sides(h1, h2, layers)
    padded = _pad(defect.mul_(2.0 * f1).mul_(f2), size, images)
    p1, p2 = _sides(_pad(h1, size, 1), _pad(h2, size, 1), layers)
    return _convolve(padded.add_((p1 - p2).square_()), size, images)
