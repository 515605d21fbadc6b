r"""NTK and NNGP kernels of convolutional networks of infinite width, for small images.

depth convolutions k×k (k odd, stride 1, zero padding that keeps the size: SAME), each followed
by the activation, then flatten or global average pooling, then a dense read-out. For pixels
p of x and p' of x', with P pixels and the pixels δ of a k×k window around 0,

    K⁰(p, p') = w₀²/(k²C) Σ_δ Σ_c x_c(p+δ)x'_c(p'+δ) + b₀²          Θ⁰ = K⁰
    Kˡ(p, p') = w_l²/k² Σ_δ E[φφ](p+δ, p'+δ) + b_l²
    Θˡ(p, p') = Kˡ(p, p') + w_l²/k² Σ_δ (E[φ'φ']·Θˡ⁻¹)(p+δ, p'+δ)
    flatten:   Θ = w²·mean_p [E[φφ] + E[φ'φ']Θ](p, p) + b²          P numbers a pair of images
    average:   Θ = w²·mean_{p,p'} [the same](p, p') + b²             P² numbers a pair

(Arora et al. 2019, arXiv:1904.11955, section 4; theirs has c_σ for w_l², other constants in the
first layer and the read-out, and no biases). NTK parametrisation, time unit and normalisation
are those of `ntk`, with fan-in k²C.

Pairs are carried by u = 1 − ρ as in the dense kernels. A convolution adds up squared distances
E[(φ(z) − φ(z'))²], whose sum is never a difference.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.kernels.conv_layers import Pooling, images_a_window, make_images, propagate
from gflow.kernels.layers import (
    AnyActivation,
    Layers,
    PerLayer,
    check_points,
    make_layers,
)
from gflow.kernels.tiling import Memory, Progress, fill, matrix, memory, require_room, tile_numbers

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
    0.17 GB of memory: the matrix 0.004 GB, work 0.166 GB
    """
    images = len(x1) + (0 if x2 is None else len(x2))
    channels, height, width = x1.shape[1:]
    patches = images * height * width * (2 * kernel_size**2 * channels + 2 * depth + 8)
    tile = math.prod(_step(x1, pooling)) * _numbers_a_pair(x1, pooling)
    padded = (1 + kernel_size / height) * (1 + kernel_size / width)
    work = patches + round(_ARRAYS_AT_WORK * tile * (padded**2 if pooling == "average" else padded))
    return memory(x1, x2, work, out)


def _numbers_a_pair(x: Tensor, pooling: Pooling) -> int:
    return math.prod(x.shape[-2:]) ** images_a_window(pooling)


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
    side1 = make_images(x1, layers, size)
    side2 = side1 if x2 is None else make_images(x2, layers, size)

    def tile(below: slice, right: slice) -> Tensor:
        return propagate(side1.part(below), side2.part(right), layers, pooling, size)

    with matrix((len(x1), len(side2.unit)), x1, out) as gram:
        fill(gram, tile, _step(x1, pooling), x2 is None, progress)
        return gram
