"""A network of infinite width, layer by layer, and what a layer does to single points."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gflow.checks import require_count, require_finite, require_nonempty
from gflow.errors import InputError
from gflow.kernels.activations import ACTIVATIONS, Activation

#: One number for all layers, or one a layer with weights, the read-out included.
PerLayer = float | Sequence[float]
AnyActivation = str | Activation | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Layers:
    """Standard deviations of weights and biases of depth + 1 layers, and which are trained."""

    activation: Activation
    w: tuple[float, ...]
    b: tuple[float, ...]
    trained: tuple[bool, ...]

    @property
    def depth(self) -> int:
        return len(self.w) - 1


def make_layers(
    depth: int,
    activation: AnyActivation,
    w_std: PerLayer,
    b_std: PerLayer,
    trained: Sequence[int] | None = None,
) -> Layers:
    """Validate a network.

    Raises
    ------
    InputError
        If the depth is below 1, a deviation is not a finite number of the right sign, there
        is not one for each layer, or a trained layer does not exist.
    """
    require_count("depth", depth)
    w = _per_layer("w_std", w_std, depth, positive=True)
    b = _per_layer("b_std", b_std, depth, positive=False)
    chosen = range(depth + 1) if trained is None else trained
    if (
        not isinstance(chosen, Sequence)
        or not chosen
        or any(k not in range(depth + 1) for k in chosen)
    ):
        raise InputError(
            f"trained must name layers from 0 to {depth} (the read-out), at least one, "
            f"got {chosen!r:.80}"
        )
    mask = tuple(k in chosen for k in range(depth + 1))
    return Layers(find_activation(activation), w, b, mask)


def _per_layer(name: str, given: PerLayer, depth: int, positive: bool) -> tuple[float, ...]:
    values = tuple(given) if isinstance(given, Sequence) else (given,) * (depth + 1)
    if not all(isinstance(value, numbers.Real) for value in values):
        raise InputError(f"{name} must be a number or a sequence of numbers, got {given!r:.80}")
    if len(values) != depth + 1:
        raise InputError(
            f"{name} must be one number or one for each of {depth + 1} layers (the read-out "
            f"included), got {len(values)}"
        )
    for value in values:
        if not (math.isfinite(value) and (value > 0 if positive else value >= 0)):
            sign = "positive" if positive else "non-negative"
            raise InputError(f"{name} must be finite and {sign}, got {value}")
    return tuple(float(value) for value in values)


def check_points(x1: Tensor, x2: Tensor | None, shape: str) -> None:
    """Raise InputError unless both are finite floating-point tensors that fit together."""
    for name, x in (("x1", x1), ("x2", x1 if x2 is None else x2)):
        if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"{name} must be a float64 or float32 tensor, got {kind}")
        if x.ndim != shape.count(",") + 1:
            raise InputError(f"{name} must have shape {shape}, got {tuple(x.shape)}")
        require_nonempty(name, x)
        require_finite(name, x)
    if x2 is None:
        return
    if x1.shape[1:] != x2.shape[1:]:
        raise InputError(
            "x1 and x2 must have the same columns, got "
            f"{', '.join(map(str, x1.shape[1:]))} and {', '.join(map(str, x2.shape[1:]))}"
        )
    if (x1.dtype, x1.device) != (x2.dtype, x2.device):
        raise InputError(
            f"x1 and x2 must share dtype and device, got {x1.dtype} on {x1.device} and "
            f"{x2.dtype} on {x2.device}"
        )


class Split(NamedTuple):
    """Pre-activations, from features and from the bias.

    ``features``/``std`` is cos ψ and b/``std`` is sin ψ: with the bias as one more coordinate
    the direction of a point is (cos ψ·direction of its features, sin ψ).
    """

    variance: Tensor
    std: Tensor
    cos: Tensor
    sin: Tensor
    half_cos: Tensor
    half_sin: Tensor


def split(features: Tensor, b: float) -> Split:
    """`Split` of features of a given variance, w² included, beside a bias of deviation b.

    Raises
    ------
    InputError
        If the variance has overflowed.
    """
    variance = features + b * b
    if not bool(torch.isfinite(variance).all()):
        raise InputError(
            f"points must be short enough for the kernel to fit {features.dtype}, but it "
            "overflows; scale the inputs or w_std down"
        )
    half = 0.5 * torch.atan2(torch.full_like(features, b), features.sqrt())
    turn = 2.0 * half
    return Split(variance, variance.sqrt(), turn.cos(), turn.sin(), half.cos(), half.sin())


def find_activation(given: str | Activation | Callable[[Tensor], Tensor]) -> Activation:
    """The activation of a name, of a callable σ (by its Hermite series), or itself.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    if isinstance(given, Activation):
        return given
    if isinstance(given, str):
        if given not in ACTIVATIONS:
            raise InputError(
                f"activation must be one of {', '.join(ACTIVATIONS)}, or a callable, got {given!r}"
            )
        return ACTIVATIONS[given]
    if callable(given):
        from gflow.kernels.hermite import HermiteSeries

        return HermiteSeries(given)
    raise InputError(
        f"activation must be a name, a callable or an Activation, got {type(given).__name__}"
    )
