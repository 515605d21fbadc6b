r"""Dual maps of activations: what one layer of infinite width does to a pair of points.

The pre-activations of two points are Gaussian, (x, y) = (r₁z₁, r₂z₂) with corr(z₁, z₂) = ρ.
A layer needs E[φ(x)φ(y)], the covariance of the features, and E[φ'(x)φ'(y)].

====================  ==========================================================================
relu, leaky_relu,     φ = αx + β|x|:  E[φφ] = r₁r₂(α²ρ + β²(2/π)(s + ρ(π/2 − θ))),
abs, linear           E[φ'φ'] = α² + β²(1 − 2θ/π)   (Cho & Saul 2009, eq. 6)
erf                   E[φφ] = (2/π) arcsin(2K/√(c₁c₂)),  E[φ'φ'] = (4/π)/√Δ,  cᵢ = 1 + 2rᵢ²
                      (Williams 1997, eq. 11)
gelu                  xΦ(x), derived below
callable              Hermite series, `gflow.kernels.hermite`
====================  ==========================================================================

with θ = arccos ρ, s = sin θ, K = r₁r₂ρ. Pairs are given and returned by u = 1 − ρ, not by ρ:
φ' of a kinked activation sees √u, so round-off of 1 − ρ in points that nearly coincide would
cost half of the digits.

GELU: xΦ(x) = E[x·1(a > 0)] with a = x − ξ, ξ ~ N(0, 1). Integrating the two factors x, y by
parts leaves Gaussian densities and one orthant probability: with pᵢ = 1/(1 + rᵢ²),
Δ = (1 + r₁²)(1 + r₂²) − K², P = ¼ + arctan(K/√Δ)/2π,

    E[φφ]   = K P + (m + K²(p₁ + p₂))/(2π√Δ),       m = r₁²r₂² − K² = (r₁r₂s)²
    E[φ'φ'] = dE[φφ]/dK = P + K/(2π√Δ)·(2(p₁ + p₂) − (1 + r₂²p₁ + r₁²p₂ + (p₁ + p₂)m)/Δ)
"""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor


class Activation(abc.ABC):
    """The two dual maps of φ; a subclass is given to `ntk` and `nngp` as ``activation``.

    ``even`` says that φ(−x) = φ(x): then a pair (x, −x) is a pair of equal points.
    """

    name: str
    even: bool = False

    @abc.abstractmethod
    def feature_variance(self, r: Tensor, q: Tensor) -> Tensor:
        """E[φ(rz)²], z ~ N(0, 1), for standard deviations r of any shape and q = r²."""

    @abc.abstractmethod
    def pair(
        self, r1: Tensor, r2: Tensor, h1: Tensor, h2: Tensor, u: Tensor, s: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What a layer makes of pairs.

        Parameters
        ----------
        r1, r2 : Tensor
            Standard deviations of the pre-activations, broadcastable to the shape of u.
        h1, h2 : Tensor
            The roots of `feature_variance`.
        u, s : Tensor
            1 − ρ and √(1 − ρ²); both may be overwritten.

        Returns
        -------
        defect : Tensor
            1 − E[φφ]/(h₁h₂), one minus the cosine of the features; never negative.
        slope : Tensor
            E[φ'φ']·r₁r₂/(h₁h₂).
        """


class PiecewiseLinear(Activation):
    """φ(x) = αx + β|x|: ReLU α = β = ½; its features scale with the pre-activations.

    1 − κ = u − γ(s − ρθ), γ = (2/π)β²/(α² + β²): the bracket is of order θ³, so the error of
    the new angle stays at round-off however small the angle.
    """

    def __init__(self, name: str, alpha: float, beta: float):
        self.name, self.even = name, alpha == 0.0
        self._power = alpha * alpha + beta * beta
        self._bend = beta * beta / self._power

    def feature_variance(self, r: Tensor, q: Tensor) -> Tensor:
        return self._power * q

    def pair(
        self, r1: Tensor, r2: Tensor, h1: Tensor, h2: Tensor, u: Tensor, s: Tensor
    ) -> tuple[Tensor, Tensor]:
        cosine = 1.0 - u
        theta = torch.atan2(s, cosine)
        s.addcmul_(theta, cosine, value=-1.0)
        defect = u.sub_(s, alpha=2 / math.pi * self._bend).clamp_min_(0.0)
        return defect, theta.mul_(-2 / math.pi * self._bend).add_(1.0)


class Smooth(Activation):
    """An activation given by its two expectations; their digits do not hang on √u."""

    @abc.abstractmethod
    def expectations(
        self, r1: Tensor, r2: Tensor, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor]:
        """E[φφ] and E[φ'φ'] of pairs."""

    def feature_variance(self, r: Tensor, q: Tensor) -> Tensor:
        return self.expectations(r, r, torch.ones_like(r), torch.zeros_like(r))[0].clamp_min(0.0)

    def pair(
        self, r1: Tensor, r2: Tensor, h1: Tensor, h2: Tensor, u: Tensor, s: Tensor
    ) -> tuple[Tensor, Tensor]:
        features, slopes = self.expectations(r1, r2, 1.0 - u, s)
        inverse1, inverse2 = safe_inverse(h1), safe_inverse(h2)
        defect = (1.0 - features.mul_(inverse1).mul_(inverse2)).clamp_min_(0.0)
        return defect, slopes.mul_(r1 * inverse1).mul_(r2 * inverse2)


class Erf(Smooth):
    """φ(x) = erf(x) = (2/√π)∫₀ˣ e^{−v²}dv."""

    name = "erf"

    def expectations(
        self, r1: Tensor, r2: Tensor, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor]:
        q1, q2, rr = r1 * r1, r2 * r2, r1 * r2
        root = (1.0 + 2.0 * (q1 + q2) + (2.0 * rr * sine).square_()).sqrt_()
        # arcsin by its tangent: near 1 it would lose half of the digits.
        features = torch.atan2(2.0 * rr * cosine, root).mul_(2 / math.pi)
        return features, (4 / math.pi) / root


class Gelu(Smooth):
    """φ(x) = xΦ(x), Φ the normal distribution function (not its tanh approximation)."""

    name = "gelu"

    def expectations(
        self, r1: Tensor, r2: Tensor, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor]:
        q1, q2 = r1 * r1, r2 * r2
        p1, p2 = 1.0 / (1.0 + q1), 1.0 / (1.0 + q2)
        p, rr = p1 + p2, r1 * r2
        K, m = rr * cosine, (rr * sine).square_()
        determinant = 1.0 + q1 + q2 + m
        root = determinant.sqrt()
        P = torch.atan2(K, root).mul_(0.5 / math.pi).add_(0.25)
        density = (0.5 / math.pi) / root
        features = K * P + (m + K * K * p) * density
        bracket = 2.0 * p - (1.0 + q2 * p1 + q1 * p2 + p * m) / determinant
        return features, P.addcmul_(K * density, bracket)


def safe_inverse(h: Tensor) -> Tensor:
    """1/h, and 0 where h = 0: a row without features has no angle."""
    return torch.where(h > 0, 1.0 / h, torch.zeros_like(h))


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        PiecewiseLinear("relu", 0.5, 0.5),
        PiecewiseLinear("leaky_relu", 0.55, 0.45),  # slope 0.1
        PiecewiseLinear("abs", 0.0, 1.0),
        PiecewiseLinear("linear", 1.0, 0.0),
        Erf(),
        Gelu(),
    )
}
