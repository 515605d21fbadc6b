"""A critical point of a loss, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Verdict = Literal["minimum", "saddle", "way to infinity", "not reached"]


@dataclass(frozen=True, repr=False)
class CriticalPoint:
    """A critical point, or how far the search for one came.

    Attributes
    ----------
    state : Tensor, shape (*state)
        Of the parameters.
    loss, gradient_norm : float
        There; the gradient in the metric of time scales, where there are some.
    distance : float
        From where the search began.
    verdict : {"minimum", "saddle", "way to infinity", "not reached"}
        ``minimum``: no eigenvalue is negative beyond round-off, which includes minima that are not
        isolated. ``way to infinity``: the gradient is below the tolerance, and the next Newton step
        is still long.
    index : int
        Number of negative eigenvalues of the Hessian, at most 50 of a large one.
    eigenvalues : tuple of float
        The least and the largest.
    flat : int or None
        Number of eigenvalues that are zero to round-off, below 1e-8 of the largest in size; None
        beyond 1,500 parameters, but for zeros of the loss of networks with up to 3,000 outputs.
    steps, products : int
        Newton steps, and Hessian products of the search.
    """

    state: Tensor
    loss: float
    gradient_norm: float
    distance: float
    verdict: Verdict
    index: int
    eigenvalues: tuple[float, float]
    flat: int | None
    steps: int
    products: int

    def __repr__(self) -> str:
        flat = "" if self.flat is None else f", {self.flat} flat directions"
        low, high = self.eigenvalues
        return (
            f"CriticalPoint({self.verdict}, loss {self.loss:.6g}, gradient "
            f"{self.gradient_norm:.1e}, index {self.index}{flat}, eigenvalues {low:.2g} … "
            f"{high:.2g}, moved {self.distance:.2g}, {self.steps} steps)"
        )
