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

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gflow.kernels.dense_layers import diagonal, make_side, propagate
from gflow.kernels.layers import (
    AnyActivation,
    Layers,
    PerLayer,
    check_points,
    make_layers,
)
from gflow.kernels.tiling import Memory, Progress, fill, matrix, memory, require_room, tile_numbers

_STEP_RATIO = 2  # columns of a tile for each of its rows
_TILES_AT_WORK = 12
_GATHERED = 4 << 20  # numbers, while pairs that nearly coincide are done again


def ntk(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int = 1,
    activation: AnyActivation = "relu",
    w_std: PerLayer = 1.0,
    b_std: PerLayer = 0.0,
    trained: Sequence[int] | None = None,
    out: str | Path | None = None,
    max_memory: float | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Neural tangent kernel of a fully connected network of infinite width.

    Conventions, other people's conventions and the time unit are at the head of this module.

    Parameters
    ----------
    x1 : Tensor, shape (n1, d)
        Points, one a row, of any length; float64, or float32.
    x2 : Tensor, shape (n2, d), optional
        Further points; x1 itself by default, then exactly symmetric.
    depth : int
        Hidden layers.
    activation : str, callable or Activation
        relu, leaky_relu (slope 0.1), abs, erf, gelu, linear; or a smooth function of tensors
        that torch can differentiate (`gflow.kernels.hermite.HermiteSeries`).
    w_std, b_std : float or sequence of depth + 1 floats
        Standard deviations of weights and biases, one for all layers or each its own, the
        read-out last.
    trained : sequence of int, optional
        Which layers are trained, weights and biases: 0 is the first, depth the read-out.
    out : path of a .npy file, optional
        Keep the matrix on disk: the tensor returned is mapped to this file.
    max_memory : float, optional
        Bytes this call may take; see `memory_needed`.
    progress : callable, optional
        Called with the entries done and their total.

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
    layers = make_layers(depth, activation, w_std, b_std, trained)
    return _gram(x1, x2, layers, out, max_memory, progress)


def nngp(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int = 1,
    activation: AnyActivation = "relu",
    w_std: PerLayer = 1.0,
    b_std: PerLayer = 0.0,
    out: str | Path | None = None,
    max_memory: float | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Covariance of the outputs of a random fully connected network of infinite width.

    Arguments, result and errors are those of `ntk`. Kernel flow with this kernel is that of
    the network with only its read-out trained, less the read-out's bias.

    Examples
    --------
    >>> import torch
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> [round(v, 6) for v in nngp(x, depth=1, w_std=2**0.5)[0].tolist()]
    [1.0, 0.31831]
    """
    layers = make_layers(depth, activation, w_std, b_std)
    none = dataclasses.replace(layers, trained=(False,) * (depth + 1))
    return _gram(x1, x2, none, out, max_memory, progress)


def memory_needed(
    x1: Tensor, x2: Tensor | None = None, *, depth: int = 1, out: str | Path | None = None
) -> Memory:
    """Bytes that `ntk` or `nngp` of these points take, the points themselves aside.

    Only shapes are looked at: points on the device "meta" cost nothing.

    Examples
    --------
    >>> import torch
    >>> x = torch.empty(20_000, 784, dtype=torch.float32, device="meta")
    >>> print(memory_needed(x, depth=3))
    1.78 GB of memory: the matrix 1.6 GB, work 0.181 GB
    """
    points = (x1,) if x2 is None else (x1, x2)
    entries = len(x1) * len(points[-1])
    vectors = sum(2 * x.numel() + 8 * (depth + 1) * len(x) for x in points)
    work = vectors + _GATHERED + _TILES_AT_WORK * min(entries, tile_numbers(x1))
    return memory(x1, x2, work, out)


@torch.no_grad()
def _gram(
    x1: Tensor,
    x2: Tensor | None,
    layers: Layers,
    out: str | Path | None,
    max_memory: float | None,
    progress: Progress | None,
) -> Tensor:
    check_points(x1, x2, "(n, d)")
    require_room(memory_needed(x1, x2, depth=layers.depth, out=out), max_memory)
    side1 = make_side(x1, layers)
    side2 = side1 if x2 is None else make_side(x2, layers)

    def tile(below: slice, right: slice) -> Tensor:
        a, b = side1.part(below, (-1, 1)), side2.part(right, (1, -1))
        return propagate(a, b, layers)

    height = math.isqrt(tile_numbers(x1) // _STEP_RATIO)
    step = (height, _STEP_RATIO * height)
    with matrix((len(x1), len(side2.unit)), x1, out) as gram:
        fill(gram, tile, step, x2 is None, progress)
        if x2 is None:
            for start in range(0, len(x1), step[1]):
                rows = slice(start, start + step[1])
                gram.diagonal()[rows] = diagonal(side1.part(rows, (-1,)), layers)
        return gram
