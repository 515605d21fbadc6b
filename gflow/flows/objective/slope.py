"""Whether a gradient is the slope of its loss, and Hessian products those of the gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.flows.objective.differentiation import value_and_gradient


def require_slope(
    value: Callable[[Tensor], Tensor],
    theta: Tensor,
    loss: Tensor,
    gradient: Tensor,
    free: Tensor | None = None,
) -> None:
    """Raise InputError unless a loss changes along two directions as its gradient says.

    Parameters
    ----------
    value : callable
        The loss of one vector.
    theta : Tensor, shape (p,)
        Where to compare.
    loss : Tensor, shape ()
        The loss there.
    gradient : Tensor, shape (p,)
        Its gradient there.
    free : Tensor, shape (p,), optional
        0 for entries that stay fixed, 1 for all others.

    Raises
    ------
    InputError
        If the two differ by more than a kink, curvature or round-off explains, whatever the length
        of the differences.

    Examples
    --------
    >>> x = torch.tensor([3.0, 4.0], dtype=torch.float64)
    >>> require_slope(lambda x: x @ x, x, x @ x, 2 * x)
    """
    i = torch.arange(theta.numel(), dtype=theta.dtype, device=theta.device)
    length = torch.finfo(theta.dtype).eps ** (1 / 3)
    # The last one, at which float32 would be round-off, for losses with features far below ‖θ‖.
    factors = (1.0, 0.1, 1e-3) if theta.dtype == torch.float64 else (1.0, 0.1)
    for along in (gradient, torch.cos(1.3 * i + 0.4)):
        if free is not None:
            along = free * along
        if not bool(along.norm() > 0):
            continue
        direction = along / along.norm()
        expected = gradient @ direction
        for factor in factors:
            slope = _slope(value, theta, loss, direction, factor * length)
            if _agree(*slope, expected):
                break
        else:
            raise InputError(
                "the gradient must be the slope of the loss, but along one direction autograd "
                f"gives {float(expected):.3g} and differences of the loss {float(slope[0]):.3g}; "
                "remove what cuts or changes gradients (detach, item, NumPy, rounding, hooks, "
                "a wrong backward)"
            )


def has_products(
    objective: Callable[[Tensor], Tensor],
    theta: Tensor,
    gradient: Tensor,
    free: Tensor | None = None,
) -> bool:
    """Return whether Hessian products of autograd are differences of gradients.

    An operation may have no second derivative, or a wrong one, as has weight_norm of torch.

    Parameters
    ----------
    objective : callable
        L, one vector (p,) → scalar.
    theta : Tensor, shape (p,)
        Where to compare.
    gradient : Tensor, shape (p,)
        ∇L there.
    free : Tensor, shape (p,), optional
        0 for entries that stay fixed, 1 for all others.

    Returns
    -------
    bool

    Examples
    --------
    >>> x = torch.tensor([3.0, 4.0], dtype=torch.float64)
    >>> has_products(lambda y: (y**3).sum(), x, 3 * x**2)
    True
    """
    direction = torch.cos(1.3 * torch.arange(len(theta), device=theta.device) + 0.4).to(theta)
    direction = direction if free is None else free * direction
    direction = direction / direction.norm()
    eps = torch.finfo(theta.dtype).eps
    length = eps ** (1 / 3) * (theta.norm() + eps)
    try:
        with torch.enable_grad():
            leaf = theta.clone().requires_grad_()
            (slope,) = torch.autograd.grad(objective(leaf), leaf, create_graph=True)
            product = torch.zeros_like(theta)
            if slope.requires_grad:
                # Of a number: of a vector torch imports sympy, which takes half a second.
                (product,) = torch.autograd.grad((slope * direction).sum(), leaf)
        up, down = (
            value_and_gradient(objective, theta + s * length * direction)[1] for s in (1.0, -1.0)
        )
        difference = (up - down) / (2 * length)
        allowed = 2 * (up + down - 2 * gradient).norm() / length
        allowed = allowed + 1e3 * eps * gradient.norm() / length
        allowed = allowed + 1e-3 * torch.maximum(difference.norm(), product.norm())
        return bool((product - difference).norm() <= allowed)
    except Exception:  # of any kind: torch says it in many ways
        return False


def _slope(
    value: Callable[[Tensor], Tensor],
    theta: Tensor,
    loss: Tensor,
    direction: Tensor,
    relative_length: float,
) -> tuple[Tensor, Tensor]:
    """Return a central difference, and twice what a kink, curvature and round-off explain."""
    eps = torch.finfo(theta.dtype).eps
    length = relative_length * (theta.norm() + eps)
    up, down = (value(theta + s * length * direction) for s in (1.0, -1.0))
    explained = 2 * (up + down - 2 * loss).abs() / length + 1e3 * eps * loss.abs() / length
    return (up - down) / (2 * length), explained


def _agree(slope: Tensor, explained: Tensor, expected: Tensor) -> bool:
    allowed = explained + 1e-3 * torch.maximum(slope.abs(), expected.abs())
    return not bool((slope - expected).abs() > allowed)
