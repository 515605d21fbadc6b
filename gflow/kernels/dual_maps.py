r"""Dual maps: what a layer of infinite width does to a pair of points, given its activation φ.

The pre-activations of two points are Gaussian, (x, y) = (r₁z₁, r₂z₂) with corr(z₁, z₂) = ρ.
A layer needs E[φ(x)φ(y)], the covariance of the features, and E[φ'(x)φ'(y)]. They are known in
closed form for

- φ = αx + β|x|, `PiecewiseLinear`: E[φφ] = r₁r₂(α²ρ + β²(2/π)(s + ρ(π/2 − θ))),
  E[φ'φ'] = α² + β²(1 − 2θ/π), with θ = arccos ρ and s = sin θ (Cho & Saul 2009, eq. 6);
- erf and gelu, `Smooth`: see their files in `gflow.kernels.activations`;

and for other smooth functions by a Hermite series, `gflow.kernels.hermite`.

Pairs are given and returned by u = 1 − ρ, not by ρ: φ' of a kinked activation sees √u, so
round-off of 1 − ρ in points that nearly coincide would cost half of the digits.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable

import torch
from torch import Tensor


class Activation(abc.ABC):
    """The dual maps of an activation φ: the argument ``activation`` of `ntk` and `nngp`.

    Attributes
    ----------
    function : callable
        φ itself, elementwise on tensors. The kernels use the dual maps alone; the tests
        need φ, to integrate it by quadrature, so every file in `gflow.kernels.activations` has it.
    even : bool
        Whether φ(−x) = φ(x): then a pair (x, −x) is a pair of equal points.
    """

    function: Callable[[Tensor], Tensor]
    even: bool = False

    @abc.abstractmethod
    def feature_variance(self, r: Tensor, q: Tensor) -> Tensor:
        """Return E[φ(rz)²], z ~ N(0, 1).

        Parameters
        ----------
        r : Tensor
            Standard deviations of the pre-activations, of any shape.
        q : Tensor
            Variances r², of the same shape.

        Returns
        -------
        Tensor
            Of the shape of r.
        """

    @abc.abstractmethod
    def pair(
        self, r1: Tensor, r2: Tensor, h1: Tensor, h2: Tensor, u: Tensor, s: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map pairs of pre-activations to pairs of features.

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
    """φ(x) = αx + β|x|; its features scale with the pre-activations.

    1 − κ = u − γ(s − ρθ), γ = (2/π)β²/(α² + β²): the bracket is of order θ³, so the error of
    the new angle stays at round-off however small the angle.

    Parameters
    ----------
    alpha, beta : float
        α and β: the slopes are α − β for x < 0 and α + β for x > 0.

    Examples
    --------
    >>> import torch
    >>> relu = PiecewiseLinear(alpha=0.5, beta=0.5)
    >>> relu.function(torch.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, alpha: float, beta: float):
        self.alpha, self.beta, self.even = alpha, beta, alpha == 0.0
        self._power = alpha * alpha + beta * beta
        self._bend = beta * beta / self._power

    def function(self, x: Tensor) -> Tensor:
        """Return φ(x)."""
        return self.alpha * x + self.beta * x.abs()

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
    """An activation given by its two expectations, whose digits do not depend on √u."""

    @abc.abstractmethod
    def expectations(
        self, r1: Tensor, r2: Tensor, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return E[φ(x)φ(y)] and E[φ'(x)φ'(y)] of pairs.

        Parameters
        ----------
        r1, r2 : Tensor
            Standard deviations of x and y, broadcastable to the shape of the cosine.
        cosine, sine : Tensor
            ρ and √(1 − ρ²).

        Returns
        -------
        features, slopes : Tensor
            Of the shape of the cosine, newly allocated.
        """

    def feature_variance(self, r: Tensor, q: Tensor) -> Tensor:
        return self.expectations(r, r, torch.ones_like(r), torch.zeros_like(r))[0].clamp_min(0.0)

    def pair(
        self, r1: Tensor, r2: Tensor, h1: Tensor, h2: Tensor, u: Tensor, s: Tensor
    ) -> tuple[Tensor, Tensor]:
        features, slopes = self.expectations(r1, r2, 1.0 - u, s)
        inverse1, inverse2 = safe_inverse(h1), safe_inverse(h2)
        defect = (1.0 - features.mul_(inverse1).mul_(inverse2)).clamp_min_(0.0)
        return defect, slopes.mul_(r1 * inverse1).mul_(r2 * inverse2)


def safe_inverse(h: Tensor) -> Tensor:
    """Return 1/h, and 0 where h = 0: a row without features has no angle."""
    return torch.where(h > 0, 1.0 / h, torch.zeros_like(h))
