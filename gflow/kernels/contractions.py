"""Three algorithms for a block J(x_i)J(x_j)ᵀ of an empirical NTK, and their costs.

For P parameters, k outputs, a forward pass of F multiplications and a pair of points
(Novak et al. 2022, arXiv:2206.08720, table 1): contraction of Jacobians takes kP (traced) or
k²P; products with vectors, a Jacobian row pushed through the network at another point, 2kF;
layers that are affine in their parameters, (d + km) or (d + k²m) summed over their inputs d
and outputs m.
"""

from __future__ import annotations

import abc
import functools
from typing import Any, ClassVar

from torch import Tensor

from gflow.kernels.affine_layers import Factors, Layer, layer_factors
from gflow.kernels.functional import Network, Parameters, jacobian, pushforward

MEMORY = 2**32  # bytes
USABLE = 0.75  # of the bytes allowed; the rest is for what matrix products copy and the allocator


class Contraction(abc.ABC):
    """An algorithm for tiles of a kernel, from what is prepared for rows and for columns.

    Parameters
    ----------
    network : callable
        (parameters, x) ↦ outputs (n, k).
    parameters : mapping of str to Tensor
        θ.
    full : bool
        Tiles (n1, k, n2, k) instead of (n1, n2), the sum over outputs.
    """

    name: ClassVar[str]
    #: Whether rows and columns are prepared alike, so that one serves as the other.
    symmetric: ClassVar[bool] = True

    def __init__(self, network: Network, parameters: Parameters, full: bool):
        self.network, self.parameters, self.full = network, parameters, full

    @abc.abstractmethod
    def prepare_columns(self, x: Tensor) -> Any:
        """Return what the columns of a tile need of their points."""

    def prepare_rows(self, x: Tensor) -> Any:
        """Return what the rows of a tile need of their points."""
        return self.prepare_columns(x)

    @abc.abstractmethod
    def tile(self, rows: Any, columns: Any) -> Tensor:
        """Return Σ_o J_o J_oᵀ, (n1, n2), or with ``full`` J Jᵀ, (n1, k, n2, k)."""

    @abc.abstractmethod
    def work(self, k: int, size: int, forward: int) -> int:
        """Return the multiplications for a pair of points.

        Parameters
        ----------
        k : int
            Outputs.
        size : int
            Parameters.
        forward : int
            Multiplications of a forward pass.
        """


def _gram(first: Tensor, second: Tensor, full: bool) -> Tensor:
    """⟨·, ·⟩ of (n1, k, p) and (n2, k, p), over (k, p) or p."""
    if not full:
        return first.flatten(1) @ second.flatten(1).mT
    n1, k, n2 = len(first), first.shape[1], len(second)
    return (first.flatten(0, 1) @ second.flatten(0, 1).mT).reshape(n1, k, n2, k)


def _as_rows(slopes: Tensor) -> Tensor:
    """Slopes (n, k, *shape of the parameter) as (n, k, p)."""
    return slopes.reshape(*slopes.shape[:2], -1).contiguous()


class JacobianContraction(Contraction):
    """Contraction of the Jacobians."""

    name = "jacobian"

    def prepare_columns(self, x: Tensor) -> list[Tensor]:
        slopes = jacobian(self.network, self.parameters, x)
        return [_as_rows(slopes.pop(name)) for name in list(slopes)]

    def tile(self, rows: list[Tensor], columns: list[Tensor]) -> Tensor:
        total = _gram(rows[0], columns[0], self.full)
        for first, second in zip(rows[1:], columns[1:], strict=True):
            total += _gram(first, second, self.full)
        return total

    def work(self, k: int, size: int, forward: int) -> int:
        return size * k ** (2 if self.full else 1)


class ProductContraction(Contraction):
    """Rows of the Jacobian at the columns' points, pushed through the network at the rows'."""

    name = "products"
    symmetric = False

    def prepare_rows(self, x: Tensor) -> Tensor:
        return x

    def prepare_columns(self, x: Tensor) -> dict[str, Tensor]:
        return jacobian(self.network, self.parameters, x)

    def tile(self, rows: Tensor, columns: dict[str, Tensor]) -> Tensor:
        n2, k = next(iter(columns.values())).shape[:2]
        tangents = {name: J.flatten(0, 1) for name, J in columns.items()}
        pushed = pushforward(self.network, self.parameters, rows, tangents)
        pushed = pushed.reshape(n2, k, len(rows), k)
        if self.full:
            return pushed.permute(2, 3, 0, 1)
        return pushed.diagonal(dim1=1, dim2=3).sum(-1).mT

    def work(self, k: int, size: int, forward: int) -> int:
        return 4 * k * max(forward, size)  # twice 2kF: small batched products are slower


class LayerContraction(Contraction):
    """Inner products of every layer's inputs and slopes."""

    name = "structured"

    def prepare_columns(self, x: Tensor) -> dict[Layer, list[Factors]]:
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
