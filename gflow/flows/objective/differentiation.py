"""Gradient and Hessian product of an objective L(θ) of one vector, one forward each time.

By torch.autograd, which for a single vector is a third faster than torch.func.grad; inside a
transform of torch.func, where autograd is not allowed, by torch.func. The results can be
differentiated in turn: norms of layers are elementary operations then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vjp, vmap

from gflow.flows.base import split_ensemble
from gflow.flows.jacobian import in_transform
from gflow.flows.pullback import pull_back
from gflow.linalg.elementary_norms import with_elementary_norms

#: L(θ) of one vector (p,) → scalar
Objective = Callable[[Tensor], Tensor]


def value(objective: Objective, theta: Tensor) -> tuple[Tensor]:
    """Compute L(θ) as a tuple of one tensor.

    Parameters
    ----------
    objective : callable
        L, one vector (p,) → scalar.
    theta : Tensor, shape (..., p)
        One vector or an ensemble.

    Returns
    -------
    tuple of Tensor, shape (...)
        The values.

    Examples
    --------
    >>> import torch
    >>> value(lambda x: x @ x, torch.tensor([3.0, 4.0]))
    (tensor(25.),)
    """
    return (map_over_ensemble(_for_caller(objective, theta), theta),)


def gradient_by_torch_func(objective: Objective, theta: Tensor) -> tuple[Tensor]:
    """Compute ∇L(θ) by torch.func, independently of `value_and_gradient`.

    Parameters
    ----------
    objective : callable
        L, one vector (p,) → scalar.
    theta : Tensor, shape (..., p)
        One vector or an ensemble.

    Returns
    -------
    tuple of Tensor, shape (..., p)
        The gradients.

    Examples
    --------
    >>> import torch
    >>> gradient_by_torch_func(lambda x: x @ x, torch.tensor([3.0, 4.0]))
    (tensor([6., 8.]),)
    """
    return (map_over_ensemble(grad(objective), theta),)


def value_and_gradient(objective: Objective, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Compute L(θ) and ∇L(θ).

    Parameters
    ----------
    objective : callable
        L, one vector (p,) → scalar.
    theta : Tensor, shape (..., p)
        One vector or an ensemble.

    Returns
    -------
    loss : Tensor, shape (...)
        The values.
    gradient : Tensor, shape (..., p)
        The gradients.

    Examples
    --------
    >>> import torch
    >>> value_and_gradient(lambda x: x @ x, torch.tensor([3.0, 4.0]))
    (tensor(25.), tensor([6., 8.]))
    """
    objective = _for_caller(objective, theta)
    if in_transform():
        gradient, loss = map_over_ensemble(grad_and_value(objective), theta)
        return loss, gradient
    with torch.enable_grad():
        leaf, differentiable = _leaf(theta)
        loss = map_over_ensemble(objective, leaf)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf, create_graph=differentiable)
    return (loss if differentiable else loss.detach()), gradient


def gradient_and_product(
    objective: Objective, theta: Tensor, v: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute ∇L(θ) and ∇²L(θ)·v.

    Reverse over reverse: the Hessian is symmetric, and forward mode fails in some of torch's
    functions (mse_loss: "ZeroTensors are immutable").

    Parameters
    ----------
    objective : callable
        L, one vector (p,) → scalar.
    theta : Tensor, shape (..., p)
        One vector or an ensemble.
    v : Tensor, shape (..., p), optional
        Direction; ∇L(θ) by default.

    Returns
    -------
    gradient, product : Tensor, shape (..., p)
        ∇L(θ) and ∇²L(θ)·v.

    Examples
    --------
    >>> import torch
    >>> gradient_and_product(lambda x: (x**3).sum() / 3, torch.tensor([1.0, 2.0]), torch.ones(2))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    objective = _for_caller(objective, theta)
    if in_transform():
        gradient, pullback, *_ = vjp(lambda x: map_over_ensemble(grad(objective), x), theta)
        return gradient, pullback(gradient if v is None else v)[0]
    with torch.enable_grad():
        leaf, differentiable = _leaf(theta)
        (gradient,) = torch.autograd.grad(
            map_over_ensemble(objective, leaf).sum(), leaf, create_graph=True
        )
        if gradient.requires_grad:
            along = gradient if v is None else v
            along = along if differentiable else along.detach()
            (product,) = pull_back([gradient], [leaf], [along], create_graph=differentiable)
        else:  # the objective is affine
            product = torch.zeros_like(theta)
    return (gradient if differentiable else gradient.detach()), product


def derivative(objective: Objective, theta: Tensor, *vs: Tensor) -> Tensor:
    """Compute ∇L(θ), ∇²L(θ)·v, ∇³L(θ)·v·w, …: one order higher for every direction.

    Parameters
    ----------
    objective : callable
        L, one vector (p,) → scalar.
    theta : Tensor, shape (..., p)
        One vector or an ensemble.
    *vs : Tensor, shape (..., p)
        Directions.

    Returns
    -------
    Tensor, shape (..., p)
        The derivative of order len(vs) + 1, applied to the directions.

    Examples
    --------
    >>> import torch
    >>> ones = torch.ones(1)
    >>> derivative(lambda x: (x**3).sum(), 2 * ones, ones, ones)
    tensor([6.])
    """
    objective = with_elementary_norms(objective) if len(vs) > 1 else objective
    with torch.enable_grad():
        leaf = theta.detach().requires_grad_()
        result = map_over_ensemble(objective, leaf).sum()
        for v in (torch.ones_like(result), *vs):
            if not result.requires_grad:
                return torch.zeros_like(theta)
            (result,) = pull_back([result], [leaf], [v], create_graph=True)
    return result.detach()


def hessian(objective: Objective, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Return v ↦ ∇²L(θ)·v at one vector.

    The graph of the gradient stays in memory, so that a product costs about half of
    `gradient_and_product`.

    Parameters
    ----------
    objective : callable
        L, one vector (p,) → scalar.
    theta : Tensor, shape (p,)
        One vector.

    Returns
    -------
    callable
        v (p,) → ∇²L(θ)·v.

    Examples
    --------
    >>> import torch
    >>> hessian(lambda x: (x**3).sum() / 3, torch.tensor([1.0, 2.0]))(torch.ones(2))
    tensor([2., 4.])
    """
    with torch.enable_grad():
        leaf = theta.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(leaf), leaf, create_graph=True)

    def product(v: Tensor) -> Tensor:
        if not gradient.requires_grad:  # the objective is affine
            return torch.zeros_like(v)
        return pull_back([gradient], [leaf], [v], retain_graph=True)[0]

    return product


def map_over_ensemble(function: Callable[[Tensor], Any], theta: Tensor) -> Any:
    """Apply a function of one vector to every vector of an ensemble.

    All at once by vmap, or one by one where vmap fails (an operation without a batching rule, a
    branch on a value).

    Parameters
    ----------
    function : callable
        One vector (p,) → tensor or tuple of tensors.
    theta : Tensor, shape (..., p)
        One vector or an ensemble.

    Returns
    -------
    Tensor or tuple of Tensor, shape (..., *value)
        The values, with the ensemble's dimensions first.

    Examples
    --------
    >>> import torch
    >>> map_over_ensemble(torch.sum, torch.ones(2, 3, 5)).shape
    torch.Size([2, 3])
    """
    if theta.ndim == 1:
        return function(theta)
    flat, batch = split_ensemble(theta, 1)
    try:
        values = vmap(function)(flat)
    except Exception:  # of any kind; an error with another cause is raised again below
        rows = [function(row) for row in flat]
        values = (
            tuple(map(torch.stack, zip(*rows, strict=True)))
            if isinstance(rows[0], tuple)
            else torch.stack(rows)
        )
    if isinstance(values, tuple):
        return tuple(x.reshape(*batch, *x.shape[1:]) for x in values)
    return values.reshape(*batch, *values.shape[1:])


def is_differentiated(theta: Tensor) -> bool:
    """Whether the caller differentiates by θ, with torch.autograd or in a transform."""
    return in_transform() or (torch.is_grad_enabled() and theta.requires_grad)


def _for_caller(objective: Objective, theta: Tensor) -> Objective:
    """Return an objective whose derivatives the caller can differentiate, where it may do so."""
    if is_differentiated(theta):
        return with_elementary_norms(objective)
    return objective


def _leaf(theta: Tensor) -> tuple[Tensor, bool]:
    """Where to differentiate, and whether the caller differentiates the result in turn."""
    differentiable = torch.is_grad_enabled() and theta.requires_grad
    return (theta if differentiable else theta.detach().requires_grad_()), differentiable
