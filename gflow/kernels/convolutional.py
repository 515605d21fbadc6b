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

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from gflow.callbacks import as_count_progress
from gflow.checks import require_depth
from gflow.kernels.conv_layers import (
    ConvLayers,
    ConvNetworkOptions,
    Pooling,
    images_a_window,
    make_conv_layers,
    propagate_image_pairs,
    propagate_images,
    require_odd,
    require_pooling,
)
from gflow.kernels.layers import checked_points
from gflow.kernels.tiling import (
    Memory,
    Progress,
    fill,
    gram_memory,
    new_matrix,
    points_of_any_device,
    require_memory,
    tile_entries,
)

_ARRAYS_PER_TILE = 12  # temporary arrays of a tile's size


def conv_ntk(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    trained: Sequence[int] | None = None,
    out: str | Path | None = None,
    max_memory: float | None = None,
    progress: Progress | bool | None = None,
    **network: Unpack[ConvNetworkOptions],
) -> Tensor:
    """Compute the neural tangent kernel of a convolutional network of infinite width.

    Parameters
    ----------
    x1 : Tensor, shape (n1, C, H, W)
        Images with C channels.
    x2 : Tensor, shape (n2, C, H, W), optional
        Further images; x1 itself by default, and then the kernel is exactly symmetric.
    trained : sequence of int, optional
        Which layers are trained: 0 is the first, depth the read-out. All of them by default.
    out : path of a .npy file, optional
        Where to store the matrix on disk.
    max_memory : float, optional
        Bytes that this call may take.
    progress : callable or bool, optional
        Called with the entries done and their total; True shows a bar.
    **network : ConvNetworkOptions
        ``depth``, the convolutions (the dense read-out is one layer more), ``activation``,
        ``w_std`` and ``b_std`` as for `ntk`; ``pooling="flatten"`` or "average", before the
        read-out: ``average`` costs (HW)² numbers a pair of images, ``flatten`` HW; and
        ``kernel_size=3``, an odd number of pixels.

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
    layers = make_conv_layers(trained, **network)
    return _gram(x1, x2, layers, out, max_memory, progress)


def conv_nngp(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    out: str | Path | None = None,
    max_memory: float | None = None,
    progress: Progress | bool | None = None,
    **network: Unpack[ConvNetworkOptions],
) -> Tensor:
    """Compute the covariance of the outputs of a random convolutional network of infinite width.

    Parameters
    ----------
    x1 : Tensor, shape (n1, C, H, W)
        Images with C channels.
    x2 : Tensor, shape (n2, C, H, W), optional
        Further images; x1 itself by default.
    out : path of a .npy file, optional
        Where to store the matrix on disk.
    max_memory : float, optional
        Bytes that this call may take.
    progress : callable or bool, optional
        Called with the entries done and their total; True shows a bar.
    **network : ConvNetworkOptions
        See `conv_ntk`.

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
    >>> round(conv_nngp(image, w_std=2**0.5).item(), 4)
    1.3889
    """
    layers = make_conv_layers(**network).untrained()
    return _gram(x1, x2, layers, out, max_memory, progress)


def conv_memory_needed(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    pooling: Pooling = "flatten",
    kernel_size: int = 3,
    depth: int = 1,
    out: str | Path | None = None,
) -> Memory:
    """Estimate the bytes that `conv_ntk` or `conv_nngp` take, the images themselves aside.

    Parameters
    ----------
    x1 : Tensor, shape (n1, C, H, W)
        Images; only shapes are used.
    x2 : Tensor, shape (n2, C, H, W), optional
        Further images; x1 itself by default.
    pooling : {"flatten", "average"}
        Before the read-out.
    kernel_size : int
        Width of the window, odd.
    depth : int
        Convolutions.
    out : path, optional
        Where the matrix is stored on disk, if it is.

    Returns
    -------
    Memory

    Examples
    --------
    >>> import torch
    >>> x = torch.empty(1000, 1, 28, 28, device="meta")
    >>> print(conv_memory_needed(x, pooling="average"))
    0.17 GB of memory: the matrix 0.004 GB, work 0.166 GB
    """
    x1, x2 = points_of_any_device(x1, x2, 4)
    depth, kernel_size = require_depth(depth), require_odd("kernel_size", kernel_size)
    require_pooling(pooling)
    images = len(x1) + (0 if x2 is None else len(x2))
    channels, height, width = x1.shape[1:]
    patches = images * height * width * (2 * kernel_size**2 * channels + 2 * depth + 8)
    tile = _tile_side(x1, pooling) ** 2 * _numbers_per_pair(x1, pooling)
    padded = (1 + kernel_size / height) * (1 + kernel_size / width)
    padded = padded**2 if pooling == "average" else padded
    return gram_memory(x1, x2, patches + round(_ARRAYS_PER_TILE * tile * padded), out)


def _numbers_per_pair(x: Tensor, pooling: Pooling) -> int:
    """Pairs of pixels that a pair of images takes."""
    return math.prod(x.shape[-2:]) ** images_a_window(pooling)


def _tile_side(x: Tensor, pooling: Pooling) -> int:
    """Images on each side of a tile."""
    return max(1, math.isqrt(tile_entries(x) // _numbers_per_pair(x, pooling)))


@torch.no_grad()
def _gram(
    x1: Tensor,
    x2: Tensor | None,
    layers: ConvLayers,
    out: str | Path | None,
    max_memory: float | None,
    progress: Progress | bool | None,
) -> Tensor:
    x1, x2 = checked_points(x1, x2, "(n, C, H, W)")
    progress = as_count_progress(progress)
    pooling, size = layers.pooling, layers.size
    needed = conv_memory_needed(
        x1, x2, pooling=pooling, kernel_size=size, depth=layers.depth, out=out
    )
    require_memory(needed, max_memory)
    side1 = propagate_images(x1, layers)
    side2 = side1 if x2 is None else propagate_images(x2, layers)

    def tile(rows: slice, columns: slice) -> Tensor:
        return propagate_image_pairs(side1.part(rows), side2.part(columns), layers)

    side = _tile_side(x1, pooling)
    with new_matrix((len(x1), len(side2.unit)), x1, out) as gram:
        fill(gram, tile, (side, side), x2 is None, progress)
        return gram
