"""Products of the Jacobian of a right-hand side with a vector, by reverse mode.

Forward mode pairs every constant of a formula with a tangent of zeros, whose arithmetic torch does
in Python: on small states that costs ten times the right-hand side, and its first use seconds of
imports.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp

from gflow.flows.pullback import pull_back
from gflow.linalg.elementary_norms import with_elementary_norms

#: A right-hand side at one time, states (..., *state) → velocities (..., *state)
Field = Callable[[Tensor], Tensor]


def jacobian_product(field: Field, y: Tensor, v: Tensor, *, symmetric: bool = False) -> Tensor:
    """Compute (∂f/∂y)·v.

    The product u ↦ (∂f/∂y)ᵀ·u is linear, and the derivative of ⟨v, (∂f/∂y)ᵀ·u⟩ by u is the
    result. It can be differentiated in turn where the caller differentiates.

    Parameters
    ----------
    field : callable
        f, which acts on each member of an ensemble alone.
    y, v : Tensor, shape (..., *state)
        A state or an ensemble, and the direction.
    symmetric : bool
        Whether the Jacobian is symmetric, as that of a gradient field: half the cost.

    Returns
    -------
    Tensor, shape (..., *state)
        The product.

    Examples
    --------
    >>> rotate = lambda y: torch.stack([-y[1], y[0]])
    >>> jacobian_product(rotate, torch.zeros(2), torch.tensor([1.0, 0.0]))
    tensor([0., 1.])
    """
    if in_transform():
        return _by_forward_mode(with_elementary_norms(field), y, v)
    leaf, along, differentiable = _leaf(y, v)
    field = with_elementary_norms(field) if differentiable else field
    with torch.enable_grad():
        velocity = field(leaf)
        if not velocity.requires_grad:  # constant
            return torch.zeros_like(velocity)
        if symmetric:
            (product,) = pull_back([velocity], [leaf], [along], create_graph=differentiable)
            return product
        u = torch.zeros_like(velocity, requires_grad=True)
        (pulled,) = pull_back([velocity], [leaf], [u], create_graph=True)
        (product,) = pull_back([pulled], [u], [along], create_graph=differentiable)
    return product


def in_transform() -> bool:
    """Whether the caller is inside jvp, vmap, … of torch.func."""
    return torch._C._are_functorch_transforms_active()


def _by_forward_mode(field: Field, y: Tensor, v: Tensor) -> Tensor:
    """Compute the product where torch.autograd is not allowed."""
    product: Tensor = jvp(field, (y,), (v,))[1]
    return product


def _leaf(y: Tensor, v: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Where to differentiate, along what, and whether the caller differentiates the result."""
    differentiable = torch.is_grad_enabled() and (y.requires_grad or v.requires_grad)
    if differentiable and y.requires_grad:
        return y, v, True
    return y.detach().requires_grad_(), v if differentiable else v.detach(), differentiable
