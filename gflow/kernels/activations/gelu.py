r"""GELU: φ(x) = xΦ(x), Φ the normal distribution function (not its tanh approximation).

xΦ(x) = E[x·1(a > 0)] with a = x − ξ, ξ ~ N(0, 1). Integrating the two factors x, y by parts
leaves Gaussian densities and one orthant probability: with K = r₁r₂ρ, pᵢ = 1/(1 + rᵢ²),
Δ = (1 + r₁²)(1 + r₂²) − K², P = ¼ + arctan(K/√Δ)/2π,

    E[φφ]   = K P + (m + K²(p₁ + p₂))/(2π√Δ),       m = r₁²r₂² − K² = (r₁r₂ sin θ)²
    E[φ'φ'] = dE[φφ]/dK = P + K/(2π√Δ)·(2(p₁ + p₂) − (1 + r₂²p₁ + r₁²p₂ + (p₁ + p₂)m)/Δ)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gflow.kernels.dual_maps import Smooth


class Gelu(Smooth):
    """Closed forms of GELU."""

    function = staticmethod(torch.nn.functional.gelu)

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


ACTIVATION = Gelu()
