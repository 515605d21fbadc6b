"""Three ways to the same tile J(x_i) J(x_j)ᵀ of an empirical kernel, with what each costs.

For P parameters, k outputs, a forward pass of F multiplications and a pair of points
(Novak et al. 2022, arXiv:2206.08720, table 1): contraction of Jacobians takes kP (traced) or
k²P; products with vectors, a Jacobian row pushed through the network at another point, 2kF;
layers that are affine in their parameters, (d + km) or (d + k²m) summed over their inputs d
and outputs m. Memory is measured, not modelled: a dispatch mode adds up every tensor that a
call on one row allocates, an upper bound on what a row needs.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import jacrev, jvp, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gflow.kernels.affine_layers import Factors, Layer, layer_factors
from gflow.kernels.functional import Network

MEMORY = 2**32  # bytes
SHARE = 0.75  # of the bytes allowed; the rest is for what matrix products copy and the allocator

Parameters = Mapping[str, Tensor]


class _Tally(TorchDispatchMode):
    """Bytes of all tensors made; those that share the memory of an operand are not new."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        old = _storages((args, kwargs))
        new = _storages(out)
        self.bytes += sum(new[key] for key in new.keys() - old.keys())
        return out


def _storages(values: Any) -> dict[int, int]:
    """Bytes of each storage that tensors are in."""
    found = {}
    for value in tree_leaves(values):
        if isinstance(value, Tensor) and not value._is_zerotensor():
            storage = value.untyped_storage()
            found[storage._cdata] = storage.nbytes()
    return found


def allocated(call: Callable[[], Any]) -> tuple[int, Any]:
    """The bytes that a call allocates in all, freed ones included, and its value."""
    with _Tally() as tally:
        value = call()
    return tally.bytes, value


class Contraction(abc.ABC):
    """How tiles are made of what is prepared for their rows and their columns.

    Parameters
    ----------
    network : callable
        (parameters, x) ↦ outputs (n, k).
    parameters : mapping of str to Tensor
    full : bool
        Tiles (n1, k, n2, k) instead of (n1, n2), the sum over outputs.
    """

    name: ClassVar[str]
    #: Whether rows and columns are prepared alike, so that one serves as the other.
    symmetric: ClassVar[bool] = True

    def __init__(self, network: Network, parameters: Parameters, full: bool):
        self.network, self.parameters, self.full = network, parameters, full

    @abc.abstractmethod
    def columns(self, x: Tensor) -> Any:
        """What the columns of a tile need of their points."""

    def rows(self, x: Tensor) -> Any:
        """What the rows of a tile need of their points."""
        return self.columns(x)

    @abc.abstractmethod
    def tile(self, rows: Any, columns: Any) -> Tensor:
        """Σ_o J_o J_oᵀ, (n1, n2), or with ``full`` J Jᵀ, (n1, k, n2, k)."""

    @abc.abstractmethod
    def work(self, k: int, size: int, forward: int) -> int:
        """Multiplications for a pair of points: of k outputs, size parameters and a forward
        pass of so many multiplications."""


def _gram(first: Tensor, second: Tensor, full: bool) -> Tensor:
    """⟨·, ·⟩ of (n1, k, p) and (n2, k, p), over (k, p) or p."""
    if not full:
        return first.flatten(1) @ second.flatten(1).mT
    n1, k, n2 = len(first), first.shape[1], len(second)
    return (first.flatten(0, 1) @ second.flatten(0, 1).mT).reshape(n1, k, n2, k)


def jacobian(network: Network, parameters: Parameters, x: Tensor) -> dict[str, Tensor]:
    """∂u/∂θ at every point: for each parameter (n, k, *its shape)."""

    def at(point: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = jacrev(lambda p: network(p, point[None])[0])(parameters)
        return found

    try:
        found: dict[str, Tensor] = vmap(at)(x)
    except RuntimeError:
        # A recurrent layer, or one that looks at values: point after point.
        rows = [_slopes(network, parameters, x[i : i + 1]) for i in range(len(x))]
        found = {name: torch.stack([row[name] for row in rows]) for name in parameters}
    return found


def _slopes(network: Network, parameters: Parameters, x: Tensor) -> dict[str, Tensor]:
    """∂u/∂θ at one point, (k, *shape) for each parameter."""
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    ends = list(leaves.values())
    with torch.enable_grad():
        outputs = network(leaves, x)[0].unbind()
        slopes = [
            torch.autograd.grad(u, ends, retain_graph=True, materialize_grads=True) for u in outputs
        ]
    columns = zip(*slopes, strict=True)
    return {name: torch.stack(each) for name, each in zip(leaves, columns, strict=True)}


class JacobianWay(Contraction):
    """Contraction of the Jacobians."""

    name = "jacobian"

    def columns(self, x: Tensor) -> list[Tensor]:
        found = jacobian(self.network, self.parameters, x)
        return [found.pop(name).flatten(2).contiguous() for name in list(found)]

    def tile(self, rows: list[Tensor], columns: list[Tensor]) -> Tensor:
        total = _gram(rows[0], columns[0], self.full)
        for first, second in zip(rows[1:], columns[1:], strict=True):
            total += _gram(first, second, self.full)
        return total

    def work(self, k: int, size: int, forward: int) -> int:
        return size * k ** (2 if self.full else 1)


class ProductWay(Contraction):
    """Rows of the Jacobian at the columns' points, pushed through the network at the rows'."""

    name = "products"
    symmetric = False

    def rows(self, x: Tensor) -> Tensor:
        return x

    def columns(self, x: Tensor) -> dict[str, Tensor]:
        return jacobian(self.network, self.parameters, x)

    def tile(self, rows: Tensor, columns: dict[str, Tensor]) -> Tensor:
        n2, k = next(iter(columns.values())).shape[:2]
        tangents = {name: J.flatten(0, 1) for name, J in columns.items()}
        pushed = push(self.network, self.parameters, rows, tangents)
        pushed = pushed.reshape(n2, k, len(rows), k)
        if self.full:
            return pushed.permute(2, 3, 0, 1)
        return pushed.diagonal(dim1=1, dim2=3).sum(-1).mT

    def work(self, k: int, size: int, forward: int) -> int:
        return 4 * k * max(forward, size)  # twice 2kF: small batched products are slower


def push(network: Network, parameters: Parameters, x: Tensor, tangents: Parameters) -> Tensor:
    """J(x)·v for every tangent v, stacked in front: (c, n, k)."""

    def along(tangent: Parameters) -> Tensor:
        moved: Tensor = jvp(lambda p: network(p, x), (parameters,), (tangent,))[1]
        return moved

    pushed: Tensor = vmap(along)(tangents)
    return pushed


class LayerWay(Contraction):
    """Inner products of every layer's inputs and slopes."""

    name = "structured"

    def columns(self, x: Tensor) -> dict[Layer, list[Factors]]:
        return layer_factors(self.network, self.parameters, x) or {}

    def tile(self, rows: dict[Layer, list[Factors]], columns: dict[Layer, list[Factors]]) -> Tensor:
        parts = [
            self._part(first, second)
            for layer, uses in rows.items()
            for first in uses
            for second in columns[layer]
        ]
        return functools.reduce(Tensor.add_, parts)

    def _part(self, first: Factors, second: Factors) -> Tensor:
        inner = first.inputs @ second.inputs.mT
        return _gram(first.slopes, second.slopes, self.full).mul_(
            inner[:, None, :, None] if self.full else inner
        )

    def work(self, k: int, size: int, forward: int) -> int:
        return 0  # d + km for a layer of dm parameters: always the least
