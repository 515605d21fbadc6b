"""Gradient and Hessian product of an objective L(θ) of one vector, one forward each time.

By torch.autograd, which for a lone vector is a third faster than torch.func.grad; inside a
transform of torch.func, where it is not allowed, by torch.func. The results can be
differentiated in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vjp, vmap

from gflow.flows.base import split_ensemble

#: L(θ) of one vector (p,) → scalar
Objective = Callable[[Tensor], Tensor]


def value(objective: Objective, theta: Tensor) -> tuple[Tensor]:
    """L(θ) of one vector or of each of an ensemble."""
    return (of_each(objective, theta),)


def by_torch_func(objective: Objective, theta: Tensor) -> tuple[Tensor]:
    """∇L(θ) by torch.func, the other way."""
    return (of_each(grad(objective), theta),)


def value_and_gradient(objective: Objective, theta: Tensor) -> tuple[Tensor, Tensor]:
    """L(θ) and ∇L(θ) for one vector or an ensemble (..., p).

    Examples
    --------
    >>> import torch
    >>> value_and_gradient(lambda x: x @ x, torch.tensor([3.0, 4.0]))
    (tensor(25.), tensor([6., 8.]))
    """
    if _transformed():
        slope, loss = of_each(grad_and_value(objective), theta)
        return loss, slope
    with torch.enable_grad():
        leaf, keep = _leaf(theta)
        loss = of_each(objective, leaf)
        (slope,) = torch.autograd.grad(loss.sum(), leaf, create_graph=keep)
    return (loss if keep else loss.detach()), slope


def gradient_and_product(
    objective: Objective, theta: Tensor, v: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """∇L(θ) and ∇²L(θ)·v for one vector or an ensemble; v is ∇L(θ) itself by default.

    Reverse over reverse: the Hessian is symmetric, and forward mode fails in some of torch's
    functions (mse_loss: "ZeroTensors are immutable").

    Examples
    --------
    >>> import torch
    >>> gradient_and_product(lambda x: (x**3).sum() / 3, torch.tensor([1.0, 2.0]), torch.ones(2))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    if _transformed():
        slope, back, *_ = vjp(lambda x: of_each(grad(objective), x), theta)
        return slope, back(slope if v is None else v)[0]
    with torch.enable_grad():
        leaf, keep = _leaf(theta)
        (slope,) = torch.autograd.grad(of_each(objective, leaf).sum(), leaf, create_graph=True)
        if slope.requires_grad:
            along = slope if v is None else v
            (product,) = torch.autograd.grad(
                slope, leaf, along if keep else along.detach(), create_graph=keep
            )
        else:  # the objective is affine
            product = torch.zeros_like(theta)
    return (slope if keep else slope.detach()), product


def derivative(objective: Objective, theta: Tensor, *vs: Tensor) -> Tensor:
    """∇L(θ), ∇²L(θ)·v, ∇³L(θ)·v·w, … of one vector or an ensemble: a derivative for every v.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1)
    >>> derivative(lambda x: (x**3).sum(), 2 * one, one, one)
    tensor([6.])
    """
    with torch.enable_grad():
        leaf = theta.detach().requires_grad_()
        found = of_each(objective, leaf).sum()
        for v in (torch.ones_like(found), *vs):
            if not found.requires_grad:
                return torch.zeros_like(theta)
            (found,) = torch.autograd.grad(
                found, leaf, v, create_graph=True, materialize_grads=True
            )
    return found.detach()


def hessian(objective: Objective, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """v ↦ ∇²L(θ)·v of one vector; the graph of the gradient is kept, so that a product
    costs about half of `gradient_and_product`.

    Examples
    --------
    >>> import torch
    >>> hessian(lambda x: (x**3).sum() / 3, torch.tensor([1.0, 2.0]))(torch.ones(2))
    tensor([2., 4.])
    """
    with torch.enable_grad():
        leaf = theta.detach().requires_grad_()
        (slope,) = torch.autograd.grad(objective(leaf), leaf, create_graph=True)

    def product(v: Tensor) -> Tensor:
        if not slope.requires_grad:  # the objective is affine
            return torch.zeros_like(v)
        return torch.autograd.grad(slope, leaf, v, retain_graph=True)[0]

    return product


def of_each(function: Callable[[Tensor], Any], theta: Tensor) -> Any:
    """A function of one vector, of every vector of an ensemble (..., p): at once, or one by one
    where vmap cannot (an operation without a batching rule, a branch on a value)."""
    if theta.ndim == 1:
        return function(theta)
    flat, batch = split_ensemble(theta, 1)
    try:
        values = vmap(function)(flat)
    except RuntimeError:  # if it has another cause, that one is raised below
        rows = [function(row) for row in flat]
        values = (
            tuple(map(torch.stack, zip(*rows, strict=True)))
            if isinstance(rows[0], tuple)
            else torch.stack(rows)
        )
    if isinstance(values, tuple):
        return tuple(x.reshape(*batch, *x.shape[1:]) for x in values)
    return values.reshape(*batch, *values.shape[1:])


def _leaf(theta: Tensor) -> tuple[Tensor, bool]:
    """Where to differentiate, and whether the caller differentiates the result in turn."""
    keep = torch.is_grad_enabled() and theta.requires_grad
    return (theta if keep else theta.detach().requires_grad_()), keep


def _transformed() -> bool:
    """Whether the caller is inside jvp, vmap, … of torch.func."""
    return torch._C._are_functorch_transforms_active()
