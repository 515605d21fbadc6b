r"""Dual maps of any smooth activation by its Hermite series.

With normalised Hermite polynomials h_k, a_k(r) = E[φ(rz)h_k(z)] and b_k(r) = E[φ'(rz)h_k(z)],

    E[φ(x)φ(y)] = Σ_k a_k(r₁)a_k(r₂)ρ^k,    E[φ'(x)φ'(y)] = Σ_k b_k(r₁)b_k(r₂)ρ^k

(Mehler; Daniely et al. 2016, arXiv:1602.05897). The coefficients are Gauss-Hermite quadratures,
one set a row and not one a pair. The part of E[φ(rz)²] = Σ a_k² beyond the first terms bounds
the error for every pair, so the error is known before a kernel is returned.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gflow.checks import evaluated, require_count, require_positive
from gflow.errors import InputError
from gflow.kernels.dual_maps import Smooth

_NODES = 3  # for each term: with two, the remainder of tanh is underestimated by half
_BATCH = 256  # deviations at once


class HermiteSeries(Smooth):
    """An activation known by its values alone.

    Parameters
    ----------
    function : callable
        φ, elementwise on tensors and differentiable by torch: φ' is taken from it.
    tolerance : float
        Largest share of E[φ²] and of E[φ'²] that the series may leave out, hence the largest
        error of both maps relative to their diagonals.
    terms : int
        Terms of the series. All pairs have the same, so the kernel stays positive
        semidefinite to round-off whatever is left out.

    Raises
    ------
    InputError
        If ``terms`` or ``tolerance`` is out of range; in use, where the series leaves out more
        than ``tolerance``: of an activation with a kink, or for very long points.

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels import nngp
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> same = nngp(x, activation=HermiteSeries(torch.erf)) - nngp(x, activation="erf")
    >>> bool(same.abs().max() < 1e-9)
    True
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], tolerance: float = 1e-6, terms: int = 256
    ):
        terms, tolerance = require_count("terms", terms), require_positive("tolerance", tolerance)
        self.function, self.terms, self.tolerance = function, terms, tolerance
        self.name = str(getattr(function, "__name__", type(function).__name__))

    def feature_variance(self, r: Tensor, q: Tensor) -> Tensor:
        batches = r.flatten().split(_BATCH)
        variances = [self._coefficients(batch)[0].square().sum(0) for batch in batches]
        return torch.cat(variances).reshape(r.shape)

    def expectations(
        self, r1: Tensor, r2: Tensor, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor]:
        (a1, b1), (a2, b2) = self._coefficients(r1), self._coefficients(r2)
        return _mehler(a1, a2, cosine), _mehler(b1, b2, cosine)

    def _coefficients(self, r: Tensor) -> list[Tensor]:
        """Return a_k(r) and b_k(r), each of shape (terms, *r.shape)."""
        nodes, roots, table = (
            torch.as_tensor(v, dtype=r.dtype, device=r.device) for v in _quadrature(self.terms)
        )
        allowed = max(self.tolerance, 1e3 * torch.finfo(r.dtype).eps)
        maps = []
        for sample in self._values_and_slopes(r[..., None] * nodes):
            coefficients = (sample * roots) @ table.mT
            total = (sample * roots).square().sum(-1)
            beyond = (total - coefficients.square().sum(-1)) / torch.where(total > 0, total, 1.0)
            remainder = float(beyond.nan_to_num(nan=math.inf).max())
            if remainder > allowed:
                raise InputError(
                    f"the series of activation {self.name!r} must leave out at most {allowed:.1g} "
                    f"of E[φ²] and E[φ'²], but {self.terms} terms leave out {remainder:.1g}; "
                    "smooth the activation, scale the inputs down, or pass "
                    "HermiteSeries(function, tolerance, terms) with more of either"
                )
            maps.append(coefficients.movedim(-1, 0).contiguous())
        return maps

    def _values_and_slopes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            values = evaluated(f"activation {self.name!r}", lambda: self.function(x))
            if not isinstance(values, Tensor) or values.shape != x.shape:
                raise InputError(f"activation {self.name!r} must map a tensor to one of its shape")
            if not values.requires_grad:
                raise InputError(f"activation {self.name!r} must be differentiable by torch")
            (slopes,) = torch.autograd.grad(values.sum(), x)
        return values.detach(), slopes


def _mehler(a1: Tensor, a2: Tensor, cosine: Tensor) -> Tensor:
    """Return Σ_k a₁ₖa₂ₖρ^k by Horner's rule."""
    total = torch.zeros_like(cosine)
    for first, second in zip(a1.flip(0), a2.flip(0), strict=True):
        total.mul_(cosine).addcmul_(first, second)
    return total


@functools.lru_cache(maxsize=8)
def _quadrature(terms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return nodes, √weights for N(0, 1), and h_k·√weight at the nodes, shape (terms, nodes).

    Times the root of the weight h_k stays of order one; alone it would overflow.
    """
    from scipy.special import roots_hermitenorm

    nodes, weights = roots_hermitenorm(_NODES * terms)
    roots = np.sqrt(weights / weights.sum())
    table = np.zeros((terms, len(nodes)))
    table[0] = roots
    if terms > 1:
        table[1] = nodes * roots
    for k in range(2, terms):
        table[k] = (nodes * table[k - 1] - np.sqrt(k - 1) * table[k - 2]) / np.sqrt(k)
    return nodes, roots, table
