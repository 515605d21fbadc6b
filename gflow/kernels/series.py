r"""Dual maps of any smooth activation by its Hermite series.

With normalised Hermite polynomials h_k, a_k(r) = E[φ(rz)h_k(z)] and b_k(r) = E[φ′(rz)h_k(z)],

    E[φ(x)φ(y)] = Σ_k a_k(r₁)a_k(r₂)ρ^k,    E[φ′(x)φ′(y)] = Σ_k b_k(r₁)b_k(r₂)ρ^k

(Mehler; Daniely et al. 2016, arXiv:1602.05897). The coefficients are Gauss-Hermite quadratures,
one set a row and not one a pair. What the first terms leave of E[φ(rz)²] = Σ a_k² bounds the
error for every pair, so the error is known before a kernel is returned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.kernels.activations import Smooth


class HermiteSeries(Smooth):
    """An activation by its values alone.

    Parameters
    ----------
    function : callable
        φ, elementwise on tensors and differentiable by torch: φ′ is taken from it.
    terms : int
        Terms of the series; quadrature has twice as many nodes.
    tolerance : float
        Largest share of E[φ²] or E[φ′²] that the series may leave, hence the relative error
        of both maps.

    Raises
    ------
    InputError
        In use, where more is left: of an activation with a kink, or of very large inputs.

    Examples
    --------
    >>> import torch
    >>> from gflow.kernels import nngp
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> same = nngp(x, activation=HermiteSeries(torch.erf)) - nngp(x, activation="erf")
    >>> bool(same.abs().max() < 1e-12)
    True
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], terms: int = 128, tolerance: float = 1e-8
    ):
        if terms < 1:
            raise InputError(f"terms must be at least 1, got {terms}")
        self.function, self.terms, self.tolerance = function, terms, tolerance
        self.name = str(getattr(function, "__name__", type(function).__name__))

    def expectations(
        self, r1: Tensor, r2: Tensor, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor]:
        first, second = self._coefficients(r1), self._coefficients(r2)
        found = []
        for a, b in zip(first, second, strict=True):
            total = torch.zeros_like(cosine)
            for k in range(self.terms - 1, -1, -1):
                total = total.mul_(cosine).add_(a[k] * b[k])
            found.append(total)
        return found[0], found[1]

    def _coefficients(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """a_k(r) and b_k(r), each of shape (terms, *r.shape)."""
        nodes, roots, table = (
            torch.as_tensor(v, dtype=r.dtype, device=r.device) for v in _quadrature(self.terms)
        )
        values, slopes = self._values_and_slopes(r[..., None] * nodes)
        found = []
        for what, sample in (("E[φ²]", values), ("E[φ′²]", slopes)):
            coefficients = (sample * roots) @ table.mT
            whole = (sample * roots).square().sum(-1)
            left = (whole - coefficients.square().sum(-1)) / whole.clamp_min(1e-30)
            worst = float(left.max())
            allowed = max(self.tolerance, 1e3 * torch.finfo(r.dtype).eps)
            if not worst <= allowed:
                raise InputError(
                    f"the series of activation {self.name!r} must leave at most {allowed:.1g} of "
                    f"{what}, but {self.terms} terms leave {worst:.1g}; smooth the activation, "
                    "scale the inputs down, or use HermiteSeries with more terms"
                )
            found.append(coefficients.movedim(-1, 0))
        return found[0], found[1]

    def _values_and_slopes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            values = self.function(x)
            if not isinstance(values, Tensor) or values.shape != x.shape:
                raise InputError(f"activation {self.name!r} must map a tensor to one of its shape")
            (slopes,) = torch.autograd.grad(values.sum(), x)
        return values.detach(), slopes


@functools.lru_cache(maxsize=8)
def _quadrature(terms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes, √weights for N(0, 1), and h_k·√weight at the nodes, shape (terms, nodes).

    With the root of the weight h_k stays of order one where alone it would overflow.
    """
    from scipy.special import roots_hermitenorm

    nodes, weights = roots_hermitenorm(2 * terms)
    roots = np.sqrt(weights / weights.sum())
    table = np.zeros((terms, len(nodes)))
    table[0] = roots
    if terms > 1:
        table[1] = nodes * roots
    for k in range(2, terms):
        table[k] = (nodes * table[k - 1] - np.sqrt(k - 1) * table[k - 2]) / np.sqrt(k)
    return nodes, roots, table
