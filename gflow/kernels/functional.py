"""A torch module as a pure function of its trainable parameters, with its derivatives."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vmap

from gflow.checks import require_dtype_and_device, require_finite, require_tensor, shown
from gflow.checks.modules import trainable_parameters
from gflow.errors import InputError
from gflow.text import one_line

Parameters = Mapping[str, Tensor]
#: (named parameters, inputs (n, ...)) ↦ outputs (n, k)
Network = Callable[[Parameters, Tensor], Tensor]


class Prepared(NamedTuple):
    """A module as a function with outputs (n, k), its parameters, and the points."""

    network: Network
    parameters: dict[str, Tensor]
    rows: Tensor
    columns: Tensor
    k: int


def prepare(
    module: nn.Module, x1: Tensor, x2: Tensor | None, params: Parameters | None
) -> Prepared:
    """Make a module a function of its parameters, and check it on the points.

    Parameters
    ----------
    module : nn.Module
        Called on a batch of points.
    x1 : Tensor, shape (n1, ...)
        Points of the rows.
    x2 : Tensor, shape (n2, ...), or None
        Points of the columns; None for x1.
    params : mapping of str to Tensor, or None
        Values of the trainable parameters; None for the module's own.

    Returns
    -------
    Prepared

    Raises
    ------
    InputError
        If parameters or points do not fit the module, or a row of its outputs depends on
        other points than its own.

    Examples
    --------
    >>> import torch
    >>> prepared = prepare(torch.nn.Linear(2, 3), torch.ones(4, 2), None, None)
    >>> sorted(prepared.parameters), prepared.k
    (['bias', 'weight'], 3)
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"module must be a torch.nn.Module, got {shown(module)}")
    parameters = trainable_parameters(module)
    if params is not None:
        parameters = named_parameters("params", params, parameters)
    x1 = require_tensor("x1", x1).detach()
    x2 = None if x2 is None else require_tensor("x2", x2).detach()
    points = x1 if x2 is None else x2
    for name, x in (("x1", x1), ("x2", points)):
        _check_points(name, x, next(iter(parameters.values())))

    def network(p: Parameters, x: Tensor) -> Tensor:
        return _require_outputs(functional_call(module, dict(p), (x,)), len(x))

    try:
        with torch.no_grad():
            k = network(parameters, x1[:1]).shape[1]
            together = network(parameters, x1[:2])
            alone = torch.cat([network(parameters, x) for x in x1[:2].split(1)])
            if x2 is not None:
                network(parameters, x2[:1])
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the module cannot be called on the points: {one_line(error)}") from None
    if float((together - alone).norm()) > torch.finfo(alone.dtype).eps ** 0.5 * alone.norm():
        raise InputError(
            "each row of the module's outputs must depend on its own input alone, but two inputs "
            "together give other outputs than one by one; remove statistics over a batch"
        )
    _require_substitution(module, network, x1[:2])
    return Prepared(network, parameters, x1, points, k)


def named_parameters(
    what: str, values: object, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return a tensor for each parameter of a module, detached; InputError unless all fit.

    Parameters
    ----------
    what : str
        Name of the argument, for the message.
    values : object
        Value of the argument, which must be a mapping of names to tensors.
    parameters : mapping of str to Tensor
        The module's trainable parameters by name.

    Returns
    -------
    dict of str to Tensor
        In the order of ``parameters``.

    Raises
    ------
    InputError
        If names, shapes, dtype or device are not those of the parameters.

    Examples
    --------
    >>> named_parameters("params", {"w": torch.ones(1)}, {"w": torch.zeros(1)})
    {'w': tensor([1.])}
    """
    if not isinstance(values, Mapping) or not all(isinstance(p, Tensor) for p in values.values()):
        raise InputError(
            f"{what} must be a mapping of names to tensors, got {shown(values)}; write "
            "flow.parameters_dict(theta)"
        )
    given = {k: (p.shape, p.dtype, p.device) for k, p in values.items()}
    required = {k: (p.shape, p.dtype, p.device) for k, p in parameters.items()}
    if given != required:
        names = given.keys() | required.keys()
        wrong = sorted(k for k in names if given.get(k) != required.get(k))
        raise InputError(
            f"{what} must be the module's trainable parameters by name, of their shapes, dtype "
            f"and device; these are not: {', '.join(wrong)}"
        )
    return {name: values[name].detach() for name in parameters}


def _require_substitution(module: nn.Module, network: Network, x: Tensor) -> None:
    """Raise InputError where the module reaches a parameter that `network` does not substitute."""
    own = {name: p for name, p in module.named_parameters() if p.requires_grad}
    leaves = {name: p.detach().clone().requires_grad_() for name, p in own.items()}
    gradients = []
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call, ends in ((lambda: module(x), own), (lambda: network(leaves, x), leaves)):
            u = call().reshape(-1)
            if not u.requires_grad:
                return
            c = torch.cos(torch.arange(len(u), device=x.device)).to(u)
            slopes = torch.autograd.grad((c * u).sum(), list(ends.values()), materialize_grads=True)
            gradients.append(torch.cat([s.to_dense().flatten() for s in slopes]))
    plain, substituted = gradients
    if float((plain - substituted).norm()) > torch.finfo(plain.dtype).eps ** 0.5 * plain.norm():
        raise InputError(
            "the module reaches a parameter by a list, a closure or a checkpoint, where its kernel "
            "cannot follow; use it as an attribute of the module"
        )


def _check_points(name: str, x: Tensor, like: Tensor) -> None:
    if not isinstance(x, Tensor) or x.ndim == 0 or x.numel() == 0:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"{name} must be a tensor of shape (n, ...) with n ≥ 1, got {got}")
    if x.device != like.device or x.is_floating_point():  # integers are indices of embeddings
        require_dtype_and_device(name, x, like, "the module's parameters")
    if x.is_floating_point():
        require_finite(name, x)


def _require_outputs(u: Any, n: int) -> Tensor:
    """Return outputs of any shape as (n, k); InputError unless they are one row a sample."""
    if not isinstance(u, Tensor) or u.ndim == 0 or len(u) != n or not u.is_floating_point():
        got = f"{tuple(u.shape)} of {u.dtype}" if isinstance(u, Tensor) else type(u).__name__
        raise InputError(
            f"the module must map {n} inputs to a floating-point tensor of {n} rows, got {got}"
        )
    return u.reshape(n, -1)


def jacobian(network: Network, parameters: Parameters, x: Tensor) -> dict[str, Tensor]:
    """Compute ∂u/∂θ at every point.

    Parameters
    ----------
    network : callable
        (parameters, x) ↦ outputs (n, k).
    parameters : mapping of str to Tensor
        θ.
    x : Tensor, shape (n, ...)
        Points.

    Returns
    -------
    dict of str to Tensor, shape (n, k, *shape of the parameter)

    Examples
    --------
    >>> import torch
    >>> network = lambda p, x: x @ p["w"]
    >>> jacobian(network, {"w": torch.zeros(2, 1)}, torch.tensor([[3.0, 4.0]]))["w"].tolist()
    [[[[3.0], [4.0]]]]
    """

    def at_point(point: Tensor) -> dict[str, Tensor]:
        slopes: dict[str, Tensor] = jacrev(lambda p: network(p, point[None])[0])(parameters)
        return slopes

    try:
        slopes: dict[str, Tensor] = vmap(at_point)(x)
    except RuntimeError:
        # A recurrent layer, or one that depends on values: point after point.
        rows = [_slopes(network, parameters, x[i : i + 1]) for i in range(len(x))]
        slopes = {name: torch.stack([row[name] for row in rows]) for name in parameters}
    return slopes


def _slopes(network: Network, parameters: Parameters, x: Tensor) -> dict[str, Tensor]:
    """Return ∂u/∂θ at one point, (k, *shape) for each parameter."""
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    ends = list(leaves.values())
    with torch.enable_grad():
        outputs = network(leaves, x)[0].unbind()
        slopes = [
            torch.autograd.grad(u, ends, retain_graph=True, materialize_grads=True) for u in outputs
        ]
    columns = zip(*slopes, strict=True)
    return {name: torch.stack(each) for name, each in zip(leaves, columns, strict=True)}


def pushforward(
    network: Network, parameters: Parameters, x: Tensor, tangents: Parameters
) -> Tensor:
    """Compute J(x)·v for every tangent v.

    Parameters
    ----------
    network : callable
        (parameters, x) ↦ outputs (n, k).
    parameters : mapping of str to Tensor
        θ.
    x : Tensor, shape (n, ...)
        Points.
    tangents : mapping of str to Tensor, shape (c, *shape of the parameter)
        c directions in the space of θ.

    Returns
    -------
    Tensor, shape (c, n, k)

    Examples
    --------
    >>> import torch
    >>> network, theta = lambda p, x: x @ p["w"], {"w": torch.zeros(2, 1)}
    >>> pushforward(network, theta, torch.eye(2), {"w": torch.ones(1, 2, 1)}).tolist()
    [[[1.0], [1.0]]]
    """

    def along(tangent: Parameters) -> Tensor:
        moved: Tensor = jvp(lambda p: network(p, x), (parameters,), (tangent,))[1]
        return moved

    pushed: Tensor = vmap(along)(tangents)
    return pushed
