"""Norms of layers by elementary operations, whose derivatives of every order are right.

torch 2.13 differentiates `layer_norm`, and `batch_norm` and `instance_norm` with the statistics of
the samples, rightly twice; from the third derivative on it takes those statistics for constants and
returns other numbers without a word. Of `weight_norm` the second derivative is wrong already.
Whoever differentiates a module that often evaluates it within `elementary_norms`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def elementary_norms() -> AbstractContextManager[Any]:
    """Return a context in which torch evaluates norms by elementary operations.

    Returns
    -------
    context manager
        Within it, layer, batch, instance and weight norms have the values that they have outside,
        to round-off. Those with running statistics are left to torch.

    Examples
    --------
    >>> x = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    >>> with elementary_norms():
    ...     normed = F.layer_norm(x, (3,))
    >>> torch.allclose(normed, F.layer_norm(x, (3,)))
    True
    """
    return _ElementaryNorms()


def with_elementary_norms(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is evaluated within `elementary_norms`.

    Parameters
    ----------
    function : callable

    Returns
    -------
    callable

    Examples
    --------
    Second derivative of w·v/‖v‖ at v = 2, which is w·sign(v):

    >>> from torch.func import grad
    >>> g = torch.ones(1)
    >>> scaled = with_elementary_norms(lambda v: torch._weight_norm(v, g).sum())
    >>> grad(lambda v: grad(scaled)(v).sum())(torch.tensor([2.0]))
    tensor([0.])
    """

    @wraps(function)
    def evaluated(*args: Any) -> Any:
        with elementary_norms():
            return function(*args)

    return evaluated


class _ElementaryNorms(TorchFunctionMode):
    """Replaces calls of torch's norms."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _ELEMENTARY.get(func, func)(*args, **(kwargs or {}))


def _standardised(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """Return x without its mean and of variance 1 along some axes."""
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + eps).sqrt()


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _by_channel(parameter: Tensor | None, x: Tensor) -> Tensor | None:
    """Return one number a channel, in a shape that broadcasts against x (n, c, ...)."""
    return None if parameter is None else parameter.reshape(-1, *[1] * (x.ndim - 2))


def _layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return _scaled(_standardised(x, tuple(range(-len(shape), 0)), eps), weight, bias)


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training or running_mean is not None or running_var is not None:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    normed = _standardised(x, tuple(i for i in range(x.ndim) if i != 1), eps)
    return _scaled(normed, _by_channel(weight, x), _by_channel(bias, x))


def _instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats or running_mean is not None or running_var is not None:
        return F.instance_norm(
            x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
        )
    normed = _standardised(x, tuple(range(2, x.ndim)), eps)
    return _scaled(normed, _by_channel(weight, x), _by_channel(bias, x))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    others = [axis for axis in range(v.ndim) if dim == -1 or axis != dim % v.ndim]
    return v * (g / v.square().sum(others, keepdim=True).sqrt())


_ELEMENTARY: dict[Any, Callable[..., Tensor]] = {
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    torch._weight_norm: _weight_norm,
}
