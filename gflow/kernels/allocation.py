"""Bytes that a call allocates, measured by a dispatch mode that sees every tensor made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _AllocationCounter(TorchDispatchMode):
    """Bytes of all tensors made; those that share the memory of an operand are not new."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operands = _storages((args, kwargs))
        results = _storages(out)
        self.bytes += sum(results[key] for key in results.keys() - operands.keys())
        return out


def _storages(values: Any) -> dict[int, int]:
    """Return the bytes of each storage that tensors are in."""
    sizes = {}
    for value in tree_leaves(values):
        if isinstance(value, Tensor) and not value._is_zerotensor():
            storage = value.untyped_storage()
            sizes[storage._cdata] = storage.nbytes()
    return sizes


def allocated_bytes(call: Callable[[], Any]) -> tuple[int, Any]:
    """Return the bytes that a call allocates in all, freed ones included, and its value.

    Examples
    --------
    >>> import torch
    >>> allocated_bytes(lambda: (torch.ones(4) + 1).sum().item())
    (36, 8.0)
    """
    with _AllocationCounter() as counter:
        value = call()
    return counter.bytes, value
