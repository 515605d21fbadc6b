r"""Pairs of points between layers, by u = 1 − ρ and s = √(1 − ρ²).

A dense layer joins features and bias: directions are (cos ψ·features, sin ψ), hence

    u' = cos ψ₁ cos ψ₂ · defect + 2 sin²((ψ₁ − ψ₂)/2)

which is a sum of what is not negative: nothing cancels for points that nearly coincide.
"""

from __future__ import annotations

from torch import Tensor

from gflow.kernels.layers import Layers, PreActivations


def first_pair(
    u: Tensor, v: Tensor, a: PreActivations, b: PreActivations, layers: Layers
) -> tuple[Tensor, Tensor]:
    """Return u and s of the first pre-activations.

    For an even activation a pair with ρ < 0 is replaced by (x, −x'), with ρ > 0: all that
    follows is the same, and x beside −x is then as accurate as x beside itself.

    Parameters
    ----------
    u, v : Tensor
        1 − ρ and 1 + ρ of the points, both overwritten.
    a, b : PreActivations
        Those of both sides, which broadcast to the shape of u.
    layers : Layers
        The network.

    Returns
    -------
    u, s : Tensor

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels.layers import make_layers, pre_activations
    >>> a = pre_activations(torch.ones(1), 0.0)
    >>> u, s = first_pair(torch.ones(1), torch.ones(1), a, a, make_layers())
    >>> u.item(), s.item()
    (1.0, 1.0)
    """
    if layers.b[0] > 0:
        u, v = join_bias(u, a, b), join_bias(v, a, b).add_(2.0 * a.sin * b.sin)
    s = (u * v).sqrt_()
    return u.minimum(v) if layers.activation.even else u, s


def join_bias(defect: Tensor, a: PreActivations, b: PreActivations) -> Tensor:
    """Return u of pre-activations from the features' defect.

    Parameters
    ----------
    defect : Tensor
        1 − the cosine of the features; overwritten.
    a, b : PreActivations
        Those of both sides, which broadcast to the shape of the defect.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels.layers import pre_activations
    >>> a = pre_activations(torch.ones(1), 1.0)   # half of the variance is the bias'
    >>> round(join_bias(torch.ones(1), a, a).item(), 6)
    0.5
    """
    half_chord = (a.half_sin * b.half_cos).addcmul_(a.half_cos, b.half_sin, value=-1.0)
    return defect.mul_(a.cos * b.cos).addcmul_(half_chord, half_chord, value=2.0)


def sine(u: Tensor) -> Tensor:
    """Return s = √(u(2 − u))."""
    return (2.0 - u).clamp_min_(0.0).mul_(u).sqrt_()
