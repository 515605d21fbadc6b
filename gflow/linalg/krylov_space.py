r"""The Krylov space of a symmetric operator and a vector, with functions of the operator in it.

    A Q_m = Q_m T_m + β_m q_{m+1} e_mᵀ,     g(A) v ≈ ‖v‖ Q_m g(T_m) e_1,

by Lanczos with full reorthogonalisation (Golub & Van Loan, Matrix Computations, 4th ed., section
10.1). Memory: the basis and its images, 2·m·n numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_CLOSED = 1e-10  # relative length of the rest from which the space is invariant


class KrylovSpace:
    """The space that v, A v, A²v and so on span.

    Parameters
    ----------
    product : callable
        v ↦ A v for v of shape (n,), A symmetric.
    vector : Tensor, shape (n,)
        v, not zero.

    Attributes
    ----------
    closed : bool
        Whether the space is invariant, so that it does not grow.

    Examples
    --------
    >>> A = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    >>> space = KrylovSpace(lambda v: A @ v, torch.ones(3, dtype=torch.float64))
    >>> space.grow(3)
    >>> space.apply(lambda values: 1 / values).round(decimals=12).tolist()    # A⁻¹v
    [1.0, 0.5, 0.25]
    """

    def __init__(self, product: Callable[[Tensor], Tensor], vector: Tensor):
        self._product = product
        self.size = vector.norm()
        self._rest = vector / self.size
        self._basis = vector.new_zeros(0, len(vector))
        self._images = vector.new_zeros(0, len(vector))
        self.closed = False
        self._pairs: tuple[Tensor, Tensor] | None = None

    @property
    def steps(self) -> int:
        """The dimension of the space, and the number of products so far."""
        return len(self._basis)

    def grow(self, steps: int) -> None:
        """Extend the space to a dimension, or until it is invariant."""
        self._pairs = None
        images = [self._images]
        while self.steps < min(steps, len(self._rest)) and not self.closed:
            unit = self._rest
            rest = image = self._product(unit)
            images.append(image[None])
            self._basis = torch.cat([self._basis, unit[None]])
            for _ in range(2):  # twice is enough for orthogonality to round-off
                rest = rest - self._basis.mT @ (self._basis @ rest)
            norm = rest.norm()
            self.closed = not float(norm) > _CLOSED * float(image.norm())
            self._rest = unit if self.closed else rest / norm
        self._images = torch.cat(images)

    def ritz(self) -> tuple[Tensor, Tensor]:
        """Return the Ritz values, ascending, and their vectors as columns in the basis."""
        if self._pairs is None:
            square = self._images @ self._basis.mT
            if not bool(torch.isfinite(square).all()):
                nan = square.new_full((len(square),), torch.nan)
                return nan, torch.eye(len(square), dtype=square.dtype, device=square.device)
            self._pairs = torch.linalg.eigh((square + square.mT) / 2)
        return self._pairs

    def apply(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute g(A)v in the space, from g at the Ritz values."""
        values, vectors = self.ritz()
        weights = vectors @ (function(values) * vectors[0])
        return self.size * (self._basis.mT @ weights)

    def image(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute A g(A)v with the exact images of the basis."""
        values, vectors = self.ritz()
        weights = vectors @ (function(values) * vectors[0])
        return self.size * (self._images.mT @ weights)
