r"""NTK and NNGP kernels of fully connected networks of infinite width.

    z⁰(x) = (w₀/√d) W⁰x + b₀β⁰,   zˡ(x) = (w_l/√width) Wˡφ(zˡ⁻¹(x)) + b_lβˡ,   f = z^depth

with all entries of W and β from N(0, 1), those that are trained. As the widths grow:

    K⁰ = w₀² x·x'/d + b₀²       Kˡ = w_l² E[φ(z)φ(z')] + b_l²,    (z, z') ~ N(0, Kˡ⁻¹)
    Θ⁰ = K⁰                     Θˡ = Kˡ + w_l² E[φ'(z)φ'(z')] Θˡ⁻¹

(Lee et al. 2019, arXiv:1902.06720, appendix E; the NTK parametrisation of Jacot et al. 2018,
arXiv:1806.07572). `nngp` is K^depth, the covariance of the outputs at the start, `ntk` is
Θ^depth, the kernel of their gradient flow. A layer that is not trained adds no Kˡ.

Time unit and normalisation: with `ntk` as H the kernel flow u̇ = −H(u − y) is that of the
**sum** ½Σ(u − y)²; t = k·step_size of full-batch descent on it in the parametrisation above.
For the mean over n points time runs n times slower.

===================================  ==========================================================
others write                         here
===================================  ==========================================================
Jacot et al. 2018, β for the biases  w_std=1, b_std=β
Arora et al. 2019, c_σ = 1/E[φ(z)²]  w_std=(√d, √c_σ, …, √c_σ); their inputs are not divided by
                                     √d; ReLU has c_σ = 2; they train no biases
He initialisation, ReLU              w_std=√2 (the first kernel is 2x·x'/d)
Lee et al. 2019, σ_w and σ_b         w_std=σ_w, b_std=σ_b
Du et al. 2019, H*                   depth=1, w_std=(√d, 1), trained=[0]: `two_layer_relu_gram`
standard parametrisation             the same flow where a layer's weights step w_std²/inputs
                                     times as far as here, its biases b_std² times
===================================  ==========================================================
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
from gflow.kernels.dense_layers import diagonal, propagate_pairs, propagate_points
from gflow.kernels.layers import Layers, NetworkOptions, checked_points, make_layers
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
from gflow.linalg.blocks import spans

_TILE_ASPECT = 2  # columns of a tile for each of its rows
_ARRAYS_PER_TILE = 12  # temporary arrays of a tile's size
_GATHERED = 4 << 20  # numbers, while pairs that nearly coincide are computed again


def ntk(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    trained: Sequence[int] | None = None,
    out: str | Path | None = None,
    max_memory: float | None = None,
    progress: Progress | bool | None = None,
    **network: Unpack[NetworkOptions],
) -> Tensor:
    """Compute the neural tangent kernel of a fully connected network of infinite width.

    Conventions, those of other authors and the time unit are at the head of this module.

    Parameters
    ----------
    x1 : Tensor, shape (n1, d)
        Points, one a row, of any length; float64, or float32.
    x2 : Tensor, shape (n2, d), optional
        Further points; x1 itself by default, and then the kernel is exactly symmetric.
    trained : sequence of int, optional
        Which layers are trained, weights and biases: 0 is the first, depth the read-out.
        All of them by default.
    out : path of a .npy file, optional
        Store the matrix on disk: the tensor returned is mapped to this file.
    max_memory : float, optional
        Bytes that this call may take; see `memory_needed`.
    progress : callable or bool, optional
        Called with the entries done and their total; True shows a bar.
    **network : NetworkOptions
        ``depth=1``, the hidden layers; ``activation="relu"``: a name in
        `gflow.kernels.activations`, a smooth function of tensors or an `Activation`;
        ``w_std=1.0`` and ``b_std=0.0``, standard deviations of weights and biases, one for all
        layers or one for each of depth + 1, the read-out last.

    Returns
    -------
    Tensor, shape (n1, n2)
        In the dtype of x1; no gradients flow through it. Entries are right to about 1e-13
        of the largest in float64, 1e-5 in float32, also for points that nearly coincide.

    Raises
    ------
    InputError
        If an argument does not fit, or the call needs more than ``max_memory``.

    Examples
    --------
    >>> import torch
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> [round(v, 6) for v in ntk(x, depth=1, w_std=2**0.5)[0].tolist()]
    [2.0, 0.31831]
    """
    layers = make_layers(trained=trained, **network)
    return _gram(x1, x2, layers, out, max_memory, progress)


def nngp(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    out: str | Path | None = None,
    max_memory: float | None = None,
    progress: Progress | bool | None = None,
    **network: Unpack[NetworkOptions],
) -> Tensor:
    """Compute the covariance of the outputs of a random network of infinite width.

    Kernel flow with this kernel is that of the network with only its read-out trained, less
    the read-out's bias.

    Parameters
    ----------
    x1 : Tensor, shape (n1, d)
        Points, one a row.
    x2 : Tensor, shape (n2, d), optional
        Further points; x1 itself by default.
    out : path of a .npy file, optional
        Where to store the matrix on disk.
    max_memory : float, optional
        Bytes that this call may take.
    progress : callable or bool, optional
        Called with the entries done and their total; True shows a bar.
    **network : NetworkOptions
        See `ntk`.

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
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> [round(v, 6) for v in nngp(x, depth=1, w_std=2**0.5)[0].tolist()]
    [1.0, 0.31831]
    """
    layers = make_layers(**network).untrained()
    return _gram(x1, x2, layers, out, max_memory, progress)


def memory_needed(
    x1: Tensor, x2: Tensor | None = None, *, depth: int = 1, out: str | Path | None = None
) -> Memory:
    """Estimate the bytes that `ntk` or `nngp` take, the points themselves aside.

    Only shapes are used: points on the device "meta" cost nothing.

    Parameters
    ----------
    x1 : Tensor, shape (n1, d)
        Points.
    x2 : Tensor, shape (n2, d), optional
        Further points; x1 itself by default.
    depth : int
        Hidden layers.
    out : path, optional
        Where the matrix is stored on disk, if it is.

    Returns
    -------
    Memory

    Examples
    --------
    >>> import torch
    >>> x = torch.empty(20_000, 784, dtype=torch.float32, device="meta")
    >>> print(memory_needed(x, depth=3))
    1.78 GB of memory: the matrix 1.6 GB, work 0.181 GB
    """
    x1, x2 = points_of_any_device(x1, x2, 2)
    depth = require_depth(depth)
    points = (x1,) if x2 is None else (x1, x2)
    entries = len(x1) * len(points[-1])
    vectors = sum(2 * x.numel() + 8 * (depth + 1) * len(x) for x in points)
    work = vectors + _GATHERED + _ARRAYS_PER_TILE * min(entries, tile_entries(x1))
    return gram_memory(x1, x2, work, out)


@torch.no_grad()
def _gram(
    x1: Tensor,
    x2: Tensor | None,
    layers: Layers,
    out: str | Path | None,
    max_memory: float | None,
    progress: Progress | bool | None,
) -> Tensor:
    x1, x2 = checked_points(x1, x2, "(n, d)")
    progress = as_count_progress(progress)
    require_memory(memory_needed(x1, x2, depth=layers.depth, out=out), max_memory)
    side1 = propagate_points(x1, layers)
    side2 = side1 if x2 is None else propagate_points(x2, layers)

    def tile(rows: slice, columns: slice) -> Tensor:
        a, b = side1.part(rows, (-1, 1)), side2.part(columns, (1, -1))
        return propagate_pairs(a, b, layers)

    height = math.isqrt(tile_entries(x1) // _TILE_ASPECT)
    shape = (height, _TILE_ASPECT * height)
    with new_matrix((len(x1), len(side2.unit)), x1, out) as gram:
        fill(gram, tile, shape, x2 is None, progress)
        if x2 is None:
            for rows in spans(len(x1), shape[1]):
                gram.diagonal()[rows] = diagonal(side1.part(rows, (-1,)), layers)
        return gram
