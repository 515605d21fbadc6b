r"""Pairs of points between layers, by u = 1 − ρ and s = √(1 − ρ²).

A dense layer joins features and bias: directions are (cos ψ·features, sin ψ), hence

    u' = cos ψ₁ cos ψ₂ · defect + 2 sin²((ψ₁ − ψ₂)/2)

which is a sum of what is not negative: nothing cancels for points that nearly coincide.
"""

from __future__ import annotations

from torch import Tensor

from gflow.kernels.layers import Split


def first_pair(
    u: Tensor, v: Tensor, a: Split, b: Split, biased: bool, even: bool
) -> tuple[Tensor, Tensor]:
    """u and s of the first pre-activations, from 1 − ρ and 1 + ρ of the points.

    For an even activation a pair with ρ < 0 is replaced by (x, −x'), with ρ > 0: all that
    follows is the same, and x beside −x is then as accurate as x beside itself.
    """
    if biased:
        u, v = join(u, a, b), join(v, a, b).add_(2.0 * a.sin * b.sin)
    s = (u * v).sqrt_()
    return u.minimum(v) if even else u, s


def join(defect: Tensor, a: Split, b: Split) -> Tensor:
    """u of pre-activations from the features' defect, which is overwritten."""
    half_chord = (a.half_sin * b.half_cos).addcmul_(a.half_cos, b.half_sin, value=-1.0)
    return defect.mul_(a.cos * b.cos).addcmul_(half_chord, half_chord, value=2.0)


def sine(u: Tensor) -> Tensor:
    """s = √(u(2 − u))."""
    return (2.0 - u).clamp_min_(0.0).mul_(u).sqrt_()
