"""A network of infinite width: its layers, and what each does to single points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self, TypedDict

import torch
from torch import Tensor

from gflow.checks import (
    is_number,
    require_depth,
    require_finite,
    require_float,
    require_nonempty,
    require_number,
    require_numbers,
    shown,
)
from gflow.errors import InputError
from gflow.kernels.activations import ACTIVATIONS, Activation
from gflow.text import unknown

#: One number for all layers, or one a layer with weights, the read-out included.
PerLayer = float | Sequence[float]
AnyActivation = str | Activation | Callable[[Tensor], Tensor]


class NetworkOptions(TypedDict, total=False):
    """Keywords that describe a network of infinite width, of `ntk` and of `nngp`.

    Attributes
    ----------
    depth : int
        Hidden layers; 1 by default.
    activation : str, callable or Activation
        A name in `gflow.kernels.activations`, or a smooth function of tensors that torch can
        differentiate (`gflow.kernels.hermite.HermiteSeries`); ``"relu"`` by default.
    w_std : float or sequence of depth + 1 floats
        Standard deviations of the weights, one for all layers or one for each, the read-out
        last; 1 by default.
    b_std : float or sequence of depth + 1 floats
        Those of the biases; 0 by default.
    """

    depth: int
    activation: AnyActivation
    w_std: PerLayer
    b_std: PerLayer


@dataclass(frozen=True)
class Layers:
    """Standard deviations of weights and biases of depth + 1 layers, and which are trained."""

    activation: Activation
    w: tuple[float, ...]
    b: tuple[float, ...]
    trained: tuple[bool, ...]

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return len(self.w) - 1

    def untrained(self) -> Self:
        """Return the same layers, none of them trained."""
        return replace(self, trained=(False,) * len(self.w))


def make_layers(
    depth: int = 1,
    activation: AnyActivation = "relu",
    w_std: PerLayer = 1.0,
    b_std: PerLayer = 0.0,
    trained: Sequence[int] | None = None,
) -> Layers:
    """Validate the description of a network.

    Parameters
    ----------
    depth : int
        Hidden layers.
    activation : str, callable or Activation
        Their activation.
    w_std, b_std : float or sequence of depth + 1 floats
        Standard deviations of weights and biases.
    trained : sequence of int, optional
        The trained layers, from 0 to depth; all of them by default.

    Returns
    -------
    Layers

    Raises
    ------
    InputError
        If the depth is below 1, a deviation is not a finite number of the right sign, there
        is not one for each layer, or a trained layer does not exist.

    Examples
    --------
    >>> make_layers(depth=2, w_std=1.5, trained=[0]).trained
    (True, False, False)
    """
    depth = require_depth(depth)
    w = _per_layer("w_std", w_std, depth, positive=True)
    b = _per_layer("b_std", b_std, depth, positive=False)
    chosen = list(range(depth + 1)) if trained is None else require_numbers("trained", trained)
    if any(k not in range(depth + 1) for k in chosen):
        raise InputError(
            f"trained must name layers from 0 to {depth} (the read-out), at least one, "
            f"got {shown(trained)}"
        )
    mask = tuple(k in chosen for k in range(depth + 1))
    return Layers(find_activation(activation), w, b, mask)


def _per_layer(name: str, given: PerLayer, depth: int, positive: bool) -> tuple[float, ...]:
    single = is_number(given)
    if given is None or isinstance(given, str):
        raise InputError(f"{name} must be a number or a sequence of numbers, got {shown(given)}")
    values = [require_number(name, given)] * (depth + 1) if single else require_numbers(name, given)
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


def find_activation(given: AnyActivation) -> Activation:
    """Return the activation of a name, of a callable φ (by its Hermite series), or itself.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    if isinstance(given, Activation):
        return given
    if isinstance(given, torch.nn.Module):
        given = given.forward
    if isinstance(given, str):
        if given not in ACTIVATIONS:
            raise InputError(f"{unknown('activation', given, ACTIVATIONS)}; or pass a callable")
        return ACTIVATIONS[given]
    if callable(given):
        from gflow.kernels.hermite import HermiteSeries

        return HermiteSeries(given)
    raise InputError(f"activation must be a name, a callable or an Activation, got {shown(given)}")


def checked_points(x1: object, x2: object, shape: str) -> tuple[Tensor, Tensor | None]:
    """Return two sets of points; raise InputError unless they are finite and fit together.

    Parameters
    ----------
    x1 : Tensor
        Points, float64 or float32.
    x2 : Tensor or None
        Further points, of the same dtype, device and shape of each point.
    shape : str
        The shape of a set, such as "(n, d)".

    Returns
    -------
    (Tensor, Tensor or None)

    Raises
    ------
    InputError
        If a set has another shape or dtype, is empty or not finite, or they do not fit.

    Examples
    --------
    >>> import torch
    >>> checked_points(torch.ones(1, 2), None, "(n, d)")
    (tensor([[1., 1.]]), None)
    """
    first = require_float("x1", x1)
    second = None if x2 is None else require_float("x2", x2)
    for name, x in (("x1", first), ("x2", first if second is None else second)):
        if x.dtype not in (torch.float32, torch.float64):
            raise InputError(f"{name} must be a float64 or float32 tensor, got {x.dtype}")
        if x.ndim != shape.count(",") + 1:
            raise InputError(f"{name} must have shape {shape}, got {tuple(x.shape)}")
        require_nonempty(name, x)
        require_finite(name, x)
    if second is None:
        return first, None
    if first.shape[1:] != second.shape[1:]:
        raise InputError(
            "x1 and x2 must have the same columns, got "
            f"{', '.join(map(str, first.shape[1:]))} and {', '.join(map(str, second.shape[1:]))}"
        )
    if (first.dtype, first.device) != (second.dtype, second.device):
        raise InputError(
            f"x1 and x2 must share dtype and device, got {first.dtype} on {first.device} and "
            f"{second.dtype} on {second.device}"
        )
    return first, second


class PreActivations(NamedTuple):
    """Deviations of pre-activations, and how much of them is from the bias.

    cos ψ is the share of the features, their deviation divided by ``std``, and sin ψ that of
    the bias, b/``std``: with the bias as one more coordinate the direction of a point is
    (cos ψ·direction of its features, sin ψ).
    """

    variance: Tensor
    std: Tensor
    cos: Tensor
    sin: Tensor
    half_cos: Tensor
    half_sin: Tensor


def pre_activations(variance: Tensor, b: float) -> PreActivations:
    """Add a bias to features.

    Parameters
    ----------
    variance : Tensor
        Variance of the weighted features, w² included.
    b : float
        Standard deviation of the bias.

    Returns
    -------
    PreActivations

    Raises
    ------
    InputError
        If the variance has overflowed.

    Examples
    --------
    >>> import torch
    >>> pre_activations(torch.tensor([9.0]), 4.0).std.item()
    5.0
    """
    total = variance + b * b
    if not bool(torch.isfinite(total).all()):
        raise InputError(
            f"points must be short enough for the kernel to fit {variance.dtype}, but it "
            "overflows; scale the inputs or w_std down"
        )
    half = 0.5 * torch.atan2(torch.full_like(variance, b), variance.sqrt())
    psi = 2.0 * half
    return PreActivations(total, total.sqrt(), psi.cos(), psi.sin(), half.cos(), half.sin())
