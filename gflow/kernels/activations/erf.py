r"""The error function: φ(x) = erf(x) = (2/√π)∫₀ˣ e^{−v²}dv.

    E[φφ] = (2/π) arcsin(2K/√(c₁c₂)),  E[φ'φ'] = (4/π)/√(c₁c₂ − 4K²),  cᵢ = 1 + 2rᵢ², K = r₁r₂ρ

(Williams 1997, eq. 11).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gflow.kernels.dual_maps import Smooth


class Erf(Smooth):
    """Closed forms of the error function."""

    function = staticmethod(torch.erf)

    def expectations(
        self, r1: Tensor, r2: Tensor, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor]:
        q1, q2, rr = r1 * r1, r2 * r2, r1 * r2
        root = (1.0 + 2.0 * (q1 + q2) + (2.0 * rr * sine).square_()).sqrt_()
        # arcsin by its tangent: near 1 it would lose half of the digits.
        features = torch.atan2(2.0 * rr * cosine, root).mul_(2 / math.pi)
        return features, (4 / math.pi) / root


ACTIVATION = Erf()
