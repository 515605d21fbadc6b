r"""Damped Gauss-Newton steps of a network's loss, in the space of its outputs.

With outputs u, slope s = ∂ℓ/∂u, Jacobian J and a criterion of curvature ∂²ℓ/∂u² = c·I, the step
(c JᵀJ + μ)d = −Jᵀs is, by the tangent kernel K = JJᵀ,

    d = −Jᵀ(cK + μ)⁻¹s,

which for more parameters than outputs is a smaller system (Levenberg 1944; Marquardt 1963). Where
the loss is 0 it is Newton's step, and converges as that does (Yamashita & Fukushima 2001,
doi:10.1007/978-3-7091-6217-0_18).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_MOST_OUTPUTS = 6000  # samples × outputs of a step: 288 MB for each of two matrices
_SAME = 1e-10  # relative, at least 100 eps: a curvature that is the same in all directions


class GaussNewton:
    """Damped Gauss-Newton steps from one state.

    Parameters
    ----------
    kernel : Tensor, shape (m, m)
        cK.
    slope : Tensor, shape (m,)
        s.
    pull : callable
        v (m,) ↦ Jᵀv, (p,).

    Examples
    --------
    >>> J, s = torch.tensor([[2.0, 0.0]]), torch.tensor([4.0])
    >>> GaussNewton(J @ J.mT, s, lambda v: J.mT @ v).step(0.0).tolist()
    [-2.0, -0.0]
    """

    def __init__(self, kernel: Tensor, slope: Tensor, pull: Callable[[Tensor], Tensor]):
        self.kernel, self._slope, self._pull = kernel, slope, pull

    @property
    def scale(self) -> float:
        """The size of cK, which dampings are relative to."""
        return float(self.kernel.norm())

    def step(self, damping: float) -> Tensor | None:
        """Return the step d, (p,); None where the damped matrix is singular to round-off."""
        damped = self.kernel.clone()
        damped.diagonal().add_(damping)
        factor, info = torch.linalg.cholesky_ex(damped)
        if int(info):
            return None
        return -self._pull(torch.cholesky_solve(self._slope[:, None], factor)[:, 0])

    def rank(self, negligible: float) -> int:
        """Return the number of eigenvalues of cK beyond a part of the largest."""
        values = torch.linalg.eigvalsh(self.kernel)
        return int((values > negligible * values.max()).sum())


def gauss_newton_steps(
    outputs: Callable[[Tensor], Tensor],
    criterion: Callable[[Tensor], Tensor],
    kernel: Callable[[Tensor], Tensor],
    y: Tensor,
) -> GaussNewton | None:
    """Return the steps from one state; None where they would cost too much, or have no c.

    Parameters
    ----------
    outputs : callable
        y (p,) ↦ u, of any shape.
    criterion : callable
        ℓ, u ↦ scalar.
    kernel : callable
        y ↦ K, (m, m).
    y : Tensor, shape (p,)

    Returns
    -------
    GaussNewton or None

    Examples
    --------
    >>> J = torch.tensor([[2.0, 0.0]])
    >>> steps = gauss_newton_steps(
    ...     lambda y: J @ y, lambda u: 0.5 * (u + 4).square().sum(), lambda y: J @ J.mT,
    ...     torch.zeros(2))
    >>> steps.step(0.0).tolist()
    [-2.0, -0.0]
    """
    y = y.detach()
    with torch.no_grad():
        found = outputs(y)
    if found.numel() > _MOST_OUTPUTS:
        return None
    local = slope_and_curvature(criterion, found)
    if local is None:
        return None

    def pull(v: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = y.clone().requires_grad_()
            return torch.autograd.grad(outputs(leaf).flatten(), leaf, v)[0]

    return GaussNewton(local[1] * kernel(y), local[0].flatten(), pull)


def slope_and_curvature(
    criterion: Callable[[Tensor], Tensor], outputs: Tensor
) -> tuple[Tensor, float] | None:
    """Return ∂ℓ/∂u and c, where ∂²ℓ/∂u² = c·I.

    Parameters
    ----------
    criterion : callable
        ℓ, outputs ↦ scalar.
    outputs : Tensor

    Returns
    -------
    tuple or None
        None where the second derivative is not c·I with c > 0.

    Examples
    --------
    >>> slope, c = slope_and_curvature(lambda u: 1.5 * (u - 1).square().sum(), torch.zeros(2))
    >>> slope.tolist(), round(c, 5)
    ([-3.0, -3.0], 3.0)
    """
    with torch.enable_grad():
        leaf = outputs.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(criterion(leaf), leaf, create_graph=True)
        if not slope.requires_grad:
            return None
        i = torch.arange(slope.numel(), dtype=slope.dtype, device=slope.device)
        v = torch.cos(1.3 * i + 0.4).reshape(slope.shape)
        (product,) = torch.autograd.grad((slope * v).sum(), leaf)
    curvature = float((v * product).sum() / (v * v).sum())
    same = max(_SAME, 100 * torch.finfo(v.dtype).eps)
    if curvature <= 0 or float((product - curvature * v).norm()) > same * float(product.norm()):
        return None
    return slope.detach(), curvature
