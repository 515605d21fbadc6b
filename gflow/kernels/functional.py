"""A torch module as a pure function of its trainable parameters, and what it may be called on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gflow.checks import require_dtype_and_device, require_finite
from gflow.errors import InputError
from gflow.flows.network import trainable_parameters

#: (named parameters, inputs (n, ...)) ↦ outputs (n, k)
Network = Callable[[Mapping[str, Tensor], Tensor], Tensor]


class Prepared(NamedTuple):
    """A module as a function with outputs (n, k), its parameters, and the points."""

    network: Network
    parameters: dict[str, Tensor]
    rows: Tensor
    columns: Tensor
    k: int


def prepare(
    module: nn.Module, x1: Tensor, x2: Tensor | None, params: Mapping[str, Tensor] | None
) -> Prepared:
    """The module at params (its own by default) between points.

    Raises
    ------
    InputError
        If parameters or points do not fit the module, or rows of its outputs are not each
        the output of one point.
    """
    own = trainable_parameters(module)
    if params is not None:
        given = {k: (p.shape, p.dtype, p.device) for k, p in params.items()}
        wanted = {k: (p.shape, p.dtype, p.device) for k, p in own.items()}
        if given != wanted:
            wrong = sorted(k for k in given.keys() | wanted.keys() if given.get(k) != wanted.get(k))
            raise InputError(
                "params must be the module's trainable parameters by name, of their shapes, dtype "
                f"and device; these are not: {', '.join(wrong)}"
            )
        own = {name: params[name].detach() for name in own}
    points = x1 if x2 is None else x2
    for name, x in (("x1", x1), ("x2", points)):
        _check_points(name, x, next(iter(own.values())))

    def network(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return _require_outputs(functional_call(module, dict(p), (x,)), len(x))

    try:
        with torch.no_grad():
            k = network(own, x1[:1]).shape[1]
            together = network(own, x1[:2])
            alone = torch.cat([network(own, x) for x in x1[:2].split(1)])
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        raise InputError(f"the module cannot be called on x1[:1]: {why}") from None
    if float((together - alone).norm()) > torch.finfo(alone.dtype).eps ** 0.5 * alone.norm():
        raise InputError(
            "each row of the module's outputs must depend on its own input alone, but two inputs "
            "together give other outputs than one by one; take statistics over a batch out"
        )
    return Prepared(network, own, x1, points, k)


def _check_points(name: str, x: Tensor, like: Tensor) -> None:
    if not isinstance(x, Tensor) or x.ndim == 0 or x.numel() == 0:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"{name} must be a tensor of shape (n, ...) with n ≥ 1, got {got}")
    if x.device != like.device or x.is_floating_point():  # integers are indices of embeddings
        require_dtype_and_device(name, x, like, "the module's parameters")
    if x.is_floating_point():
        require_finite(name, x)


def _require_outputs(u: Any, n: int) -> Tensor:
    """Outputs of any shape as (n, k); InputError unless they are one row a sample."""
    if not isinstance(u, Tensor) or u.ndim == 0 or len(u) != n or not u.is_floating_point():
        got = f"{tuple(u.shape)} of {u.dtype}" if isinstance(u, Tensor) else type(u).__name__
        raise InputError(
            f"the module must map {n} inputs to a floating-point tensor of {n} rows, got {got}"
        )
    return u.reshape(n, -1)
